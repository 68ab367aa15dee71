"""Kinds of answers: what a question asks for, and what a text offers.

`asked_for` tells five kinds apart by the question's words, `asked_kind` the three that `answer_spans` finds in texts.
They are two functions because the weights of `parts` were fitted with the second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from continual_learning.text.words import is_content

AnswerKind = Literal["time", "number", "person", "place", "reason"]
KINDS = ("date", "number", "name")

_TIME_ASKED = re.compile(r"\b(?:when|(?:what|which) (?:year|date|month|day|decade|century))\b")
_ASKED_FOR: tuple[tuple[AnswerKind, re.Pattern[str]], ...] = (
    ("time", _TIME_ASKED),
    ("number", re.compile(r"\bhow (?:many|much|long|far|tall|old|large|big|often|fast)\b|\bpercent|\bnumber of\b")),
    ("person", re.compile(r"\b(?:who|whom|whose)\b")),
    ("place", re.compile(r"\bwhere\b|\b(?:what|which) (?:city|country|state|town|region|place)\b")),
    ("reason", re.compile(r"\bwhy\b|\bwhat (?:is|was) the reason\b")),
)
_KIND_ASKED: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("date", _TIME_ASKED),
    (
        "number",
        re.compile(
            r"\bhow (?:many|much|long|old|far|large|big|tall|high)\b"
            r"|\b(?:what|which) (?:percent|percentage|number|portion)\b"
        ),
    ),
    ("name", re.compile(r"\b(?:who|whom|whose|where)\b|\bwhat (?:is the name|was the name|city|country)\b")),
)

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_UNIT = "(?:million|billion|thousand|percent|per cent|km|miles|metres|meters|feet|kg|tons?|years?|days?)"
_NAME_LINK = "(?:of|the|and|de|von|van|for|&)"
_CAPITALISED = r"[A-ZÀ-Þ][\w’'-]*"
# Kind of answer, what it looks like, and how likely a reader is to ask for it.
_ANSWER_KINDS: tuple[tuple[str, re.Pattern[str], float], ...] = (
    ("date", re.compile(rf"(?:\d{{1,2}} )?{_MONTH}(?: \d{{1,2}})?(?:,? \d{{4}})?"), 3.0),
    ("date", re.compile(r"\b(?:1\d|20)\d{2}s?\b"), 3.0),
    ("number", re.compile(rf"[$€£]?\d(?:[\d,.]*\d)?(?:%|st|nd|rd|th)?(?: {_UNIT}\b)?"), 2.5),
    (
        "number",
        re.compile(r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|hundreds?|half)\b"),
        2.5,
    ),
    (
        "name",
        re.compile(rf"{_CAPITALISED}(?:\s(?:{_NAME_LINK}\s)?(?:the\s)?{_CAPITALISED})*"),
        3.0,
    ),
)
_PHRASE_WEIGHT = 1.0
_MAX_ANSWER_WORDS = 6


@dataclass(frozen=True)
class Span:
    """A possible answer: ``text[start:end]``."""

    start: int
    end: int
    kind: str
    weight: float


def asked_for(question: str) -> AnswerKind | None:
    """The kind of answer that is asked for; None if the question does not say: ``what`` asks for anything."""
    lowered = question.lower()
    return next((kind for kind, pattern in _ASKED_FOR if pattern.search(lowered)), None)


def asked_kind(question: str) -> str | None:
    """Which of `KINDS` a question's words ask for; None if they do not show it."""
    lowered = question.lower()
    return next((kind for kind, pattern in _KIND_ASKED if pattern.search(lowered)), None)


def answer_spans(text: str) -> list[Span]:
    """Possible answers in a text: dates, numbers, names, and phrases between function words."""
    found: dict[tuple[int, int], Span] = {}
    for kind, pattern, weight in _ANSWER_KINDS:
        for match in pattern.finditer(text):
            start, end = match.span()
            first = text[start:end].split()[0]
            if kind == "name" and not is_content(first):  # "The Normans": a sentence's first word is no name
                start = min(end, start + len(first) + 1)
            if start < end:
                found.setdefault((start, end), Span(start, end, kind, weight))
    for match in re.finditer(r"[^\s,;:()\[\]\"“”–—]+(?:\s[^\s,;:()\[\]\"“”–—]+)*", text):
        for start, end in _content_runs(text, match.start(), match.end()):
            found.setdefault((start, end), Span(start, end, "phrase", _PHRASE_WEIGHT))
    return [span for span in found.values() if len(text[span.start : span.end].split()) <= _MAX_ANSWER_WORDS]


def _content_runs(text: str, start: int, end: int) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    current: tuple[int, int] | None = None
    for match in re.finditer(r"\S+", text[start:end]):
        word = match.group().rstrip(".!?")
        a, b = start + match.start(), start + match.start() + len(word)
        if word and is_content(word):
            current = (current[0] if current else a, b)
        elif current:
            runs.append(current)
            current = None
    return [*runs, current] if current else runs
