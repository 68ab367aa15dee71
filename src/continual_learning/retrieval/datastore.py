"""Nearest neighbours among hidden states: exact search, or FAISS for large stores.

Shapes: N = stored positions, D = hidden size, B = queries, K = neighbours of each.
"""

from __future__ import annotations

import importlib
import math
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from continual_learning.errors import MissingExtraError

Search = Literal["exact", "faiss"]

_FLAT_BELOW = 4_096
"""With fewer vectors FAISS has nothing to train on, and an exact search costs less than a step of decoding."""
_PROBES = 8
"""Cells that FAISS looks into, of about sqrt(N)."""


class Neighbours(Protocol):
    """Unit vectors, found by cosine."""

    def search(self, queries_BD: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Cosines, float32 [B, K], best first, and rows, int64 [B, K]; K is ``k`` or how many there are."""


class ExactNeighbours:
    """All of them are compared, in one matrix product."""

    def __init__(self, keys_ND: Tensor):
        self._keys_ND = keys_ND.float()  # a CPU multiplies halves more slowly than it converts them once

    def search(self, queries_BD: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """See `Neighbours`."""
        cosines_BN = unit(queries_BD.float()) @ self._keys_ND.T
        found = cosines_BN.topk(min(k, len(self._keys_ND)), dim=-1)
        return found.values, found.indices


class FaissNeighbours:
    """An inverted file over half-precision vectors (Johnson et al. 2017, arXiv 1702.08734), from the extra ``faiss``.

    Approximate: of about sqrt(N) cells, those nearest to the query are searched. Raises MissingExtraError.
    """

    def __init__(self, keys_ND: Tensor):
        try:
            faiss: Any = importlib.import_module("faiss")
        except ImportError:
            raise MissingExtraError(
                "search 'faiss': the package 'faiss-cpu' is not installed; "
                "pip install 'continual-learning-slm[faiss]', or choose exact"
            ) from None
        count, size = keys_ND.shape
        cells = 1 if count < _FLAT_BELOW else round(math.sqrt(count))
        kind = "Flat" if cells == 1 else f"IVF{cells},SQfp16"
        self._index = faiss.index_factory(size, kind, faiss.METRIC_INNER_PRODUCT)
        vectors = keys_ND.float().cpu().numpy()
        if cells > 1:
            self._index.train(vectors)
            self._index.nprobe = _PROBES
        self._index.add(vectors)
        self._count = count

    def search(self, queries_BD: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """See `Neighbours`. Where the cells hold fewer than ``k``, the rest are row 0 with cosine -1."""
        queries = unit(queries_BD.float()).cpu().numpy()
        cosines, rows = self._index.search(queries, min(k, self._count))
        cosines_BK, rows_BK = torch.from_numpy(cosines), torch.from_numpy(rows)
        none_BK = rows_BK < 0
        return cosines_BK.masked_fill(none_BK, -1.0), rows_BK.masked_fill(none_BK, 0)


def make_neighbours(search: Search, keys_ND: Tensor) -> Neighbours:
    """An index of unit vectors. Raises MissingExtraError where its extra is missing."""
    return FaissNeighbours(keys_ND) if search == "faiss" else ExactNeighbours(keys_ND)


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1, along the last dimension."""
    return F.normalize(vectors, dim=-1)
