"""What kind of answer a question asks for, as far as its own words give it away."""

from __future__ import annotations

import re
from typing import Literal

AnswerKind = Literal["time", "number", "person", "place", "reason"]

_KINDS: tuple[tuple[AnswerKind, re.Pattern[str]], ...] = (
    ("time", re.compile(r"\b(?:when|(?:what|which) (?:year|date|month|day|decade|century))\b")),
    ("number", re.compile(r"\bhow (?:many|much|long|far|tall|old|large|big|often|fast)\b|\bpercent|\bnumber of\b")),
    ("person", re.compile(r"\b(?:who|whom|whose)\b")),
    ("place", re.compile(r"\bwhere\b|\b(?:what|which) (?:city|country|state|town|region|place)\b")),
    ("reason", re.compile(r"\bwhy\b|\bwhat (?:is|was) the reason\b")),
)


def asked_for(question: str) -> AnswerKind | None:
    """The kind of answer that is asked for; None where the question does not say: ``what`` asks for anything."""
    asked = question.lower()
    return next((kind for kind, pattern in _KINDS if pattern.search(asked)), None)
