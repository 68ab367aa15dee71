"""Gradient descent on training examples: the one training loop, and its loss.

The caller decides what is trained (`Trainable`): branches next to frozen MLPs, a LoRA adapter, or all weights. The
loop clips gradients by their global norm, raises the learning rate during a warm-up and then lowers it linearly, stops
at a deadline, and refuses a loss that is not finite.

Shapes: B = examples in a mini-batch, T = tokens, D = hidden size, M = tokens in the loss, S = candidate tokens in its
softmax, V = vocabulary.
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
from torch.utils.checkpoint import checkpoint

from continual_learning.errors import DivergedError
from continual_learning.model.base_model import BaseModel
from continual_learning.training.examples import Item, mini_batches, padded_ids

_IGNORED = -100
# Tokens whose logits are kept at a time: those of 4,096 tokens over 49,152 take 0.8 GB, and their gradients as much.
_HEAD_ROWS = 1024
_BatchT = TypeVar("_BatchT")

StepCallback = Callable[[int, int, float], None]
"""Called after each step with its number (from 1), the total number of steps, and its loss."""


@dataclass(frozen=True)
class Schedule:
    """Learning rate schedule and clipping."""

    learning_rate: float
    """The peak learning rate."""
    clip_norm: float
    """Global norm to which gradients are clipped."""
    warmup: float
    """Share of the steps in which the learning rate rises to its peak."""
    final: float = 0.1
    """Share of its peak to which it falls in the remaining steps."""
    scale: float = 1.0
    """Factor on all rates, for the size of a base's weights (`weight_size`)."""

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising, peak = max(1, round(self.warmup * steps)), self.scale * self.learning_rate
        if step < rising:
            return peak * (step + 1) / rising
        return peak * (1.0 - (1.0 - self.final) * (step - rising) / max(1, steps - rising))


@dataclass(frozen=True)
class Descent:
    """The result of the training loop."""

    loss: float
    """Mean loss over the last tenth of the steps, in nats per token."""
    steps: int
    planned_steps: int
    tokens: int
    """Tokens that passed through the trained parameters over all steps, padding included."""


class Trainable(Protocol):
    """Which parameters of a base learn, and how they are kept."""

    def installed(
        self, base: BaseModel, kept: Mapping[str, Tensor], seed: str
    ) -> AbstractContextManager[Mapping[str, nn.Parameter]]:
        """The base with these parameters in place, ready to be trained or to answer; they are removed on exit.

        ``kept`` is what the method `kept` returned, or empty for a start at which the model is the base, bit for bit;
        any randomness in that start depends on ``seed`` alone.
        """

    def kept(self, base: BaseModel, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """What to keep of the trained parameters: tensors on the CPU, by name. The base must be unpatched again."""

    def count(self, base: BaseModel) -> int:
        """Number of trained parameters."""


def adamw(weights: Sequence[Tensor], learning_rate: float) -> torch.optim.Optimizer:
    """AdamW without weight decay, which would pull what is to be remembered towards zero."""
    return torch.optim.AdamW(weights, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)


class Course:
    """One training run in progress: the optimizer's steps and their losses."""

    def __init__(self, weights: Sequence[Tensor], optimizer: torch.optim.Optimizer, schedule: Schedule, steps: int):
        self.weights, self.optimizer, self.schedule, self.planned_steps = weights, optimizer, schedule, steps
        self.losses: list[float] = []
        self.tokens = 0

    def check(self, loss: Tensor) -> None:
        """Record the loss of the coming step. Raises DivergedError if it is NaN or infinite."""
        self.losses.append(loss.item())
        if not math.isfinite(self.losses[-1]):
            raise DivergedError(
                f"the loss became {self.losses[-1]} at step {len(self.losses)} of {self.planned_steps}, so nothing was "
                f"learned; try a learning_rate below {self.schedule.learning_rate:g}"
            )

    def step(self, tokens: int) -> None:
        """Update the weights by their gradients, which were computed on this many tokens."""
        for group in self.optimizer.param_groups:
            rate = self.schedule.rate(len(self.losses) - 1, self.planned_steps)
            group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(self.weights, self.schedule.clip_norm)
        self.optimizer.step()
        self.tokens += tokens

    @property
    def descent(self) -> Descent:
        """The result so far."""
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
    """Take one optimizer step on each mini-batch, in order; the weights of ``course`` change in place.

    ``deadline`` is on the clock of `time.perf_counter`; past it the loop stops after the current step.
    Raises DivergedError if a loss is NaN or infinite.
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
    """What is trained, and on which examples."""

    trainable: Trainable
    kept: Mapping[str, Tensor]
    """The result of earlier training; empty at the start."""
    passes: Sequence[Sequence[Item]]
    """The examples of each pass."""
    batch_tokens: int
    """Tokens of a mini-batch, padding included."""
    schedule: Schedule
    seed: str
    """Passed to `Trainable.installed`."""


def finetune(
    base: BaseModel,
    training: Training,
    rng: random.Random,
    deadline: float = math.inf,
    on_step: StepCallback | None = None,
) -> tuple[dict[str, Tensor], Descent]:
    """Train on the examples of each pass through the whole base, which does not change.

    Returns the new version of ``training.kept``. ``rng`` draws the order of the examples.
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
    """The `next_token_loss` of a mini-batch that is run through the whole model."""
    ids_BT = padded_ids(batch, base.device)
    return next_token_loss(base, batch, ids_BT, base.run(ids_BT))


def next_token_loss(
    base: BaseModel, batch: Sequence[Item], ids_BT: Tensor, hidden_BTD: Tensor, rivals_S: Tensor | None = None
) -> Tensor:
    """Mean over examples of the mean next-token loss over each example's learned tokens, in nats.

    ``hidden_BTD`` are final hidden states of ``ids_BT``. The vocabulary head is run only at tokens that count, and
    with ``rivals_S`` (candidate tokens in ascending order, including all learned ones) only for those candidates.
    """
    labels_BT = torch.full_like(ids_BT, _IGNORED)
    for row, item in enumerate(batch):
        labels_BT[row, item.prompt_tokens : len(item.ids)] = ids_BT[row, item.prompt_tokens : len(item.ids)]
    targets_BT = labels_BT[:, 1:]
    counted_BT = targets_BT != _IGNORED
    targets_M = targets_BT[counted_BT]
    if rivals_S is not None:
        targets_M = torch.searchsorted(rivals_S, targets_M)

    def losses(read_MD: Tensor, targets_M: Tensor) -> Tensor:
        return F.cross_entropy(base.logits(read_MD, rivals_S).float(), targets_M, reduction="none")

    read_MD = hidden_BTD[:, :-1][counted_BT]
    if len(read_MD) <= _HEAD_ROWS:
        loss_M = losses(read_MD, targets_M)
    else:  # each piece's logits are made again in the backward pass
        pieces = zip(read_MD.split(_HEAD_ROWS), targets_M.split(_HEAD_ROWS), strict=True)
        loss_M = torch.cat([checkpoint(losses, *piece, use_reentrant=False) for piece in pieces])
    share_BT = counted_BT / counted_BT.sum(dim=1, keepdim=True).clamp_min(1)
    return (loss_M * share_BT[counted_BT]).sum() / len(batch)
