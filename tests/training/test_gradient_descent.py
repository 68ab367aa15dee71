"""The training loop and its loss."""

from __future__ import annotations

import math
import random
import time

import pytest
import torch
from torch import nn

from continual_learning.errors import DivergedError
from continual_learning.model.base_model import BaseModel
from continual_learning.training import gradient_descent
from continual_learning.training.all_weights import AllWeights
from continual_learning.training.examples import Item, make_item, padded_ids, text_item
from continual_learning.training.gradient_descent import (
    Course,
    Descent,
    Schedule,
    Training,
    adamw,
    descend,
    finetune,
    item_loss,
    next_token_loss,
)

TEXT = "The quick brown fox lives in Paris with seven cats."
SCHEDULE = Schedule(learning_rate=1e-2, clip_norm=1.0, warmup=0.2)


def test_the_rate_rises_then_falls_to_a_tenth() -> None:
    rates = [SCHEDULE.rate(step, 10) for step in range(10)]
    assert rates[:3] == [0.005, 0.01, 0.01]
    assert rates[2:] == sorted(rates[2:], reverse=True) and rates[-1] == pytest.approx(0.01 * (1 - 0.9 * 7 / 8))
    assert Schedule(1.0, 1.0, 0.0).rate(0, 1) == 1.0
    assert [Schedule(1.0, 1.0, 0.5, scale=0.5).rate(step, 4) for step in range(3)] == [0.25, 0.5, 0.5]


def quadratic(
    steps: int = 5, schedule: Schedule = SCHEDULE, **options: object
) -> tuple[list[float], Descent, list[tuple[int, int, float]]]:
    """Descent on w² from w = 1: every value of w, and what was reported."""
    weight = nn.Parameter(torch.ones(()))
    seen, steps_seen = [], []

    def loss_of(batch: int) -> torch.Tensor:
        seen.append(weight.item())
        return weight**2

    def on_step(*step: float) -> None:
        steps_seen.append(step)

    optimizer = torch.optim.SGD([weight], lr=0.0)
    given = {"on_step": on_step, **options}
    done = descend(Course([weight], optimizer, schedule, steps), list(range(steps)), loss_of, lambda batch: 7, **given)  # type: ignore[arg-type]
    return [*seen, weight.item()], done, steps_seen  # type: ignore[return-value]


def test_each_step_follows_the_clipped_gradient_at_its_rate() -> None:
    weights, done, steps = quadratic(schedule=Schedule(0.1, 0.5, 0.0))
    assert weights[0] - weights[1] == pytest.approx(0.1 * 0.5, rel=1e-4), "a gradient of 2 is clipped to 0.5"
    assert weights[4] - weights[5] == pytest.approx((1 - 0.9 * 3 / 4) * 0.1 * 0.5, rel=1e-4)
    assert done == Descent(pytest.approx(weights[4] ** 2), 5, 5, 35)
    assert steps == [(n + 1, 5, pytest.approx(weights[n] ** 2)) for n in range(5)]


def test_a_deadline_ends_it_after_the_step_at_hand() -> None:
    _, done, _ = quadratic(deadline=time.perf_counter())
    assert (done.steps, done.planned_steps) == (1, 5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it(value: float) -> None:
    weight = nn.Parameter(torch.ones(()))
    losses = [1.0, value, 1.0]
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf) at step 2 of 3.* below 0.01"):
        course = Course([weight], adamw([weight], 1e-2), SCHEDULE, len(losses))
        descend(course, losses, lambda loss: weight * loss, lambda loss: 1)


def test_the_loss_is_the_mean_over_items_of_their_learned_tokens(tiny_base: BaseModel) -> None:
    items = [make_item(tiny_base.encode("The fox"), tiny_base.encode(" lives")), text_item(tiny_base, TEXT)]
    expected = []
    with torch.no_grad():
        for item in items:
            logits = tiny_base.model(torch.tensor([item.ids])).logits[0].log_softmax(-1)
            learned = range(item.prompt_tokens, len(item.ids))
            expected.append(-sum(logits[t - 1, item.ids[t]].item() for t in learned) / len(learned))
        assert item_loss(tiny_base, items).item() == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_rivals_are_the_only_ones_to_compete(tiny_base: BaseModel) -> None:
    item = make_item(tiny_base.encode("The fox"), tiny_base.encode(" lives"))
    ids = padded_ids([item], tiny_base.device)
    with torch.no_grad():
        hidden = tiny_base.run_from(tiny_base.hidden_before(ids, 0), ids, 0)
        everything = torch.arange(tiny_base.vocab_size)
        whole = next_token_loss(tiny_base, [item], ids, hidden)
        assert torch.allclose(next_token_loss(tiny_base, [item], ids, hidden, everything), whole)
        learned = torch.tensor(sorted(set(item.ids)))
        assert next_token_loss(tiny_base, [item], ids, hidden, learned) < whole


def finetuned(base: BaseModel, passes: int = 12) -> tuple[dict[str, torch.Tensor], Descent]:
    items = [[text_item(base, TEXT)] for _ in range(passes)]
    return finetune(base, Training(AllWeights(), {}, items, 64, SCHEDULE, ""), random.Random(0))


def test_finetuning_learns_a_text_and_leaves_the_base_alone(tiny_base: BaseModel) -> None:
    before, count = tiny_base.token_nll([TEXT])
    kept, done = finetuned(tiny_base)
    assert done.steps == 12 and tiny_base.token_nll([TEXT]) == (before, count)
    with AllWeights().installed(tiny_base, kept):
        after, _ = tiny_base.token_nll([TEXT])
    assert after / count < before / count - 1.0
    again, _ = finetuned(tiny_base)
    assert all(torch.equal(kept[name], again[name]) for name in kept)


def test_the_base_is_restored_when_training_fails(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    own = list(tiny_base.model.parameters())
    before = tiny_base.token_nll([TEXT])
    losses: list[list[Item]] = []

    def failing(base: BaseModel, batch: list[Item]) -> torch.Tensor:
        losses.append(batch)
        if len(losses) == 3:
            raise RuntimeError("no more")
        return item_loss(base, batch)

    monkeypatch.setattr(gradient_descent, "item_loss", failing)
    with pytest.raises(RuntimeError, match="no more"):
        finetuned(tiny_base)
    assert [id(p) for p in tiny_base.model.parameters()] == [id(p) for p in own]
    assert tiny_base.token_nll([TEXT]) == before
