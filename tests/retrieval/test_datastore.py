"""Nearest neighbours by exact search."""

from __future__ import annotations

import torch

from continual_learning.retrieval.datastore import ExactNeighbours, unit


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return unit(torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))).half()


def test_the_nearest_come_first() -> None:
    stored = keys(300)
    cosines, rows = ExactNeighbours(stored).search(stored[[7, 250]].float() * 3, 5)
    expected = (stored[[7, 250]].float() @ stored.float().T).topk(5)
    assert rows.tolist() == expected.indices.tolist() and rows[:, 0].tolist() == [7, 250]
    assert torch.allclose(cosines, expected.values, atol=1e-2)


def test_there_may_be_fewer_than_asked_for() -> None:
    cosines, rows = ExactNeighbours(keys(3)).search(keys(1).float(), 10)
    assert cosines.shape == rows.shape == (1, 3)
