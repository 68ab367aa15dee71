"""A text in its blocks: headings with what is under them, lists, rows of tables, sentences.

Reads Markdown, reStructuredText and what people type: numbered items, labels with a colon, lines in capitals.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from continual_learning.text.chunking import sentences

Kind = Literal["sentence", "item", "row", "code"]

_MARK = re.compile(r"^(?:[-*+•–·▪]|\(?\d{1,3}[.)]|\[[ xX]\]|\(?[a-z]\))\s+(?:\[[ xX]\]\s+)?(?=\S)")
_HASHES = re.compile(r"^#{1,6}\s+(?P<text>.+?)\s*#*$")
_UNDERLINE = re.compile(r"^(?:={3,}|-{3,}|~{3,}|\^{3,}|\*{3,}|_{3,})$")
_RULE_ROW = re.compile(r"^[|+\s:=-]*-{2,}[|+\s:=-]*$")
_BOLD_LINE = re.compile(r"^(?:\*\*|__)(?P<text>[^*_]{1,60}?)[:.]?(?:\*\*|__):?$")
_NUMBERED = re.compile(
    r"^(?P<text>(?P<label>item|step|section|chapter|part|version|article|paragraph|clause|appendix|phase|week|day|stage"
    r"|lesson|unit|§|§§)\s*(?P<number>\d+(?:\.\d+)*|[IVX]+|[A-Z])\b[.:)]?\s*(?:[-–—]\s+)?(?P<rest>.*))$",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"^(?P<number>[A-Z]?\d{1,3}(?:\.\d{1,3})*)[.):]?\s+(?P<text>[A-Z][^.:!?]{1,40})[.:]\s+(?P<rest>\S.*)$"
)
_CAPITALS = re.compile(r"^[^a-z]*[A-Z]{3,}[^a-z]*$")
_FIELD = re.compile(r"^:(?P<name>[\w -]+):\s+(?P<value>.+)$")
_DIRECTIVE = re.compile(r"^(?:\.\.\s+\S+::.*|::|<!--.*-->|\[.*\]:\s+\S+|---+|\.\.\.)$")
_TERM = re.compile(r"^(?:`{1,2}[^`]+`{1,2}(?:,\s*)?)+$")
_DECORATION = re.compile(
    r"\*\*|__(?=\S)|(?<=\S)__|(?<![\w*])\*(?=[^\s*])|(?<=[^\s*])\*(?![\w*])|(?<!\w)_(?=\w)|(?<=\w)_(?!\w)"
)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)\s]*(?:\s+\"[^\"]*\")?\)")
_INLINE_MARK = re.compile(r"(?<=\S)\s+(?=(?:[-*•]|\d{1,2}[.)])\s+\S)|\s+(?=#{1,6}\s+\S)")
_ENDS = (".", "!", "?", ":", ";")
_LONGEST_HEADING = 80
_WIDEST = 120
_SHORT = 7
_NAME_WORDS = 4
_LABEL = re.compile(r"^[\w '’-]{1,25}: ")
# Characters of code, which no heading is made of.
_CODE = re.compile(r"[\[\]{}<>=`/_\\]|\(.*[\"'].*\)|\w\.\w+\(|\d{3}|@|: ")
_CUT_SHORT = re.compile(
    r"(?:\b(?:no|nos|nr|ext|art|approx|tel|incl|excl|max|min|pp?|vol|sec|fig|ed|dept|est|cf|ca|c)\.)$", re.IGNORECASE
)


@dataclass(frozen=True)
class Unit:
    """A sentence, an entry of a list, a row of a table or a piece of code."""

    text: str
    """Without marks of lists, emphasis and links."""
    kind: Kind
    section: int
    """Number of the section that it is in."""
    group: int
    """Units of one list, table or paragraph have the same number."""
    cells: tuple[str, ...] = ()
    """Of a row of a table."""
    head: bool = False
    """Whether a row names the columns."""
    ordered: bool = False
    """Whether an entry of a list has a number."""


@dataclass
class Section:
    """A heading and the sections' place; the first may have no heading."""

    heading: str = ""
    label: str = ""
    """For numbered headings, what is numbered: `step`, `item`."""
    number: str = ""
    level: int = 0
    """Depth of a Markdown heading, from 1; 0 for others."""


