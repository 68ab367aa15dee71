"""Watching what a base is asked to generate, and answering in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from continual_learning.model import generation
from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import Generation


@dataclass(frozen=True)
class Call:
    """One batch of prompts."""

    base: BaseModel
    prompts: list[list[int]]
    max_new_tokens: int
    on_token: Any
    one_line: bool

    @property
    def texts(self) -> list[str]:
        return [str(self.base.tokenizer.decode(ids)) for ids in self.prompts]


def watch_generations(monkeypatch: pytest.MonkeyPatch, reply: Generation | None = None) -> list[Call]:
    """Every batch from now on; with ``reply`` the base generates nothing and that is the answer to every prompt."""
    calls: list[Call] = []
    original = generation._generate_batch

    def batch(base: BaseModel, prompts: Sequence[Sequence[int]], rows: Sequence[int], *given: Any) -> list[Generation]:
        calls.append(Call(base, [list(map(int, prompts[row])) for row in rows], *given[:3]))
        return original(base, prompts, rows, *given) if reply is None else [reply for _ in rows]

    monkeypatch.setattr(generation, "_generate_batch", batch)
    return calls
