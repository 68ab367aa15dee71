"""Tokens that a model reads into a cache, each with the earlier ones that it may attend to.

Questions about a text, and the ways to answer them, are read behind the text without seeing each other, many in one
forward pass.

Shapes: T = tokens read now, S = tokens that they may attend to, D = hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from continual_learning.model.base_model import BaseModel


class Row:
    """Tokens that were read into a cache, each with the earlier ones that it may attend to."""

    def __init__(self, base: BaseModel, cache: Any = None, positions: Sequence[int] = ()):
        self._base = base
        self._cache = base.new_cache(whole=True) if cache is None else cache
        self._positions = list(positions)

    def __len__(self) -> int:
        return len(self._positions)

    def copy(self) -> Row:
        """A copy that continues on its own."""
        return Row(self._base, copy.deepcopy(self._cache), self._positions)

    def begin(self, ids: Sequence[int]) -> None:
        """Read the first tokens, each of which attends to all before it."""
        if ids:
            ids_1T = torch.tensor([list(ids)], device=self._base.device)
            self._base.backbone(input_ids=ids_1T, past_key_values=self._cache, use_cache=True)
            self._positions = list(range(len(ids)))

    def read(self, ids: Sequence[int], positions: Sequence[int], allowed_TS: Tensor) -> Tensor:
        """Final hidden states of further tokens, ``[T, D]``. ``allowed_TS``: what each attends to."""
        base = self._base
        self._positions += positions
        hidden_1TD: Tensor = base.backbone(
            input_ids=torch.tensor([list(ids)], device=base.device),
            position_ids=torch.tensor([list(positions)], device=base.device),
            attention_mask=base.attention_mask(allowed_TS, torch.tensor(self._positions)),
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return hidden_1TD[0]

    def read_apart(self, prefix: int, segments: Sequence[Sequence[int]]) -> tuple[Tensor, list[range]]:
        """Final hidden states ``[T, D]`` of segments that each attend to the first ``prefix`` tokens and to themselves.

        Also where each segment is in the row; its states are at these places less that of the first.
        """
        places: list[range] = []
        at = len(self)
        for segment in segments:
            places.append(range(at, at + len(segment)))
            at += len(segment)
        ids = [token for segment in segments for token in segment]
        positions = [prefix + i for segment in segments for i in range(len(segment))]
        allowed_TS = torch.zeros(len(ids), at, dtype=torch.bool)
        allowed_TS[:, :prefix] = True
        for place in places:
            own = slice(place.start - len(self), place.stop - len(self))
            allowed_TS[own, place.start : place.stop] = torch.ones(len(place), len(place), dtype=torch.bool).tril()
        return self.read(ids, positions, allowed_TS), places


class Paths:
    """Where the tokens of every path lie in the row."""

    def __init__(self, prefix: int, seen: Sequence[Sequence[int]]):
        self._prefix = prefix
        self._seen = seen
        self._ancestors: dict[tuple[int, int | None], list[int]] = {(i, None): [] for i in range(len(seen))}

    def lay_out(
        self, chains: Sequence[tuple[int, Any]], length: int
    ) -> tuple[list[int], list[int], Tensor, list[list[int]]]:
        """Token ids, positions, what each attends to, and the places of each chain."""
        ids: list[int] = []
        positions: list[int] = []
        rows: list[list[int]] = []
        places: list[list[int]] = []
        for question, chain in chains:
            before = self._ancestors[question, chain.after]
            own: list[int] = []
            for token in chain.tokens:
                place = length + len(ids)
                ids.append(token)
                own.append(place)
                path = [*before, *own]
                positions.append(self._prefix + len(self._seen[question]) + len(path) - 1)
                rows.append([*self._seen[question], *path])
            places.append(own)
            self._ancestors[question, own[-1]] = [*before, *own]
        allowed_TS = torch.zeros(len(ids), length + len(ids), dtype=torch.bool)
        allowed_TS[:, : self._prefix] = True
        for number, seen in enumerate(rows):
            allowed_TS[number, seen] = True
        return ids, positions, allowed_TS, places