@dataclass
class Blocks:
    """A text in blocks."""

    title: str
    sections: list[Section] = field(default_factory=lambda: [Section()])
    units: list[Unit] = field(default_factory=list)

    def heading(self, unit: Unit) -> str:
        """The heading over a unit, or ""."""
        return self.sections[unit.section].heading

    def headings(self, unit: Unit) -> str:
        """The heading over a unit and those over it in turn, as far as their depth is known."""
        found, level = [self.heading(unit)], self.sections[unit.section].level
        for section in reversed(self.sections[: unit.section]):
            if 0 < section.level < level:
                found.append(section.heading)
                level = section.level
        return " ".join(found)

    def intro(self, unit: Unit) -> str:
        """The sentence that introduces the list of a unit, or ""."""
        first = next(place for place, one in enumerate(self.units) if one.group == unit.group)
        before = self.units[first - 1] if first else None
        if before is None or before.section != unit.section or before.kind == "row":
            return ""
        return before.text if before.text.endswith(":") or before.group == unit.group - 1 else ""


def plain(text: str) -> str:
    """A line without emphasis, links and tables' bars; code keeps its back-quotes."""
    pieces = re.split(r"(`+[^`]*`+)", text)
    found = [piece if n % 2 else _DECORATION.sub("", _LINK.sub(r"\1", piece)) for n, piece in enumerate(pieces)]
    return " ".join("".join(found).split())


def blocks_of(title: str, text: str) -> Blocks:
    """The blocks of a text."""
    if "\n" not in text.strip():
        text = _INLINE_MARK.sub("\n", text)
    return _Reader(title).read(text.split("\n"))


def _whole_sentences(text: str) -> list[str]:
    """Sentences; one that ends with an abbreviation or within brackets is joined with the next."""
    found: list[str] = []
    for sentence in sentences(text):
        if found and (_CUT_SHORT.search(found[-1]) or found[-1].count("(") > found[-1].count(")")):
            found[-1] = f"{found[-1]} {sentence}"
        else:
            found.append(sentence)
    return found


def _is_name(text: str) -> bool:
    """Whether what precedes a clause is its name ("Early termination") and no sentence ("Open the lid")."""
    return len(text.split()) <= _NAME_WORDS and not re.search(r"\b(?:the|a|an|your|it|them|until|with)\b", text)


