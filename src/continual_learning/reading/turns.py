"""Which turns of a conversation are kept when not all of them fit into a prompt."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from continual_learning.model.base_model import Message


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
