"""Answers from tables: the cell in the row and the column that a question names, or the rows that hold a value."""

from __future__ import annotations

import re
from dataclasses import dataclass

from continual_learning.reading.wholes.blocks import Blocks, Unit
from continual_learning.reading.wholes.names import held, is_in, terms, weight
from continual_learning.text.words import content_stems

_ENOUGH = 0.6
"""Share of a question's content, by rarity, that row, column and headings must have."""
_LEAST_VALUE = 2.0
"""Nats: what a value must say to choose rows by it."""
_EMPTY = frozenset({"", "-", "–", "—", "n/a", "none"})
# Columns that question words name.
_ASKED_BY = (
    (r"who|whom|whose", r"who|names?|persons?|owners?|responsible|contact|teachers?|instructors?|trainers?|speakers?"),
    (r"when|what time|by when", r"when|by|date|day|time|due|deadline|until|start"),
    (r"where|which room", r"where|place|room|location|venue"),
    (r"how much|what does .* cost", r"prices?|costs?|fees?|amount|total"),
    (r"what", r"what|tasks?|actions?|to do"),
)


@dataclass(frozen=True)
class Table:
    """A table with names over its columns."""

    head: tuple[str, ...]
    rows: tuple[Unit, ...]
    heading: str

    def column(self, number: int) -> tuple[str, ...]:
        """The entries of a column that are not empty."""
        return tuple(row.cells[number] for row in self.rows if _cell(row, number))


def tables_of(blocks: Blocks) -> list[Table]:
    """All tables whose first row names the columns: by a rule under it, or because it has words alone."""
    groups: dict[int, list[Unit]] = {}
    for unit in blocks.units:
        if unit.kind == "row":
            groups.setdefault(unit.group, []).append(unit)
    return [
        Table(rows[0].cells, tuple(rows[1:]), blocks.headings(rows[0]))
        for rows in groups.values()
        if len(rows) > 1 and (rows[0].head or (len(rows) > 2 and len(rows[0].cells) > 2 and _has_words_only(rows[0])))
    ]


def looked_up(blocks: Blocks, question: str) -> tuple[str, ...]:
    """The cell whose row and column a question names, or the entries of the rows that hold a value it names."""
    asked = terms(question)
    around = content_stems(blocks.title)
    best: tuple[float, tuple[str, ...]] | None = None
    for table in tables_of(blocks):
        known = {term for term in asked if is_in(term, around | content_stems(table.heading))}
        for entries, used in (*_cells(table, question, asked), *_rows(table, question, asked)):
            share = weight(known | used) / (weight(asked) or 1.0)
            # Of two that fit alike neither is certain, unless they say the same.
            score = share + 0.01 * len(used)
            if share >= _ENOUGH and (best is None or score > best[0]):
                best = score, entries
            elif best is not None and score == best[0] and entries != best[1]:
                best = score, ()
    return best[1] if best is not None else ()


def _cells(table: Table, question: str, asked: set[str]) -> list[tuple[tuple[str, ...], set[str]]]:
    """Cells whose row has a label that a question holds whole, and whose column it names."""
    found: list[tuple[tuple[str, ...], set[str]]] = []
    for row in table.rows:
        label = content_stems(row.cells[0])
        if not label or not all(is_in(term, content_stems(question)) for term in label):
            continue
        for number in range(1, len(table.head)):
            used = _names_column(table.head[number], question, asked)
            if used is not None and _cell(row, number):
                found.append(((row.cells[number],), used | {term for term in asked if is_in(term, label)}))
    return found


def _rows(table: Table, question: str, asked: set[str]) -> list[tuple[tuple[str, ...], set[str]]]:
    """For each value that a question names, the entries of the column that it asks for."""
    found = []
    for number in range(1, len(table.head)):
        for value in dict.fromkeys(table.column(number)):
            label = content_stems(value)
            if not label or not label <= asked or weight(label) < _LEAST_VALUE:
                continue
            rows = [row for row in table.rows if _cell(row, number) == value]
            for other in range(len(table.head)):
                used = None if other == number else _names_column(table.head[other], question, asked - label)
                entries = tuple(row.cells[other] for row in rows if _cell(row, other))
                if used is not None and entries:
                    heads = held(asked, question, table.head[number])
                    found.append((entries, label | used | heads))
    return found


def _names_column(head: str, question: str, asked: set[str]) -> set[str] | None:
    """The terms of a question that name a column, which may be none if its question word does; None if none does."""
    head = re.sub(r"\([^()]*\)", " ", head).strip()
    own = content_stems(head)
    used = held(asked, question, head)
    if own and used and sum(is_in(term, asked) for term in own) * 2 >= len(own):
        return used
    for word, heads in _ASKED_BY:
        if re.match(rf"(?:{word})\b", question, re.IGNORECASE) and re.fullmatch(heads, head, re.IGNORECASE):
            return used
    return None


def _cell(row: Unit, number: int) -> str:
    cell = row.cells[number] if number < len(row.cells) else ""
    return "" if cell.strip().lower() in _EMPTY else cell


def _has_words_only(row: Unit) -> bool:
    return not any(re.search(r"\d", cell) for cell in row.cells)
