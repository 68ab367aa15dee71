"""Gradient descent on study material: the one training loop, and the loss that it lowers.

What is trained is the caller's: branches beside frozen MLPs, a LoRA adapter, all weights (`Trainable`). The loop
clips gradients by their global norm, raises the learning rate during a warm-up and lowers it linearly after,
stops at a deadline, and refuses a loss that is not finite.

Shapes: B = items of a mini-batch, T = tokens, D = hidden size, M = tokens in the loss, S = tokens that compete in
it, V = vocabulary.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from continual_learning.errors import DivergedError
from continual_learning.model.base_model import BaseModel
from continual_learning.training.examples import Item, mini_batches, padded_ids

_IGNORED = -100
_BatchT = TypeVar("_BatchT")

StepCallback = Callable[[int, int, float], None]
"""Called after each step with its number (from 1), how many there will be, and its loss."""


@dataclass(frozen=True)
class Schedule:
    """How fast to descend."""

    learning_rate: float
    """Its highest value."""
    clip_norm: float
    """Global norm to which gradients are clipped."""
    warmup: float
    """Share of the steps in which the learning rate rises to its value."""
    final: float = 0.1
    """Share of its value to which it falls in the steps after."""

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        return self.learning_rate * (1.0 - (1.0 - self.final) * (step - rising) / max(1, steps - rising))


@dataclass(frozen=True)
class Descent:
    """What the loop did."""

    loss: float
    """Mean loss of the last tenth of the steps, nats a token."""
    steps: int
    planned_steps: int
    tokens: int
    """Tokens that went through what is trained, padding included, over all steps."""


class Trainable(Protocol):
    """Which parameters of a base learn, and how they are kept."""

    def installed(
        self, base: BaseModel, kept: Mapping[str, Tensor], seed: str
    ) -> AbstractContextManager[Mapping[str, nn.Parameter]]:
        """The base with these parameters in place, ready to be trained or to answer; they are taken out at the end.

        ``kept`` is what `kept` gave, or empty for a start at which the model is the base, bit for bit; what of that
        start is random depends on ``seed`` alone.
        """

    def kept(self, base: BaseModel, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """What is kept of trained parameters: tensors on the CPU, by name. The base must be as it was."""

    def count(self, base: BaseModel) -> int:
        """How many numbers are trained."""


def adamw(weights: Sequence[Tensor], learning_rate: float) -> torch.optim.Optimizer:
    """AdamW without weight decay, which would pull what is to be kept towards zero."""
    return torch.optim.AdamW(weights, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)


class Course:
    """How far one descent has come: the optimizer's steps, and what is told of them."""

    def __init__(self, weights: Sequence[Tensor], optimizer: torch.optim.Optimizer, schedule: Schedule, steps: int):
        self.weights, self.optimizer, self.schedule, self.planned_steps = weights, optimizer, schedule, steps
        self.losses: list[float] = []
        self.tokens = 0

    def check(self, loss: Tensor) -> None:
        """Note the loss of the step to come. Raises DivergedError when it is NaN or infinite."""
        self.losses.append(loss.item())
        if not math.isfinite(self.losses[-1]):
            raise DivergedError(
                f"the loss became {self.losses[-1]} at step {len(self.losses)} of {self.planned_steps}, so nothing was "
                f"learned; try a learning_rate below {self.schedule.learning_rate:g}"
            )

    def step(self, tokens: int) -> None:
        """Change the weights by their gradients, which came of so many tokens."""
        for group in self.optimizer.param_groups:
            rate = self.schedule.rate(len(self.losses) - 1, self.planned_steps)
            group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(self.weights, self.schedule.clip_norm)
        self.optimizer.step()
        self.tokens += tokens

    @property
    def descent(self) -> Descent:
        """What was done."""
        last = self.losses[-max(1, len(self.losses) // 10) :]
        return Descent(sum(last) / len(last), len(self.losses), self.planned_steps, self.tokens)


def descend(
    course: Course,
    batches: Sequence[_BatchT],
    loss_of: Callable[[_BatchT], Tensor],
    tokens_of: Callable[[_BatchT], int],
    deadline: float = math.inf,
    on_step: StepCallback | None = None,
) -> Descent:
    """One optimizer step on each mini-batch, in order; the weights of ``course`` change in place.

    ``deadline`` is on the clock of `time.perf_counter`; past it the loop stops after the step at hand.
    Raises DivergedError when a loss is NaN or infinite.
    """
    with torch.enable_grad():
        for batch in batches:
            loss = loss_of(batch)
            course.check(loss)
            course.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            course.step(tokens_of(batch))
            if on_step:
                on_step(len(course.losses), len(batches), course.losses[-1])
            if time.perf_counter() > deadline:
                break
    return course.descent


@dataclass(frozen=True)
class Training:
    """What is trained, and on what."""

    trainable: Trainable
    kept: Mapping[str, Tensor]
    """What earlier training made of it; empty at the start."""
    passes: Sequence[Sequence[Item]]
    """The items of each pass."""
    batch_tokens: int
    """Tokens of a mini-batch, padding included."""
    schedule: Schedule
    seed: str
    """For `Trainable.installed`."""


def finetune(
    base: BaseModel,
    training: Training,
    rng: random.Random,
    deadline: float = math.inf,
    on_step: StepCallback | None = None,
) -> tuple[dict[str, Tensor], Descent]:
    """Train on the items of each pass, through the whole base, which does not change.

    Returns the new version of ``training.kept``. ``rng`` draws the order of the items.
    """
    batches = [
        [items[i] for i in batch]
        for items in training.passes
        for batch in mini_batches([len(item.ids) for item in items], training.batch_tokens, rng)
    ]
    schedule = training.schedule
    with training.trainable.installed(base, training.kept, training.seed) as weights:
        learned = list(weights.values())
        course = Course(learned, adamw(learned, schedule.learning_rate), schedule, len(batches))
        descent = descend(course, batches, lambda batch: item_loss(base, batch), padded_tokens, deadline, on_step)
    return training.trainable.kept(base, weights), descent


def padded_tokens(batch: Sequence[Item]) -> int:
    """Tokens of a mini-batch, padding included."""
    return len(batch) * max(len(item.ids) for item in batch)


def item_loss(base: BaseModel, batch: Sequence[Item]) -> Tensor:
    """`next_token_loss` of a mini-batch that is run through the whole model."""
    ids_BT = padded_ids(batch, base.device)
    # Embeddings, not ids: given ids with padding among them, some models warn that they have no mask.
    embedded_BTD = base.model.get_input_embeddings()(ids_BT)
    hidden_BTD = base.backbone(inputs_embeds=embedded_BTD, use_cache=False).last_hidden_state
    return next_token_loss(base, batch, ids_BT, hidden_BTD)


def next_token_loss(
    base: BaseModel, batch: Sequence[Item], ids_BT: Tensor, hidden_BTD: Tensor, rivals_S: Tensor | None = None
) -> Tensor:
    """Mean over items of the mean next-token loss over each item's learned tokens, in nats.

    ``hidden_BTD`` are final hidden states of ``ids_BT``. The vocabulary head is run only at tokens that count, and
    with ``rivals_S`` (tokens in rising order, all learned ones among them) only for those.
    """
    labels_BT = torch.full_like(ids_BT, _IGNORED)
    for row, item in enumerate(batch):
        labels_BT[row, item.prompt_tokens : len(item.ids)] = ids_BT[row, item.prompt_tokens : len(item.ids)]
    targets_BT = labels_BT[:, 1:]
    counted_BT = targets_BT != _IGNORED
    targets_M = targets_BT[counted_BT]
    logits_MV = base.logits(hidden_BTD[:, :-1][counted_BT], rivals_S).float()
    if rivals_S is not None:
        targets_M = torch.searchsorted(rivals_S, targets_M)
    loss_M = F.cross_entropy(logits_MV, targets_M, reduction="none")
    share_BT = counted_BT / counted_BT.sum(dim=1, keepdim=True).clamp_min(1)
    return (loss_M * share_BT[counted_BT]).sum() / len(batch)
