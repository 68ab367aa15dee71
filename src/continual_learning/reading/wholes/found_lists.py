"""Where the lists of a text are: bullets, columns, labels, numbered headings, enumerations in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from continual_learning.reading.wholes.blocks import Blocks, Section, Unit
from continual_learning.reading.wholes.enumerations import enumerations, labelled, listed
from continual_learning.reading.wholes.tables import tables_of

_LONG_ENTRY = 9
# A heading that is a version: "[3.4.0] - 2026-02-11", "v2.1", "Release 7.0 (May)"; not "1.2 Purpose".
_VERSION = re.compile(
    r"^(?:(?:version|release)\s+|v)?\[?v?(?P<number>\d+\.\d+(?:\.\d+)*[\w-]*)\]?(?=$|\s*[-–—(:,]|\s+\d{4})",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class FoundList:
    """A list in a text."""

    entries: tuple[str, ...]
    name: str
    """What names it: a heading, a label, the sentence that introduces it, the head of a column."""
    context: str
    """The rest of the sentence that it is in; "" for a list of its own."""
    unit: Unit
    """Where it begins."""
    marked: bool
    """Whether its form shows that it is a list: bullets, a table, a label or a heading; not a sentence."""
    members: tuple[str, ...] = ()
    """Of bullets and numbered headings, all that each entry says."""

    @property
    def are_two_names(self) -> bool:
        """Whether it is "Mr Osei and Ms Yilmaz" in a sentence."""
        return not self.marked and len(self.entries) == 2 and all(entry[0].isupper() for entry in self.entries)


def lists_of(blocks: Blocks) -> list[FoundList]:
    """All lists of a text, those with a form of their own before those in sentences."""
    return [*_numbered_headings(blocks), *_bulleted(blocks), *_columns(blocks), *_labelled(blocks), *_in_text(blocks)]


def _numbered_headings(blocks: Blocks) -> Iterator[FoundList]:
    labels: dict[str, list[int]] = {}
    for number, section in enumerate(blocks.sections):
        if label := _series_of(section):
            labels.setdefault(label, []).append(number)
    for label, own in labels.items():
        members = [_under(blocks, number, own) for number in own]
        units = [unit for one in members for unit in one]
        if len(own) > 1 and units:
            entries = [_heading_of(blocks.sections[number], units) for number, units in zip(own, members, strict=True)]
            texts = tuple(
                " ".join([blocks.sections[number].heading, *(f"{blocks.heading(unit)} {unit.text}" for unit in one)])
                for number, one in zip(own, members, strict=True)
            )
            name = "items points steps topics clauses" if label == "item" else f"{label}s"
            yield FoundList(tuple(entries), name, "", units[0], True, texts)


def _series_of(section: Section) -> str:
    return section.label or ("version" if _VERSION.match(section.heading) else "")


def _under(blocks: Blocks, number: int, series: list[int]) -> list[Unit]:
    """The units under a heading of a series, to the next one or to one of a lesser depth."""
    level = blocks.sections[number].level
    end = number + 1
    while end < len(blocks.sections) and end not in series and not 0 < blocks.sections[end].level <= level:
        end += 1
    return [unit for unit in blocks.units if number <= unit.section < end]


def _heading_of(section: Section, units: list[Unit]) -> str:
    if not section.label and (version := _VERSION.match(section.heading)):
        return version["number"]
    return section.heading or next((unit.text for unit in units), "")


def _bulleted(blocks: Blocks) -> Iterator[FoundList]:
    groups: dict[tuple[int, int], list[Unit]] = {}
    last: tuple[int, int] | None = None
    for place, unit in enumerate(blocks.units):
        if unit.kind == "item":
            before = blocks.units[place - 1] if place else None
            # A definition under a term stands between two entries.
            defined = before is not None and before.kind == "sentence" and place > 1
            term = blocks.units[place - 2] if defined else unit
            if defined and last and unit.section == last[0] and term.kind == "item" and _are_terms(unit, term):
                groups[last].append(unit)
                continue
            key = (unit.section, unit.group)
            groups.setdefault(key, []).append(unit)
            last = key
    for units in groups.values():
        entries = tuple(_entry(unit.text) for unit in units)
        if len(entries) > 1:
            intro = blocks.intro(units[0])
            steps = "steps" if all(unit.ordered for unit in units) else ""
            name = " ".join([blocks.headings(units[0]), intro if intro.endswith(":") else "", steps])
            texts = tuple(unit.text for unit in units)
            yield FoundList(entries, name, "" if intro.endswith(":") else intro, units[0], True, texts)


def _are_terms(*units: Unit) -> bool:
    return all(unit.text.startswith("`") and unit.text.endswith("`") for unit in units)


def _entry(text: str) -> str:
    """What an entry is: its label if more is said about it."""
    if len(text.split()) > _LONG_ENTRY:
        if (found := labelled(text)) and len(found[0].split()) <= _LONG_ENTRY:
            return found[0]
        head = re.split(r"\s[–—-]\s|(?<=\w\w)[.;](?:\s|$)", text, maxsplit=1)[0]
        return head
    return text.rstrip(".;,").strip("`")


def _columns(blocks: Blocks) -> Iterator[FoundList]:
    for table in tables_of(blocks):
        for number, name in enumerate(table.head):
            entries = table.column(number)
            if len(entries) > 1:
                yield FoundList(entries, f"{name} {table.heading if not number else ''}", "", table.rows[0], True)


def _labelled(blocks: Blocks) -> Iterator[FoundList]:
    for unit in blocks.units:
        if unit.kind == "row" and len(unit.cells) == 2 and (entries := listed(unit.cells[1])):
            yield FoundList(tuple(entries), unit.cells[0], "", unit, True)
        elif unit.kind in ("item", "sentence"):
            found = labelled(unit.text)
            if found and (entries := _rest(found[1])):
                yield FoundList(tuple(entries), found[0], blocks.heading(unit), unit, True)
    for number, section in enumerate(blocks.sections):
        own = [unit for unit in blocks.units if unit.section == number]
        if section.heading and own and own[0].kind == "sentence" and (entries := listed(own[0].text)):
            yield FoundList(tuple(entries), section.heading, "", own[0], True)


def _rest(text: str) -> list[str]:
    """The entries after a label: all that follows, or what follows "by", "one of" and the like."""
    if entries := listed(text):
        inner = enumerations(text)
        return inner[0] if inner and len(inner[0]) == len(entries) else entries
    return []


def _in_text(blocks: Blocks) -> Iterator[FoundList]:
    for unit in blocks.units:
        if unit.kind in ("item", "sentence"):
            for entries in enumerations(unit.text):
                yield FoundList(tuple(entries), blocks.heading(unit), unit.text, unit, False)
