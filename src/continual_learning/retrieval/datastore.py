"""Nearest neighbours among hidden states, by exact search.

Shapes: N = stored positions, D = hidden size, B = queries, K = neighbours of each.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


class ExactNeighbours:
    """Unit vectors, found by cosine: all of them are compared, in one matrix product."""

    def __init__(self, keys_ND: Tensor):
        self._keys_ND = keys_ND.float()  # on a CPU, multiplying in fp16 is slower than converting once

    def search(self, queries_BD: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Cosines, float32 [B, K], best first, and rows, int64 [B, K]; K is ``k``, or fewer if there are fewer."""
        cosines_BN = unit(queries_BD.float()) @ self._keys_ND.T
        found = cosines_BN.topk(min(k, len(self._keys_ND)), dim=-1)
        return found.values, found.indices


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1, along the last dimension."""
    return F.normalize(vectors, dim=-1)
