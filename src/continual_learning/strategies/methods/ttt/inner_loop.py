"""The inner loop: gradient descent on training examples, at test time, in the branches alone.

The blocks before the first branch are frozen, so their activations are the same at every step: they are computed
once per item and kept. Each step then runs only the blocks from the first branch on, and the
vocabulary head only at the tokens that count in the loss.

Shapes: B = items of a mini-batch, T = tokens, D = hidden size, M = tokens in the loss, S = its candidate tokens.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.ttt.dual_mlp import DualMLP, JointDualMLP, NeuronBranch
from continual_learning.training import gradient_descent
from continual_learning.training.examples import Item, mini_batches, padded_ids
from continual_learning.training.gradient_descent import Descent, Schedule, StepCallback, adamw, next_token_loss

# Items whose prefix activations are computed together: enough tokens to fill the cores, few enough to stay small.
_PREFIX_BATCH = 8


@dataclass(frozen=True)
class InnerLoop:
    """Settings of the gradient descent."""

    optimizer: str
    learning_rate: float
    batch_tokens: int
    """Tokens of a mini-batch, padding included; a longer item is a mini-batch by itself."""
    gradient_steps: int
    passes: int
    clip_norm: float = 1.0
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises to its peak."""
    final: float = 0.1
    """Share of the peak to which it falls in the remaining steps."""
    scale: float = 1.0
    """Factor on all rates, for the size of a base's weights."""

    @property
    def schedule(self) -> Schedule:
        """Learning-rate schedule and gradient clipping."""
        return Schedule(self.learning_rate, self.clip_norm, self.warmup, self.final, self.scale)

    def make_optimizer(self, branches: Mapping[int, NeuronBranch]) -> torch.optim.Optimizer:
        """Return the optimizer of what the branches learn: AdamW, or SGD, the published one (arXiv 2512.23675)."""
        weights = learned_weights(branches)
        if self.optimizer == "sgd":
            return torch.optim.SGD(weights, lr=self.learning_rate)
        return adamw(weights, self.learning_rate)


def dual_mlps(base: BaseModel, branches: Mapping[int, NeuronBranch], alpha: float) -> dict[str, torch.nn.Module]:
    """Return the replacements for `BaseModel.patched`: a Dual MLP for each block that has a branch."""
    return {base.mlp_path(b): DualMLP(base.mlp(b), branch, alpha) for b, branch in branches.items()}


def learned_weights(branches: Mapping[int, NeuronBranch]) -> list[nn.Parameter]:
    """phi: the weights that learn, block by block."""
    return [w for block in sorted(branches) for w in branches[block].learned().values()]


def prefix_activations(base: BaseModel, items: Sequence[Item], first_block: int) -> list[Tensor]:
    """The input of block ``first_block`` for each item: [T, D] each."""
    order = sorted(range(len(items)), key=lambda i: len(items[i].ids))  # similar lengths together: little padding
    found: dict[int, Tensor] = {}
    for start in range(0, len(order), _PREFIX_BATCH):
        chosen = order[start : start + _PREFIX_BATCH]
        hidden_BTD = base.hidden_before(padded_ids([items[i] for i in chosen], base.device), first_block)
        for row, i in enumerate(chosen):
            found[i] = hidden_BTD[row, : len(items[i].ids)].clone()
    return [found[i] for i in range(len(items))]


@dataclass(frozen=True)
class Job:
    """One passage to learn: its own branches, items, order of the items and optimizer."""

    branches: Mapping[int, NeuronBranch]
    alpha: float
    items: Sequence[Item]
    prefix: Sequence[Tensor]
    """`prefix_activations` of the items."""
    optimizer: torch.optim.Optimizer
    """Made by `InnerLoop.make_optimizer` for the branches; a second training run resumes with its moments."""
    rng: random.Random
    rivals_S: Tensor | None
    """Candidate tokens to which the loss's softmax is restricted, including all learned ones, ascending; None: the
    whole vocabulary. The head over 49,152 tokens is a quarter of a step's work, and all but a few thousand never
    matter."""


def descend(
    base: BaseModel, job: Job, loop: InnerLoop, deadline: float = math.inf, on_step: StepCallback | None = None
) -> Descent:
    """Train the branches of one passage on its items, in place; the base does not change.

    ``deadline`` is on the clock of `time.perf_counter`; past it the loop stops after the current step.
    Raises DivergedError if a loss is NaN or infinite.
    """
    first_block = min(job.branches)

    def loss_of(chosen: Sequence[int]) -> Tensor:
        batch, before = [job.items[i] for i in chosen], [job.prefix[i] for i in chosen]
        return mini_batch_loss(base, batch, before, first_block, job.rivals_S)

    def tokens_of(chosen: Sequence[int]) -> int:
        return len(chosen) * max(len(job.items[i].ids) for i in chosen)

    batches = inner_batches([len(item.ids) for item in job.items], loop, job.rng)
    course = gradient_descent.Course(learned_weights(job.branches), job.optimizer, loop.schedule, len(batches))
    with base.patched(dual_mlps(base, job.branches, job.alpha)):
        return gradient_descent.descend(course, batches, loss_of, tokens_of, deadline, on_step)


