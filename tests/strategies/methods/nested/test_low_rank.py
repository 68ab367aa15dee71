"""Changes of low rank beside a linear layer."""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from continual_learning.model.families import linear_sizes
from continual_learning.strategies.methods.nested.low_rank import LowRankLevels, new_factors


def test_a_new_level_changes_nothing_bit_for_bit() -> None:
    for linear in (nn.Linear(6, 4), Conv1D(4, 6)):
        x = torch.randn(2, 3, 6)
        level = new_factors(linear, 2, "seed")
        assert level[0].shape == (2, 6) and level[1].shape == (4, 2)
        assert torch.equal(LowRankLevels(linear, [level, level])(x), linear(x))


def test_levels_add_up() -> None:
    linear = nn.Linear(6, 4)
    a, b = ((torch.randn(2, 6), torch.randn(4, 2)) for _ in range(2))
    x = torch.randn(5, 6)
    expected = linear(x) + x @ (a[1] @ a[0] + b[1] @ b[0]).T
    assert torch.allclose(LowRankLevels(linear, [a, b])(x), expected, atol=1e-5)


def test_the_seed_decides_the_factors() -> None:
    linear = nn.Linear(6, 4)
    assert torch.equal(new_factors(linear, 2, "a")[0], new_factors(linear, 2, "a")[0])
    assert not torch.equal(new_factors(linear, 2, "a")[0], new_factors(linear, 2, "b")[0])
    assert linear_sizes(linear) == (6, 4) == linear_sizes(Conv1D(4, 6))
