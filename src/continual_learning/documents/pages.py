"""The pages of a file as one text: without running heads and page numbers, and sentences whole over page breaks."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from continual_learning.text.characters import begins_sentence

# A word divided at the end of a line. A compound that happens to be divided at its hyphen loses it, which is rarer.
_DIVIDED = re.compile(r"(?<=[^\W\d_])[-\u2010]\n(?=([^\W\d_]))")
_UNFINISHED = re.compile(r"\w[-\u2010\u00ad,]$")
_SENTENCE_END = re.compile(r"""\w["')\]”’»]?[.!?。！？।؟۔](?:\s|$)""")
_NUMBER = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(r"^\d+\W+|(?<=\w)\W{1,8}\d+$")
_ROMAN = re.compile(r"[ivxlc]{1,8}", re.IGNORECASE)
_LABELLED = re.compile(r"(?:page|p\.|seite|página|pagina|стр\.?)\s*\d{1,5}(?:\s*(?:of|/|von|de|из)\s*\d{1,5})?", re.I)
_AROUND_NUMBER = " -–—|·[]"
_ROMAN_DIGITS = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}

# Lines at the top and the bottom of a page that may be a running head or foot; and up to how many pages further the
# next one is: left and right pages may have their own.
_EDGE_LINES = 3
_NEAR_PAGES = 2
_ENDS = (".", "!", "?", ":", "…", "。", "！", "？", "।", "؟", "۔")
_CLOSING = "\"')]”’»」』"
_SENTENCE = 600
_FULL_LINE = 0.6
"""Share of the usual length of a page's lines from which its last line is not a heading."""


@dataclass(frozen=True)
class _Edge:
    """A line at the top or bottom of a page."""

    page: int
    line: int
    text: str
    top: bool

    @cached_property
    def pattern(self) -> str:
        """The line with a sign for each number."""
        if _ROMAN.fullmatch(self.text):
            return "#"
        return _NUMBER.sub("#", self.text).casefold()

    @cached_property
    def numbers(self) -> list[int]:
        """The numbers in it."""
        if _ROMAN.fullmatch(self.text):
            return [_roman(self.text)]
        return [int(number) for number in _NUMBER.findall(self.text) if len(number) < 6]

    @cached_property
    def is_labelled(self) -> bool:
        """Whether it is a page number that says so."""
        return _LABELLED.fullmatch(self.text.strip(_AROUND_NUMBER)) is not None

    @cached_property
    def only_number(self) -> bool:
        """Whether it is a page number and nothing else."""
        return self.is_labelled or not any(map(str.isalpha, self.pattern))

    @cached_property
    def may_count(self) -> bool:
        """Whether a number in it may be the page's: that of "Chapter 3" is not, nor those of a row of a table."""
        if "; " in self.text and self.text.endswith("."):
            return False
        return self.only_number or len(re.findall(r"[^\W\d_]+", self.text)) > 1


def join_pages(pages: Sequence[str]) -> str:
    """The text of all pages in order. A running head that is taken out stands once, at the beginning."""
    lines = [[line.rstrip() for line in page.strip().split("\n")] for page in pages]
    heads = _take_out(lines)
    text, before = "", None
    for page in lines:
        whole = "\n".join(page).strip()
        if whole:
            between = "" if before is None else "\n" if _continues(before, whole) else "\n\n"
            text, before = text + between + whole, page
    kept = [head for head in dict.fromkeys(heads) if head not in text]
    return _DIVIDED.sub(lambda match: "" if match[1].islower() else match[0], "\n\n".join([*kept, text]))


def _take_out(pages: list[list[str]]) -> list[str]:
    """Take running heads and page numbers out of the pages' lines; returns the heads, which say more than a number."""
    edges = [edge for number, lines in enumerate(pages) for edge in _edges(number, lines)]
    running = _running(edges)
    heads: list[str] = []
    gone: list[set[int]] = [set() for _ in pages]
    inside: set[tuple[int, bool]] = set()  # sides of pages of which the text has begun
    for edge in edges:  # from the edge of the page inwards
        taken, side = gone[edge.page], (edge.page, edge.top)
        left = sum(map(bool, pages[edge.page])) - len(taken)
        same = running.get((edge.page, edge.line, edge.top))
        if same is None or side in inside or (left < 2 and not edge.only_number):
            inside.add(side)
        elif edge.line not in taken:
            taken.add(edge.line)
            head = edge.text if same else _PAGE_NUMBER.sub("", edge.text)
            if any(map(str.isalpha, head)) and not edge.only_number:
                heads.append(head)
    for lines, taken in zip(pages, gone, strict=True):
        lines[:] = [line for at, line in enumerate(lines) if at not in taken]
    return heads


def _edges(page: int, lines: Sequence[str]) -> Iterator[_Edge]:
    filled = [at for at, line in enumerate(lines) if line.strip()]
    for at in filled[:_EDGE_LINES]:
        yield _Edge(page, at, " ".join(lines[at].split()), True)
    for at in filled[: -_EDGE_LINES - 1 : -1]:
        yield _Edge(page, at, " ".join(lines[at].split()), False)


def _running(edges: Sequence[_Edge]) -> dict[tuple[int, int, bool], bool]:
    """Page, line and side of what runs over pages: whether it is the same everywhere, or counts the pages."""
    groups: dict[tuple[bool, str], list[_Edge]] = {}
    for edge in edges:
        groups.setdefault((edge.top, edge.pattern), []).append(edge)
    found: dict[tuple[int, int, bool], bool] = {}
    for group in groups.values():
        for at, edge in enumerate(group):
            if edge.is_labelled:
                found.setdefault((edge.page, edge.line, edge.top), False)
            for other in group[at + 1 : at + 1 + _NEAR_PAGES * _EDGE_LINES]:
                if not 0 < other.page - edge.page <= _NEAR_PAGES:
                    continue
                same = edge.text == other.text and not edge.only_number
                if same or (edge.may_count and _counts(edge, other)):
                    for one in (edge, other):
                        found[one.page, one.line, one.top] = same
    return found


def _counts(edge: _Edge, other: _Edge) -> bool:
    """Whether a number in two lines rises with the pages."""
    return any(b - a == other.page - edge.page for a, b in zip(edge.numbers, other.numbers, strict=False))


def _continues(before: Sequence[str], after: str) -> bool:
    """Whether the first sentence of a page began on the page before."""
    lines = [line.strip() for line in before if line.strip()]
    last = lines[-1]
    if last.rstrip(_CLOSING).endswith(_ENDS):
        return False
    if after[0].islower() or _UNFINISHED.search(last[-2:]):
        return True
    # Before a capital it may be a heading, or a page of notes without any sentence.
    full = len(last) >= _FULL_LINE * statistics.median(map(len, lines))
    return full and begins_sentence(after[0]) and _SENTENCE_END.search(after[:_SENTENCE]) is not None


def _roman(text: str) -> int:
    values = [_ROMAN_DIGITS[digit] for digit in text.lower()]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))
