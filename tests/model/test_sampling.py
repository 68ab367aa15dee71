"""Choosing tokens at random."""

from __future__ import annotations

import torch

from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import generate
from continual_learning.model.sampling import sampler

LOGITS_BV = torch.tensor([[0.0, 3.0, 2.9, -9.0]]).repeat(200, 1)


def test_temperature_zero_means_the_likeliest() -> None:
    assert sampler(0.0, 5, 0.5, "seed") is None


def test_the_seed_decides() -> None:
    first, again, other = (sampler(1.0, 0, 1.0, seed) for seed in ("a", "a", "b"))
    assert first and again and other
    drawn = first(LOGITS_BV)
    assert torch.equal(drawn, again(LOGITS_BV)) and not torch.equal(drawn, other(LOGITS_BV))
    assert {1, 2} <= set(drawn.tolist())


def test_only_the_likeliest_take_part() -> None:
    for top_k, top_p, expected in ((1, 1.0, {1}), (2, 1.0, {1, 2}), (0, 0.3, {1}), (0, 0.7, {1, 2})):
        choose = sampler(5.0 if top_p == 1.0 else 1.0, top_k, top_p, "seed")
        assert choose is not None
        assert set(choose(LOGITS_BV).tolist()) == expected, (top_k, top_p)


def test_generation_takes_what_is_chosen(tiny_base: BaseModel) -> None:
    prompt = tiny_base.encode("The quick brown fox")
    token = tiny_base.encode(" dog")[0]
    [made] = generate(tiny_base, [prompt], 3, choose=lambda logits_BV: torch.full((len(logits_BV),), token))
    assert made.ids == (token,) * 3