class _Reader:
    def __init__(self, title: str):
        self._found = Blocks(title)
        self._group = 0
        self._paragraph: list[str] = []
        self._width = 0
        """Length of the longest line, if lines are wrapped at one: a paragraph a line is not."""

    def read(self, lines: list[str]) -> Blocks:
        code = False
        blank = True
        longest = max(map(len, lines), default=0)
        self._width = longest if longest <= _WIDEST else 0
        for place, raw in enumerate(lines):
            line = raw.strip()
            following = lines[place + 1].strip() if place + 1 < len(lines) else ""
            if line.startswith(("```", "~~~")):
                self._flush()
                code = not code
                self._group += 1
                continue
            if code:
                if line:
                    self._add(line, "code")
                continue
            if not line:
                self._flush()
                self._group += 1
                blank = True
                continue
            if _RULE_ROW.match(line) and "|" in line:
                self._mark_head()
            if _UNDERLINE.match(line) or _DIRECTIVE.match(line) or _RULE_ROW.match(line):
                continue
            self._line(line, following, blank)
            blank = False
        self._flush()
        return self._found

    def _line(self, line: str, following: str, blank: bool) -> None:
        if heading := _HASHES.match(line):
            self._section(plain(heading["text"]), level=len(line) - len(line.lstrip("#")))
        elif _UNDERLINE.match(following) and len(line) <= _LONGEST_HEADING and blank and following[0] in "=-~^":
            self._section(plain(line))
        elif bold := _BOLD_LINE.match(line):
            self._section(bold["text"].strip())
        elif (clause := _CLAUSE.match(line)) and blank and _is_name(clause["text"]):
            self._section(clause["text"], "item", clause["number"])
            self._paragraph.append(clause["rest"])
        elif (mark := _MARK.match(line)) and blank and self._heads(line[mark.end() :], following):
            self._section(plain(line[mark.end() :]), "item", line[: mark.end()].strip(" ()."))
        elif mark:
            self._flush()
            self._add(plain(line[mark.end() :]), "item", ordered=line.lstrip("(")[0].isdigit())
        elif (numbered := _NUMBERED.match(line)) and blank:
            self._numbered(numbered)
        elif line.startswith("|") or line.count(" | ") > 1:
            self._flush()
            cells = tuple(plain(cell) for cell in line.strip("| ").split("|"))
            self._add(" | ".join(cell for cell in cells if cell), "row", cells)
        elif _TERM.match(line) and following and not _MARK.match(following):
            self._flush()
            self._add(plain(line), "item")
        elif setting := _FIELD.match(line):
            self._flush()
            self._add(f"{setting['name']}: {plain(setting['value'])}", "item")
        elif self._is_title(line, following, blank):
            self._section(plain(line).rstrip(":"))
        else:
            if self._paragraph and not self._wrapped(self._paragraph[-1], line):
                self._flush()
            self._paragraph.append(line)

    def _numbered(self, line: re.Match[str]) -> None:
        """A numbered heading ("Step 3. Restore."); what is too long for one is a sentence under its number."""
        rest, label = plain(line["rest"]), line["label"].lower()
        whole = plain(line["text"])
        if len(rest.split()) > _SHORT:
            self._section("", label, line["number"])
            self._paragraph.append(rest)
        else:
            self._section(whole if not rest or rest[0] in "(,-–—" else rest.rstrip("."), label, line["number"])

    def _wrapped(self, line: str, following: str) -> bool:
        """Whether a line ends because the next word had no room, and not because something ends there."""
        room = self._width - len(line) - 1
        return bool(self._width) and len(following.split()[0]) > room and not _LABEL.match(following)

    def _is_title(self, line: str, following: str, blank: bool) -> bool:
        """Whether a line of plain text is a heading: short, without an end, before something longer or a list."""
        words = line.split()
        if not blank or len(words) > _SHORT or line.endswith(_ENDS[:3]) or "|" in line or not following:
            return False
        return bool(_CAPITALS.match(line)) or (len(words) <= 4 and not _CODE.search(line) and line[-1] != ",")

    @staticmethod
    def _heads(line: str, following: str) -> bool:
        """Whether a line with a mark is a heading: short, without an end, right above a text of its own."""
        return (
            len(line.split()) <= _SHORT
            and not line.endswith(_ENDS)
            and len(following.split()) > _SHORT
            and not _MARK.match(following)
            and not following.startswith(("`", "|"))
        )

    def _section(self, heading: str, label: str = "", number: str = "", level: int = 0) -> None:
        self._flush()
        self._group += 1
        self._found.sections.append(Section(heading, label, number, level))

    def _mark_head(self) -> None:
        """The row before a rule names the columns, if it is the first of its table."""
        units = self._found.units
        if units and units[-1].kind == "row" and (len(units) == 1 or units[-2].group != self._group):
            units[-1] = replace(units[-1], head=units[-1].group == self._group)

    def _flush(self) -> None:
        if self._paragraph:
            self._group += 1
            for sentence in _whole_sentences(plain(" ".join(self._paragraph))):
                self._add(sentence, "sentence")
            self._paragraph = []
            self._group += 1

    def _add(self, text: str, kind: Kind, cells: tuple[str, ...] = (), ordered: bool = False) -> None:
        if text.strip():
            section = len(self._found.sections) - 1
            self._found.units.append(Unit(text, kind, section, self._group, cells, ordered=ordered))
