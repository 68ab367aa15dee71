"""LoRA whose matrices are given rather than trained in place: what a hypernetwork writes.

    y = W x + B^T (A x)

with any multiplier already in B. The matrices stay ordinary tensors, so that gradients flow through them into
whatever made them (LoRA: Hu et al. 2021, arXiv 2106.09685).

Shapes: R = rank, I = inputs, O = outputs of the adapted matrix; N = adapters of a batch, one per row; T = tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class LowRank(NamedTuple):
    """A change of one weight matrix, ``B^T A`` of rank R. Both may have a leading axis N."""

    A_RI: Tensor
    B_RO: Tensor

    @property
    def rank(self) -> int:
        """R."""
        return self.A_RI.shape[-2]


def concatenated(parts: Sequence[LowRank]) -> LowRank:
    """Return the exact sum of changes, their ranks concatenated. One without the axis N applies to every row."""

    def beside(halves: Sequence[Tensor]) -> Tensor:
        rows = next((half.shape[:-2] for half in halves if half.ndim > 2), ())
        return torch.cat([half.expand(*rows, *half.shape[-2:]) for half in halves], dim=-2)

    return LowRank(beside([p.A_RI for p in parts]), beside([p.B_RO for p in parts]))


class GeneratedLinear(nn.Module):
    """A linear layer without bias whose weight, ``[out, in]`` or ``[N, out, in]``, is a tensor computed elsewhere.

    The weight is an attribute and not a parameter: moving or saving the model leaves it out, and gradients flow on to
    whatever computed it.
    """

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        """``[..., T, in]`` to ``[..., T, out]``; with N weights, row n of ``[N, T, in]`` uses weight n."""
        return x @ self.weight.mT


Place = tuple[int, str]
"""A block's number, and a target module in it: ``(3, "down_proj")``."""


Adapter = dict[Place, LowRank]


Generated = dict[str, dict[str, Tensor]]
"""For each target module ``A`` ``[C, L, R, I]`` and ``B`` ``[C, L, R, O]``, or combined ones."""


def parameter_key(module: str) -> str:
    """Return a target module's name as a parameter name, in which PyTorch allows no dot."""
    return module.replace(".", "/")
