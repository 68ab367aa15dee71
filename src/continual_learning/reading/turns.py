"""Which turns of a conversation are kept when not all of them fit into a prompt, and which one a question refers to."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence

from continual_learning.model.base_model import Message
from continual_learning.reading.spans import Turn

_REFERS = re.compile(
    r"^\W*(?:and|but|or|so|also|what about|how about|since when|until when)\b"
    r"|\b(?:it|its|they|them|their|he|him|his|she|her|hers|that|this|those|these|there|then|ones?|else|before|after)\b",
    re.IGNORECASE,
)
_FEW_WORDS = 3
"""A question of no more words leaves out what it is about: "Since when?", "Why not?"."""


def latest_turns(history: Sequence[Message], fits: Callable[[list[Message]], bool]) -> list[Message]:
    """The system messages with which a conversation begins, and as many of its latest turns as fit with them.

    A system message holds for the whole conversation, so it is kept. ``fits`` is asked few times, as it tokenizes
    everything: fewer turns are taken to fit where more do.
    """
    if fits(list(history)):
        return list(history)
    first = next((n for n, turn in enumerate(history) if turn["role"] != "system"), len(history))
    head, turns = history[:first], history[first:]
    dropped = bisect_left(range(len(turns)), True, key=lambda count: fits([*head, *turns[count:]]))
    return [*head, *turns[dropped:]]


def earlier_turn(question: str, history: Sequence[Message]) -> Turn | None:
    """The question and the reply just before, if ``question`` seems to refer to them or leaves something out."""
    if len(history) < 2 or [turn["role"] for turn in history[-2:]] != ["user", "assistant"]:
        return None
    if len(question.split()) > _FEW_WORDS and not _REFERS.search(question):
        return None
    return Turn(history[-2]["content"], history[-1]["content"])
