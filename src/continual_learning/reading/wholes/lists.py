"""Lists in a text, which of them a question asks for, and how many entries it has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from continual_learning.reading.wholes.blocks import Blocks, Unit
from continual_learning.reading.wholes.enumerations import enumerations, labelled, listed
from continual_learning.retrieval.routing import default_rarity, term_hash
from continual_learning.text.words import content_stems, stem

_ENOUGH = 0.6
"""Share of the question's content, by rarity, that must name a list."""
_LONG_ENTRY = 9
# Words of a question for a list that say nothing about which.
_GENERIC = frozenset(
    stem(word)
    for word in """list lists name names named all every each item items entry entries give show tell enumerate
    which what many number count total different various kind kinds type types sort sorts following mentioned listed
    document text page notes note please available included contain contains mention there here one ones thing things
    exist full complete find""".split()
)
_NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty".split()
)
_STATED = (
    r"(?:\d[\d.,]*|" + "|".join([*_NUMBER_WORDS, "dozen", "thirty", "forty", "fifty", "hundred"]) + r"|[a-z]+ty-[a-z]+)"
)
_NAMED = 0.8
"""Score of a list whose name is what is asked for."""
_SHORT_NAME = 4
_NEGATED = re.compile(r"\b(?:not|no|without|except|excluded|don't|never)\b", re.IGNORECASE)
_VERBS = (
    "is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|must|may|might|in|on|of|at|for|to|from|by|with"
    "|that|which|who|go|goes|come|comes|take|takes|need|needs|made|make|makes|use|used|belong|belongs|mentioned|named"
)
_THING = re.compile(
    r"\b(?:which|what(?: are| were)?|list|name|enumerate|give|show|tell)\s+(?:me |us )?"
    r"(?:all |every |each |a list |of |the |its |their |his |her |our |my |your |other |different )*"
    rf"(?P<what>(?:[\w'’-]+\s+){{0,3}}?[\w'’-]+?)(?=\s+(?:{_VERBS})\b|\s*[.?!]*$)",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"\b(?:how many|number of|count (?:the|all)(?: the)?)\s+(?P<what>(?:[\w'’-]+\s+){0,3}?[\w'’-]+?)"
    r"(?=\s+(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|in|on|of|at|for|to|from|the|this|there|"
    r"here|mentioned|listed|given|named|that|which|who)\b|\s*\??$)",
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


def lists_of(blocks: Blocks) -> list[FoundList]:
    """All lists of a text, those with a form of their own before those in sentences."""
    return [*_numbered_headings(blocks), *_bulleted(blocks), *_columns(blocks), *_labelled(blocks), *_in_text(blocks)]


def best_list(blocks: Blocks, question: str, enough: float = _ENOUGH) -> FoundList | None:
    """The list that a question's words name; None if none is named well enough."""
    said = frozenset(content_stems(" ".join([blocks.title, *(unit.text for unit in blocks.units)])))
    said |= content_stems(" ".join(section.heading for section in blocks.sections))
    scored = [(_match(blocks, one, question, said), one) for one in lists_of(blocks)]
    best = max(scored, key=lambda pair: pair[0], default=None)
    return best[1] if best is not None and best[0] >= enough else None


def counted(question: str) -> str:
    """What is to be counted, as the question names it; "" if that is not clear."""
    match = _COUNTED.search(question)
    return match["what"] if match else ""


def count_of(blocks: Blocks, question: str) -> tuple[int, FoundList] | None:
    """The number of entries of the list whose name is what is counted; None if there is no such list."""
    what = counted(question)
    asked = _terms(what)
    if not asked:
        return None
    rest = _terms(question.replace(what, " ")) - asked
    for one in lists_of(blocks):
        named = content_stems(one.name)
        if (
            one.marked
            and asked <= named
            and len(named - asked) <= 2
            and rest <= content_stems(f"{blocks.title} {one.name}")
        ):
            return len(one.entries), one
    return None


def says_number(text: str, question: str) -> bool:
    """Whether a text states a number of what is to be counted: "14 municipalities"."""
    head = counted(question).split()[-1:]
    if not head:
        return True
    root = re.escape(stem(head[0])[:8])
    return bool(re.search(rf"\b{_STATED}\s+(?:[\w'’-]+\s+){{0,2}}{root}\w*", text, re.IGNORECASE))


def in_words(entries: Sequence[str]) -> str:
    """Entries as one line: with commas, or semicolons if an entry has commas."""
    if len(entries) == 1:
        return entries[0]
    between = "; " if any(", " in entry for entry in entries) else ", "
    return between.join(entries)


# -- where lists are -------------------------------------------------------------------------------


def _numbered_headings(blocks: Blocks) -> Iterator[FoundList]:
    labels = {section.label for section in blocks.sections if section.label}
    for label in sorted(labels):
        own = [n for n, section in enumerate(blocks.sections) if section.label == label]
        units = [unit for unit in blocks.units if unit.section == own[0]]
        if len(own) > 1 and units:
            entries = [
                blocks.sections[n].heading or next((u.text for u in blocks.units if u.section == n), "") for n in own
            ]
            yield FoundList(tuple(entries), f"{label}s", "", units[0], True)


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
            name = f"{blocks.heading(units[0])} {intro if intro.endswith(':') else ''}"
            yield FoundList(entries, name, "" if intro.endswith(":") else intro, units[0], True)


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
    tables: dict[int, list[Unit]] = {}
    for unit in blocks.units:
        if unit.kind == "row":
            tables.setdefault(unit.group, []).append(unit)
    for rows in tables.values():
        if len(rows) < 3:
            continue
        head = rows[0].cells
        for column, name in enumerate(head):
            entries = tuple(row.cells[column] for row in rows[1:] if column < len(row.cells) and row.cells[column])
            if len(entries) > 1:
                yield FoundList(entries, f"{name} {blocks.heading(rows[0]) if not column else ''}", "", rows[0], True)


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


# -- which is meant --------------------------------------------------------------------------------


def _terms(text: str) -> set[str]:
    return {term for term in content_stems(text) if term not in _GENERIC}


def _match(blocks: Blocks, found: FoundList, question: str, said: frozenset[str]) -> float:
    """The share of a question's content that names a list, 0 to about 1.

    What is asked for ("Which toppings …") need not be in the text at all; if it names a list, that is the list.
    """
    thing = _thing(question)
    head = stem(thing.split()[-1]) if thing else ""
    asked = _terms(question)
    if head not in said:
        asked -= {head}
    asked = asked - content_stems(blocks.title) or asked
    weights = {term: default_rarity().idf(term_hash(term)) for term in asked}
    total = sum(weights.values())
    if not total:
        return 0.0
    name, context = content_stems(found.name), content_stems(found.context)
    in_name = sum(weight for term, weight in weights.items() if term in name)
    in_context = sum(weight for term, weight in weights.items() if term in context and term not in name)
    score = (in_name + 0.85 * in_context) / total
    if head in name and len(name) <= _SHORT_NAME and found.marked:
        score = max(score, _NAMED + 0.1 * in_name / total)
    negated = bool(_NEGATED.search(found.name)) != bool(_NEGATED.search(question))
    return score + (0.02 if found.marked else 0.0) - (0.3 if negated else 0.0)


def _thing(question: str) -> str:
    """What is asked for, as far as the words before the verb name it: "toppings" of "Which toppings go on it?"."""
    match = _THING.search(question)
    return match["what"] if match else ""
