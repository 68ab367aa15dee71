"""Nearest neighbours: exact, and by FAISS."""

from __future__ import annotations

import sys

import pytest
import torch

from continual_learning.errors import MissingExtraError
from continual_learning.retrieval.datastore import ExactNeighbours, make_neighbours, unit


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return unit(torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))).half()


@pytest.mark.parametrize("search", ["exact", "faiss"])
def test_the_nearest_come_first(search: str) -> None:
    pytest.importorskip("faiss")
    stored = keys(300)
    cosines, rows = make_neighbours(search, stored).search(stored[[7, 250]].float() * 3, 5)  # type: ignore[arg-type]
    expected = (stored[[7, 250]].float() @ stored.float().T).topk(5)
    assert rows.tolist() == expected.indices.tolist() and rows[:, 0].tolist() == [7, 250]
    assert torch.allclose(cosines, expected.values, atol=1e-2)


def test_faiss_finds_most_of_a_large_store() -> None:
    pytest.importorskip("faiss")
    stored = keys(6_000)
    queries = stored[:50].float() + 0.05 * torch.randn(50, 16, generator=torch.Generator().manual_seed(1))
    exact = ExactNeighbours(stored).search(queries, 1)[1]
    found = make_neighbours("faiss", stored).search(queries, 1)[1]
    assert (exact == found).float().mean() > 0.9


def test_there_may_be_fewer_than_asked_for() -> None:
    cosines, rows = ExactNeighbours(keys(3)).search(keys(1).float(), 10)
    assert cosines.shape == rows.shape == (1, 3)


def test_a_missing_faiss_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'continual-learning-slm\[faiss\]'"):
        make_neighbours("faiss", keys(3))
