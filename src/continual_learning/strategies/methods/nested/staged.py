"""The loss of training examples, with their activations in the unchanged blocks computed only once.

Items recur whenever their turn is replayed. Each is run by itself, so that the same item gives the same bits
whatever else is trained on, and whether or not it was run before.

Shapes: B = items of a mini-batch, T = tokens, D = hidden size, S = candidate tokens of the loss.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from continual_learning.documents.shipped import background_texts
from continual_learning.model.base_model import BaseModel
from continual_learning.training.examples import Item, padded_ids
from continual_learning.training.gradient_descent import item_loss, next_token_loss

# Some 1,600 items of the embedded model: four hundred turns.
_MOST_BYTES = 96_000_000
# Number of candidate tokens that are drawn at random.
_DRAWN_RIVALS = 4096


class HiddenCache:
    """Hidden states before one block, by item; the oldest are evicted first.

    All are in one buffer that is allocated at the start: allocating and freeing pieces of many lengths one by one
    fragments memory, and a chat of 500 turns grew by 200 MB that way.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES):
        self._most_bytes = most_bytes
        self._ring_ND: Tensor | None = None
        self._found: OrderedDict[tuple[int, ...], int] = OrderedDict()
        """Where each item's hidden states begin, in the order of their computation."""
        self._next = 0

    def get(self, base: BaseModel, ids: tuple[int, ...], block: int) -> Tensor:
        """Return [T, D], valid until the next call."""
        if (at := self._found.get(ids)) is not None and self._ring_ND is not None:
            return self._ring_ND[at : at + len(ids)]
        hidden_TD = base.hidden_before(torch.tensor([ids], device=base.device), block)[0]
        if self._ring_ND is None:
            rows = self._most_bytes // (hidden_TD.shape[1] * hidden_TD.element_size())
            self._ring_ND = hidden_TD.new_full((rows, hidden_TD.shape[1]), 0.0)
        if len(ids) > len(self._ring_ND):
            return hidden_TD
        at = self._room_for(len(ids), len(self._ring_ND))
        self._found[ids] = at
        self._ring_ND[at : at + len(ids)] = hidden_TD
        return self._ring_ND[at : at + len(ids)]

    def _room_for(self, tokens: int, rows: int) -> int:
        """Return where this many rows are free, after evicting the oldest items there."""
        if self._next + tokens > rows:
            # Items between here and the end are older than those at the beginning.
            while self._found and next(iter(self._found.values())) >= self._next:
                self._found.popitem(last=False)
            self._next = 0
        at, self._next = self._next, self._next + tokens
        while self._found and at <= next(iter(self._found.values())) < self._next:
            self._found.popitem(last=False)
        return at


class Staged:
    """Losses of items on a base whose blocks before ``first_block`` are unchanged; None: all may have changed."""

    def __init__(self, base: BaseModel, first_block: int | None):
        self._base = base
        self._first = first_block
        self._cache = base.remember(("nested hidden states", first_block), HiddenCache)

    def loss(self, batch: Sequence[Item], rivals_S: Tensor | None = None) -> Tensor:
        """`gradient_descent.next_token_loss`."""
        if self._first is None:
            return item_loss(self._base, batch)
        ids_BT = padded_ids(batch, self._base.device)
        hidden_BTD = torch.cat([self._padded(item.ids, ids_BT.shape[1]) for item in batch])
        out_BTD = self._base.run_from(hidden_BTD, ids_BT, self._first)
        return next_token_loss(self._base, batch, ids_BT, out_BTD, rivals_S)

    def _padded(self, ids: tuple[int, ...], length: int) -> Tensor:
        """Return a copy, [1, length, D]."""
        assert self._first is not None
        return F.pad(self._cache.get(self._base, ids, self._first), (0, 0, 0, length - len(ids)))[None].clone()


def rival_tokens(base: BaseModel, items: Sequence[Item], rng: random.Random) -> Tensor:
    """Return the loss's candidate tokens: of ordinary text, of the items, ends of answers, random ones: [S], ascending.

    The head over a whole vocabulary is half of a small step's work, and most of it never matters. But a token that is
    never a candidate is never suppressed: after hundreds of turns answers ran on into tokens that no text has. So
    others are drawn for each update (a sampled softmax, Jean et al. 2015, without its correction).
    """
    background = tuple(background_texts())

    def of_background() -> frozenset[int]:
        return frozenset(token for text in background for token in base.encode(text))

    ordinary = base.remember(("background tokens", background), of_background)
    studied = {token for item in items for token in item.ids}
    drawn = rng.sample(range(base.vocab_size), min(_DRAWN_RIVALS, base.vocab_size))
    return torch.tensor(sorted(ordinary | studied | base.stop_ids | set(drawn)), device=base.device)
