"""Tables on the pages of a PDF file, told by where their cells stand. What is not clearly a table stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from continual_learning.documents.document import clean_text, one_line
from continual_learning.documents.tables import is_value, is_year, table_text

_CELL = re.compile(r"\S+(?: {1,2}\S+)*")  # three spaces are a clear gap
_LEADERS = re.compile(r"\.\s?\.\s?\.|…\s?…|_{3}|·\s?·\s?·")
_DIGIT = re.compile(r"\d")
_NOTHING = {"", "-", "–", "—", "n/a", "?", "..."}  # stands for an empty cell

_LEAST_ROWS = 3  # the names included
_MOST_COLUMNS = 40
_LONGEST_CELL = 60
_LONGEST_VALUE = 20
_LONGEST_NAME = 30
_MOST_WORDS_OF_NAME = 4
_MOST_WORDS = 5  # of the cells of a column on average: columns of prose have more
_NUMBERED_LINE = 150
_TOLERANCE = 3  # characters by which cells may be out of line, as their letters are not all of one width
_WIDEST_GAP = 3  # empty lines between rows

# pypdf gives each letter one place, and each gap as many as it has spaces. In a proportional font the columns stand in
# one line only if letters count as what they are wide: a share of the mean, times as many spaces as the font's mean.
_WIDTHS = {**dict.fromkeys("iljI.,:;'|!", 0.5), **dict.fromkeys("ftr()[]-/ ", 0.65), **dict.fromkeys("mwMW%@", 1.6)}
_CAPITAL = 1.3
_DIGIT_WIDTH = 1.1
_SCALES = (0.0, 1.8, 2.0, 1.6, 2.2)
"""Spaces in a letter; 0: each letter is as wide as a space, as in a monospaced font or where pypdf placed it."""

# pypdf lays out a page in time that is quadratic in the pieces of a line, with up to 10,000 spaces before each.
_MOST_PIECES = 1500
_FAR = re.compile(rb"[\s\[\])>]-?\d{7}")
_MOST_SPREAD = 500_000


@dataclass(frozen=True)
class _Cell:
    start: float
    end: float
    text: str


@dataclass(frozen=True)
class _Line:
    gap: int
    """Empty lines before it."""
    cells: tuple[_Cell, ...]


def may_have_table(text: str) -> bool:
    """Whether it is worth while to lay out a page with this text: a table is only told by its numbers."""
    lines = text.split("\n")
    return sum(len(line) <= _NUMBERED_LINE and _DIGIT.search(line) is not None for line in lines) >= _LEAST_ROWS - 1


def may_lay_out(content: bytes) -> bool:
    """Whether laying out a page with this content stream takes a reasonable time."""
    return content.count(b"(") + content.count(b"<") <= _MOST_PIECES and not _FAR.search(content)


def is_spread(layout: str) -> bool:
    """Whether a page is laid out over an area that no paper has: it is made to take time."""
    return len(layout) > _MOST_SPREAD


def with_tables(text: str, layout: str) -> str:
    """The text of a page, with the rows of its tables as `table_text` says them.

    ``layout`` is the same text with each word in its place, by spaces and empty lines. A table is only taken if the
    text has the same rows in the same order.
    """
    where = [at for at, character in enumerate(text) if not character.isspace()]
    packed = "".join([text[at] for at in where])
    parts: list[str] = []
    done = 0
    for rows in _tables(_lines(layout)):
        key = "".join("".join(cell.split()) for row in rows for cell in row)
        at = packed.find(key)
        if at < 0 or packed.find(key, at + 1) >= 0:
            continue
        start, end = where[at], where[at + len(key) - 1] + 1
        before, after = text[:start].rstrip(" "), text[end:].lstrip(" ")
        if start < done or (before and before[-1] != "\n") or (after and after[0] != "\n"):
            continue
        parts += [text[done:start].strip(), *table_text(rows, headers=1)]
        done = end
    return "\n\n".join(filter(None, [*parts, text[done:].strip()])) if done else text


def _lines(layout: str) -> list[_Line]:
    found, gap = [], 0
    for line in layout.split("\n"):
        cells = tuple(_Cell(match.start(), match.end(), match[0]) for match in _CELL.finditer(line))
        if cells:
            found.append(_Line(gap, cells))
            gap = 0
        else:
            gap += 1
    return found


def _tables(lines: Sequence[_Line]) -> Iterator[list[list[str]]]:
    start = 0
    while start < len(lines):
        end = start + 1
        while end < len(lines) and len(lines[start].cells) > 1 and _goes_on(lines[start + 1].gap, lines[end]):
            end += 1
        rows = _rows(lines[start:end]) if end - start >= _LEAST_ROWS else None
        row_gap = max((line.gap for line in lines[start + 1 : end]), default=0)
        if rows and not _is_cut(lines[start:end], lines[start - 1 : start], lines[end : end + 1], row_gap):
            yield rows
        start = end


def _goes_on(gap: int, line: _Line) -> bool:
    """Whether a line may be the next row of a table with this gap between its first two rows."""
    return len(line.cells) > 1 and line.gap <= _WIDEST_GAP and abs(line.gap - gap) <= 1


def _rows(run: Sequence[_Line]) -> list[list[str]] | None:
    """The cells of a table, "" for empty ones, the names of the columns first; None if it is no clear one."""
    width = len(run[0].cells)
    if width > _MOST_COLUMNS:
        return None
    if sum(len(line.cells) == width for line in run) < _LEAST_ROWS or max(len(line.cells) for line in run) > width:
        return None
    return next(filter(None, (_rows_placed([_placed(line.cells, scale) for line in run]) for scale in _SCALES)), None)


def _placed(cells: Sequence[_Cell], scale: float) -> list[_Cell]:
    """Cells where they stand if a letter is as wide as ``scale`` spaces."""
    if not scale:
        return list(cells)
    found, place, last = [], 0.0, 0.0
    for cell in cells:
        start = place + cell.start - last
        place = start + sum(map(_width, cell.text)) * scale
        found.append(_Cell(start, place, cell.text))
        last = cell.end
    return found


def _width(character: str) -> float:
    if character.isupper():
        return _WIDTHS.get(character, _CAPITAL)
    return _DIGIT_WIDTH if character.isdigit() else _WIDTHS.get(character, 1.0)


def _rows_placed(run: Sequence[Sequence[_Cell]]) -> list[list[str]] | None:
    width = len(run[0])
    full = [cells for cells in run if len(cells) == width]
    columns = list(zip(*full, strict=True))
    spans = [(min(cell.start for cell in column), max(cell.end for cell in column)) for column in columns]
    if any(left[1] >= right[0] for left, right in pairwise(spans)):
        return None
    if not all(map(_in_line, columns)):
        return None
    rows = []
    for cells in run:
        row = [""] * width
        for cell in cells:
            over = [x for x, (start, end) in enumerate(spans) if cell.start < end and start < cell.end]
            if len(over) != 1 or row[over[0]]:
                return None
            row[over[0]] = one_line(clean_text(cell.text))
        rows.append(row)
    return rows if all(row[0] for row in rows) and _is_table(rows) else None


def _in_line(column: Sequence[_Cell]) -> bool:
    """Whether the cells of a column have their left ends, their right ends or their middles in one line."""

    def even(places: list[float]) -> bool:
        return max(places) - min(places) <= _TOLERANCE

    return (
        even([cell.start for cell in column])
        or even([cell.end for cell in column])
        or even([(cell.start + cell.end) / 2 for cell in column])
    )


def _is_table(rows: Sequence[Sequence[str]]) -> bool:
    names, body = rows[0], rows[1:]
    if any(len(cell) > _LONGEST_CELL or _LEADERS.search(cell) for row in rows for cell in row):
        return False
    if not all(map(_is_name, names)) or len({name.casefold() for name in names}) < len(names):
        return False
    columns = [[row[x] for row in body if row[x].casefold() not in _NOTHING] for x in range(len(names))]
    if any(sum(len(cell.split()) for cell in column) > _MOST_WORDS * len(column) for column in columns):
        return False
    # Names above words alone cannot be told from one more row: numbers below a word say what it is, or below several
    # years. Two columns may be an address beside a date, or a list of names and values.
    has_value = is_value if len(names) == 2 else _has_digit
    named = list(zip(names, columns, strict=True))
    if any(
        len(column) >= _LEAST_ROWS - 1 and not _DIGIT.search(name) and all(map(has_value, column))
        for name, column in named[len(names) == 2 :]
    ):
        return True
    years = [column for name, column in named if is_year(name)]
    return len(years) > 1 and all(column and all(map(_is_number_below_year, column)) for column in years)


def _is_number_below_year(cell: str) -> bool:
    return _has_digit(cell) and not is_year(cell)


def _is_name(text: str) -> bool:
    short = len(text) <= _LONGEST_NAME and len(text.split()) <= _MOST_WORDS_OF_NAME
    is_word = any(map(str.isalpha, text)) and not is_value(text) and text.casefold() not in _NOTHING
    return short and (is_word or is_year(text)) and text[-1] not in ",;!?"


def _has_digit(cell: str) -> bool:
    return len(cell) <= _LONGEST_VALUE and _DIGIT.search(cell) is not None


def _is_cut(run: Sequence[_Line], before: Sequence[_Line], after: Sequence[_Line], gap: int) -> bool:
    """Whether a line close to a table may be the rest of a cell of several lines, or a row of it."""
    left = min(line.cells[0].start for line in run)
    right = max(line.cells[-1].end for line in run)
    edge = min(line.cells[1].start for line in run)
    for line, near in [(line, run[0].gap <= gap) for line in before] + [(line, line.gap <= gap) for line in after]:
        first = line.cells[0]
        if not near:
            continue
        if len(line.cells) > 1 or left + _TOLERANCE < first.start < right:
            return True
        is_sentence = first.text[0].isupper() and first.text[-1] in ".:!?"
        if line in after and first.start >= left - 1 and first.end < edge and not is_sentence:
            return True
    return False
