"""Tables as text: a paragraph a row, each cell with the name of its column, so that a cell can be asked for."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

from continual_learning.documents.document import Parsed, one_line
from continual_learning.documents.plain import decode
from continual_learning.errors import DocumentError

Row = Sequence[str | None]
"""The cells of a row; None continues the cell to its left, which is merged over several columns."""

# A number with its currency or unit, a date, a time, an address: what a column holds, and is seldom called.
_VALUE = re.compile(r"[~<>≈±+-]?\s?[$€£¥]?\s?\d[\d.,'’ /:+-]*\s?(?:%|[^\W\d_]{1,3}\d?|[$€£¥])?\.?|\S+@\S+|\w+://\S+")
_YEAR = re.compile(r"1[5-9]\d\d|20\d\d")
_LONGEST_NAME = 60  # characters of what is taken for the name of a column
_LONGEST_REPEATED = 200
_MOST_NAMES = 50_000_000  # characters that names may add to a table
_DELIMITERS = ",;\t|"
_EXCEL_DELIMITER = re.compile(r'"?sep=(.)"?\n', re.IGNORECASE)


def table_text(rows: Sequence[Row], headers: int | None = None, named: bool = False) -> list[str]:
    """The rows of a table as sentences, a paragraph each: ``Name: Priya; Phone: 12.`` Empty cells are left out.

    ``headers`` is the number of rows that name the columns, None if the file does not say. Then the first row is
    taken for names if it looks like it; ``named``: it is expected to, as in CSV. Rows of two columns without names
    become ``Name: Priya.``, longer ones ``a | b | c.``
    """
    grid = [[one_line(cell) if cell is not None else None for cell in row] for row in rows]
    found: list[str] = []
    if headers is None:
        grid = [row for row in grid if any(row)]
        if max(map(len, grid), default=0) > 1:  # captions above the names
            captions = next((i for i, row in enumerate(grid) if _filled(row) > 1), 0)
            found += [cell for row in grid[:captions] for cell in row if cell]
            grid = grid[captions:]
        headers = int(_has_names(grid, named))
    names = _names(grid[:headers])
    body = [row for row in grid[headers:] if any(row)]
    if max(map(len, names), default=0) > _LONGEST_REPEATED or sum(map(len, names)) * len(body) > _MOST_NAMES:
        names, body = [], [row for row in grid if any(row)]
    if not body or (named and len(grid) == 1):
        return found + [" | ".join(filter(None, row)) for row in grid if any(row)]
    width = max(map(len, body))
    lines = [_row_text(row, names, width) for row in body]
    return found + (lines if width < 2 else [sentence(line) for line in lines])


def sentence(text: str) -> str:
    """``text`` with a full stop. Passages join paragraphs by spaces: without one, two rows would run into another."""
    return text if text.endswith((".", "!", "?", "…", "。", "！", "？")) else f"{text}."


def _row_text(row: Row, names: Sequence[str], width: int) -> str:
    cells = [(x, cell) for x, cell in enumerate(row) if cell]
    if len(cells) == 1 and width > 1 and (len(row) == 1 or None in row):  # one cell over all columns
        return cells[0][1]
    if names:
        named = [(names[x] if x < len(names) else "", cell) for x, cell in cells]
        return "; ".join(f"{name.rstrip(' :')}: {cell}" if name.rstrip(" :") else cell for name, cell in named)
    if width == 2 and len(cells) == 2:
        return f"{cells[0][1].rstrip(' :')}: {cells[1][1]}"
    return " | ".join(cell for _, cell in cells)


def _names(rows: Sequence[Row]) -> list[str]:
    """The names of the columns: of several rows one above the other, each different word once."""
    columns: list[list[str]] = [[] for _ in range(max(map(len, rows), default=0))]
    for row in rows:
        last = ""
        for x, cell in enumerate(row):
            last = last if cell is None else cell
            if last and last not in columns[x]:
                columns[x].append(last)
    return [" ".join(column) for column in columns]


def _has_names(grid: Sequence[Row], expected: bool) -> bool:
    """Whether the first row names the columns."""
    if len(grid) < 2 or max(map(len, grid)) < 2:
        return False
    first = _names(grid[:1])
    if any(len(name) > _LONGEST_NAME or (is_value(name) and not is_year(name)) for name in first):
        return False
    if expected:
        return True
    if not all(first[1:]) or len({name.casefold() for name in first}) < len(first) or len(first) < 2:
        return False
    if max(map(len, grid)) > 2:
        return True
    # Two columns may as well be a list of names and values. Values alone below the first cell say that they are not.
    below = [row[1] for row in grid[1:] if len(row) > 1 and row[1]]
    return bool(below) and all(is_value(cell) for cell in below)


def is_value(cell: str) -> bool:
    """Whether a cell holds a number, a date or an address, which name no column."""
    return len(cell) <= _LONGEST_NAME and bool(_VALUE.fullmatch(cell))


def is_year(cell: str) -> bool:
    """Whether a cell may be a year, which names a column more often than other numbers."""
    return bool(_YEAR.fullmatch(cell))


def _filled(row: Row) -> int:
    return sum(1 for cell in row if cell)


# -- CSV -------------------------------------------------------------------------------------------


def parse_csv(data: bytes, delimiter: str | None = None) -> Parsed:
    """A CSV file, whose delimiter is found out unless given. Raises DocumentError."""
    rows = [cells for _, cells in csv_rows(decode(data), delimiter)]
    return Parsed("\n\n".join(table_text(rows, named=True)))


def csv_rows(text: str, delimiter: str | None = None, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its last line; empty lines are none.

    The delimiter is the one of ``, ; tab |`` that gives most rows the same width, or what ``sep=;`` says, which
    Excel writes above a table. Quotation marks that do not match are text, unless ``strict``: then they raise
    DocumentError.
    """
    skipped = 0
    if said := _EXCEL_DELIMITER.match(text):
        text, skipped, delimiter = text[said.end() :], 1, delimiter or said[1]
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # else one long cell costs the file
    delimiter = delimiter or _delimiter(text)
    quoted = strict or _is_quoted(text, delimiter)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict, quoting=quoting)
    try:
        for row in filter(None, reader):
            yield reader.line_num + skipped, row
    except csv.Error as error:
        raise DocumentError(f"line {reader.line_num + skipped}: not CSV ({error})") from None


def _is_quoted(text: str, delimiter: str) -> bool:
    """Whether all quotation marks match."""
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
            pass
    except csv.Error:
        return False
    return True


def _delimiter(text: str) -> str:
    def evenness(delimiter: str) -> tuple[float, int]:
        reader = csv.reader(io.StringIO(text[:50_000], newline=""), delimiter=delimiter)
        try:
            widths = Counter(len(row) for row in islice(filter(None, reader), 50))
        except csv.Error:
            return 0.0, 0
        several = [(count / widths.total(), width) for width, count in widths.items() if width > 1]
        return max(several, default=(0.0, 0))

    return max(_DELIMITERS, key=evenness)
