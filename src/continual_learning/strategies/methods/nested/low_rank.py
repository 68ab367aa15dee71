"""A linear layer with several low-rank changes added to it, each of which learns at a pace of its own.

    out = linear(x) + sum over levels l of B_l A_l x

B starts at zero, so every level starts as no change at all. The sum of the levels is itself one low-rank change with
their ranks concatenated: that is what is exported, and nothing is rounded (LoRA: Hu et al. 2021, arXiv 2106.09685).

Shapes: D = inputs, F = outputs of the linear layer, R = rank of a level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from continual_learning.model.families import linear_sizes
from continual_learning.text.words import hash_63


class LowRankLevels(nn.Module):
    """``linear`` with one (A_RD, B_FR) for each level. Changes are added in fp32 whatever the base's type is."""

    def __init__(self, linear: nn.Module, levels: Sequence[tuple[Tensor, Tensor]]):
        super().__init__()
        self.linear = linear
        self.levels = list(levels)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """[..., D] to [..., F], in the input's type."""
        out_BTF: Tensor = self.linear(hidden_BTD)
        x_BTD = hidden_BTD.float()
        for a_RD, b_FR in self.levels:
            out_BTF = out_BTF + ((x_BTD @ a_RD.T) @ b_FR.T).to(out_BTF.dtype)
        return out_BTF


def new_factors(linear: nn.Module, rank: int, seed: str) -> tuple[Tensor, Tensor]:
    """A at random, as `nn.Linear` starts, and B zero: [R, D] and [F, R], fp32 on the CPU."""
    inputs, outputs = linear_sizes(linear)
    generator = torch.Generator().manual_seed(hash_63(seed))
    bound = 1 / math.sqrt(inputs)
    a_RD = torch.empty(rank, inputs).uniform_(-bound, bound, generator=generator)
    return a_RD, torch.zeros(outputs, rank)
