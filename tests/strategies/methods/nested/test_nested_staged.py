"""Nested learning: the loss of study items, with what the unchanged blocks make of them kept."""

from __future__ import annotations

import random

import pytest
import torch

from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.nested.staged import HiddenCache, Staged, rival_tokens
from continual_learning.training.examples import make_item

BLOCK, WIDTH_BYTES = 2, 4


def reference(base: BaseModel, ids: tuple[int, ...]) -> torch.Tensor:
    return base.hidden_before(torch.tensor([ids]), BLOCK)[0]


@pytest.mark.parametrize("rows", [12, 20, 33, 500])
def test_what_is_kept_is_what_would_be_computed_whatever_went_before(rows: int, tiny_base: BaseModel) -> None:
    rng = random.Random(rows)
    items = [tuple(rng.sample(range(5, 60), length)) for length in (1, 3, 4, 5, 7, 9, 11, 12, 13)]
    expected = {ids: reference(tiny_base, ids) for ids in items}
    width = expected[items[0]].shape[1] * WIDTH_BYTES
    cache = HiddenCache(rows * width)
    for ids in rng.choices(items, k=300):
        assert torch.equal(cache.get(tiny_base, ids, BLOCK), expected[ids])


def test_what_fits_is_computed_once_and_takes_no_more_memory_than_it_may(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [(5, 6, 7), (8, 9), (10, 11, 12, 13)]
    width = reference(tiny_base, items[0]).shape[1] * WIDTH_BYTES
    cache, calls = HiddenCache(9 * width), []
    computed = tiny_base.hidden_before
    monkeypatch.setattr(tiny_base, "hidden_before", lambda *given: calls.append(given) or computed(*given))
    kept = {cache.get(tiny_base, ids, BLOCK).untyped_storage().data_ptr() for ids in items * 3}
    assert len(calls) == 3
    assert len(kept) == 1
    assert cache.get(tiny_base, items[0], BLOCK).untyped_storage().nbytes() == 9 * width
    cache.get(tiny_base, (14, 15), BLOCK)  # takes the place of the oldest
    cache.get(tiny_base, items[2], BLOCK)
    assert len(calls) == 4
    cache.get(tiny_base, items[0], BLOCK)
    assert len(calls) == 5


def test_kept_states_give_the_loss_of_the_whole_model(tiny_base: BaseModel) -> None:
    batch = [make_item([5, 6, 7], [8, 9]), make_item([10], [11, 12, 13, 14, 15])]
    staged, whole = Staged(tiny_base, BLOCK), Staged(tiny_base, None)
    with torch.no_grad():
        assert staged.loss(batch).item() == pytest.approx(whole.loss(batch).item(), abs=1e-6)


def test_tokens_of_no_text_compete_too_and_others_at_every_update(
    tiny_base: BaseModel, embedded_base: BaseModel
) -> None:
    items = [make_item([5, 6], [7, 8])]
    one, two = (rival_tokens(embedded_base, items, random.Random(seed)) for seed in (0, 1))
    assert torch.equal(one, rival_tokens(embedded_base, items, random.Random(0)))
    assert not torch.equal(one, two)
    assert {5, 6, 7, 8} <= set(one.tolist())
    assert torch.equal(one, one.unique())
    assert len(rival_tokens(tiny_base, items, random.Random(0))) == tiny_base.vocab_size