def descend_together(
    base: BaseModel,
    jobs: Sequence[Job],
    loop: InnerLoop,
    deadline: float = math.inf,
    on_step: StepCallback | None = None,
) -> list[Descent]:
    """Run `descend` for all jobs in step: their mini-batches go through the frozen weights as one batch.

    Each learns what it would learn alone, except for rounding; a larger batch uses a processor better.
    All branches must be in the same blocks. Raises DivergedError if any loss is NaN or infinite.
    """
    blocks = sorted(jobs[0].branches)
    batches = [inner_batches([len(item.ids) for item in job.items], loop, job.rng) for job in jobs]
    courses = [
        gradient_descent.Course(learned_weights(job.branches), job.optimizer, loop.schedule, len(own))
        for job, own in zip(jobs, batches, strict=True)
    ]
    rows = [0] * len(jobs)
    alphas = [job.alpha for job in jobs]
    modules = {
        base.mlp_path(b): JointDualMLP(base.mlp(b), [job.branches[b] for job in jobs], alphas, rows) for b in blocks
    }
    steps = max(len(own) for own in batches)
    with base.patched(modules), torch.enable_grad():
        for step in range(steps):
            chosen = [own[step] if step < len(own) else [] for own in batches]
            rows[:] = [len(own) for own in chosen]
            batch = [job.items[i] for job, own in zip(jobs, chosen, strict=True) for i in own]
            before = [job.prefix[i] for job, own in zip(jobs, chosen, strict=True) for i in own]
            ids_BT, hidden_BTD = run_items(base, batch, before, blocks[0])
            losses = []
            busy = [n for n in range(len(jobs)) if rows[n]]
            for n in busy:
                place = slice(sum(rows[:n]), sum(rows[: n + 1]))
                loss = next_token_loss(base, batch[place], ids_BT[place], hidden_BTD[place], jobs[n].rivals_S)
                courses[n].check(loss)
                jobs[n].optimizer.zero_grad(set_to_none=True)
                losses.append(loss)
            torch.stack(losses).sum().backward()
            for n in busy:
                courses[n].step(rows[n] * ids_BT.shape[1])
            if on_step:
                on_step(step + 1, steps, sum(loss.item() for loss in losses) / len(losses))
            if time.perf_counter() > deadline:
                break
    return [course.descent for course in courses]


def mini_batch_loss(
    base: BaseModel,
    batch: Sequence[Item],
    prefix: Sequence[Tensor],
    first_block: int,
    rivals_S: Tensor | None = None,
) -> Tensor:
    """Return `next_token_loss` of a mini-batch whose prefix is already computed."""
    ids_BT, hidden_BTD = run_items(base, batch, prefix, first_block)
    return next_token_loss(base, batch, ids_BT, hidden_BTD, rivals_S)


def run_items(
    base: BaseModel, batch: Sequence[Item], prefix: Sequence[Tensor], first_block: int
) -> tuple[Tensor, Tensor]:
    """Return the ids [B, T] of a mini-batch and its final hidden states [B, T, D], computed from the prefix."""
    ids_BT = padded_ids(batch, base.device)
    hidden_BTD = torch.zeros(*ids_BT.shape, prefix[0].shape[-1], dtype=prefix[0].dtype, device=base.device)
    for row, hidden_TD in enumerate(prefix):
        hidden_BTD[row, : hidden_TD.shape[0]] = hidden_TD
    return ids_BT, base.run_from(hidden_BTD, ids_BT, first_block)


def tokens_right(base: BaseModel, items: Sequence[Item], prefix: Sequence[Tensor], first_block: int) -> list[int]:
    """Return how many of each item's learned tokens are the model's first choice after those before them."""
    return [
        len(item.ids) - item.prompt_tokens - len(wrong)
        for item, wrong in zip(items, wrong_tokens(base, items, prefix, first_block), strict=True)
    ]


def wrong_tokens(base: BaseModel, items: Sequence[Item], prefix: Sequence[Tensor], first_block: int) -> list[list[int]]:
    """Return, for each item, what the model would choose from the whole vocabulary instead of the next learned token.

    An empty list means that greedy decoding gives exactly the learned tokens. This costs one forward pass, no decoding.
    """
    found: list[list[int]] = []
    with torch.no_grad():
        for start in range(0, len(items), _PREFIX_BATCH):
            batch = items[start : start + _PREFIX_BATCH]
            ids_BT, out_BTD = run_items(base, batch, prefix[start : start + _PREFIX_BATCH], first_block)
            # The head of all rows in one product: it may be larger than all blocks together.
            ends = [(item.prompt_tokens, len(item.ids)) for item in batch]
            out_MD = torch.cat([out_BTD[row, first - 1 : end - 1] for row, (first, end) in enumerate(ends)])
            best_M = base.logits(out_MD).argmax(dim=-1)
            learned_M = torch.cat([ids_BT[row, first:end] for row, (first, end) in enumerate(ends)])
            sizes = [end - first for first, end in ends]
            for best, learned in zip(best_M.split(sizes), learned_M.split(sizes), strict=True):
                found.append(best[best != learned].tolist())
    return found


def inner_batches(lengths: Sequence[int], loop: InnerLoop, rng: random.Random) -> list[list[int]]:
    """Return the mini-batches of all passes, each repeated once per gradient step."""
    passes = (mini_batches(lengths, loop.batch_tokens, rng) for _ in range(loop.passes))
    return [batch for one_pass in passes for batch in one_pass for _ in range(loop.gradient_steps)]
