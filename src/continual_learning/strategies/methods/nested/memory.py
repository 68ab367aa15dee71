"""Layout of levels, and of what they wait for, in a state.

``level1/<name>`` is what the fastest level learned, ``optimizer1/<name>`` what its optimiser remembers, and
``turns/<number>.key`` the word hashes by which a question finds the turns that it is about (`routing`), all in one
part, since each part is a file on disk. The texts of the turns, and the turns that each level has yet to learn, are in
the JSON half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from continual_learning.memory.state import State
from continual_learning.retrieval.routing import passage_key
from continual_learning.strategies.methods.nested.levels import Level, level_name
from continual_learning.strategies.methods.nested.optimisers import OptimizerState


@dataclass(frozen=True)
class Turn:
    """A piece of text that is learned at once."""

    text: str
    title: str
    tokens: int

    def to_json(self) -> list[Any]:
        """Plain JSON values."""
        return [self.text, self.title, self.tokens]


@dataclass
class Memory:
    """The contents of a state."""

    levels: list[Level]
    optimizers: list[OptimizerState]
    turns: list[Turn]
    """All turns so far."""
    waiting: list[list[int]]
    """For each level, the numbers of the turns since its last update."""
    updates: list[int] = field(default_factory=list)
    """How often each level was updated."""


def read_memory(state: State, fresh: Sequence[Level]) -> Memory:
    """Return the memory of a state; ``fresh`` are levels that change nothing yet, for a state that never learned."""
    extra = state.meta.extra.get("nested")
    if extra is None:
        count = len(fresh)
        return Memory([dict(level) for level in fresh], [{} for _ in fresh], [], [[] for _ in fresh], [0] * count)
    parts = state.parts
    levels = [dict(parts[level_name(i)]) for i in range(len(extra["updates"]))]
    optimizers = [dict(parts.get(f"optimizer{i + 1}", {})) for i in range(len(levels))]
    turns = [Turn(*turn) for turn in extra["turns"]]
    return Memory(levels, optimizers, turns, [list(w) for w in extra["waiting"]], list(extra["updates"]))


def memory_tensors(memory: Memory) -> dict[str, Tensor]:
    """Return the tensors of all levels and optimisers, by name."""
    found: dict[str, Tensor] = {}
    for i, (level, optimizer) in enumerate(zip(memory.levels, memory.optimizers, strict=True)):
        found.update({f"{level_name(i)}/{name}": t for name, t in level.items()})
        found.update({f"optimizer{i + 1}/{name}": t for name, t in optimizer.items()})
    return found


def turn_keys(turns: Sequence[Turn], first: int) -> dict[str, Tensor]:
    """Return the keys of turns as `routing.passage_keys` reads them; ``first`` is the number of the first turn."""
    return {
        f"turns/{number:04d}.key": passage_key(turn.title, turn.text) for number, turn in enumerate(turns, start=first)
    }


def memory_json(memory: Memory) -> dict[str, Any]:
    """Return the JSON half."""
    return {
        "turns": [turn.to_json() for turn in memory.turns],
        "waiting": [list(numbers) for numbers in memory.waiting],
        "updates": list(memory.updates),
    }
