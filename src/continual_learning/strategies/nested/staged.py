"""The loss of study items, with what the unchanged blocks make of them computed once.

Items come back whenever their turn is replayed. Each is run by itself, so that the same item gives the same bits
whatever else is studied, and whether or not it was run before.

Shapes: B = items of a mini-batch, T = tokens, D = hidden size, S = tokens that compete in the loss.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from continual_learning.background import background_texts
from continual_learning.base import BaseModel
from continual_learning.finetuning import item_loss, next_token_loss
from continual_learning.study_items import Item, padded_ids

# Enough for some thousand items of the embedded model.
_MOST_BYTES = 96_000_000


class HiddenCache:
    """Hidden states before one block, by item; the ones used longest ago go first."""

    def __init__(self, most_bytes: int = _MOST_BYTES):
        self._found: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()
        self._room = most_bytes

    def get(self, base: BaseModel, ids: tuple[int, ...], block: int) -> Tensor:
        """[T, D]."""
        if ids in self._found:
            self._found.move_to_end(ids)
            return self._found[ids]
        hidden_TD = base.hidden_before(torch.tensor([ids], device=base.device), block)[0].clone()
        self._found[ids] = hidden_TD
        self._room -= hidden_TD.numel() * hidden_TD.element_size()
        while self._room < 0 and len(self._found) > 1:
            _, dropped = self._found.popitem(last=False)
            self._room += dropped.numel() * dropped.element_size()
        return hidden_TD


class Staged:
    """Losses of items on a base whose blocks before ``first_block`` are as they were loaded; None: all may change."""

    def __init__(self, base: BaseModel, first_block: int | None):
        self._base = base
        self._first = first_block
        self._cache = base.remember(("nested hidden states", first_block), HiddenCache)

    def loss(self, batch: Sequence[Item], rivals_S: Tensor | None = None) -> Tensor:
        """`finetuning.next_token_loss`."""
        if self._first is None:
            return item_loss(self._base, batch)
        rows = [self._cache.get(self._base, item.ids, self._first) for item in batch]
        ids_BT = padded_ids(batch, self._base.device)
        hidden_BTD = torch.zeros(*ids_BT.shape, rows[0].shape[-1], dtype=rows[0].dtype, device=rows[0].device)
        for row, hidden_TD in enumerate(rows):
            hidden_BTD[row, : len(hidden_TD)] = hidden_TD
        out_BTD = self._base.run_from(hidden_BTD, ids_BT, self._first)
        return next_token_loss(self._base, batch, ids_BT, out_BTD, rivals_S)


def rival_tokens(base: BaseModel, items: Sequence[Item]) -> Tensor:
    """Tokens that compete in the loss: those of ordinary text, of the items, and the ends of answers: [S], rising.

    The head over a whole vocabulary is half of a small step's work, and most of it is never in question.
    """
    background = tuple(background_texts())

    def of_background() -> frozenset[int]:
        return frozenset(token for text in background for token in base.encode(text))

    ordinary = base.remember(("background tokens", background), of_background)
    studied = {token for item in items for token in item.ids}
    return torch.tensor(sorted(ordinary | studied | base.stop_ids), device=base.device)
