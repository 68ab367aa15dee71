"""The gradient of one passage's task with respect to the start phi_0, in four modes.

    second_order   d L(phi_T) / d phi_0 through the last ``truncate`` updates; those before shift phi by a constant
    first_order    d L(phi_T) / d phi_T, as if phi_T = phi_0 + constant (MAML's first-order form; arXiv 1703.03400, 5.2)
    reptile        phi_0 - phi_T, with the questions trained on after the examples (arXiv 1803.02999, algorithm 1)
    instruction    d L(phi_0) / d phi_0 of questions and passage together (arXiv 2402.12847)

The inner loop is ttt's own `descend`. second_order needs its updates as functions, and therefore SGD, the published
inner optimizer: AdamW's first update is the sign of the gradient, whose slope is unbounded at 0, where many gradients
of a new branch are.

Shapes: T = steps of an inner loop; all others as in `ttt.inner_loop`.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from continual_learning.errors import DivergedError
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.ttt.dual_mlp import NeuronBranch
from continual_learning.strategies.methods.ttt.inner_loop import (
    InnerLoop,
    Job,
    descend,
    dual_mlps,
    inner_batches,
    learned_weights,
    mini_batch_loss,
    tokens_right,
)
from continual_learning.strategies.methods.ttt.outer_loop.config import Mode
from continual_learning.strategies.methods.ttt.outer_loop.tasks import Task

Branches = Mapping[int, NeuronBranch]


@dataclass(frozen=True)
class TaskGradient:
    """For one passage, the gradient of each learned weight, in the order of `learned_weights`, and the outer loss."""

    gradient: list[Tensor]
    loss: float
    """Mean over the questions, in nats per token, at the weights where the gradient was taken."""


def task_gradient(
    base: BaseModel,
    branches: Branches,
    alpha: float,
    task: Task,
    mode: Mode,
    loop: InnerLoop,
    truncate: int,
    rng: random.Random,
) -> TaskGradient:
    """Return the gradient of one task. ``branches`` hold phi_0 and do not change; nor does the base.

    Raises DivergedError if a loss is NaN or infinite.
    """
    if mode == "second_order":
        return _second_order(base, branches, alpha, task, loop, truncate, rng)
    adapted = branches if mode == "instruction" else adapt(base, branches, alpha, task, loop, rng)
    if mode == "reptile":
        before = learned_weights(branches)
        with torch.no_grad():
            loss, _ = _outer_loss(base, adapted, alpha, task)
        asked = adapt(base, adapted, alpha, task, loop, rng, asked=True)
        moved = zip(before, learned_weights(asked), strict=True)
        return TaskGradient([(old - new).detach() for old, new in moved], _finite(loss))
    with torch.enable_grad():
        loss, extra = _outer_loss(base, adapted, alpha, task, with_study=mode == "instruction")
        gradient = torch.autograd.grad(loss + extra, learned_weights(adapted))
    return TaskGradient(list(gradient), _finite(loss))


def adapt(
    base: BaseModel,
    branches: Branches,
    alpha: float,
    task: Task,
    loop: InnerLoop,
    rng: random.Random,
    asked: bool = False,
) -> dict[int, NeuronBranch]:
    """Return copies of the branches after the inner loop on the examples, or with ``asked`` on the questions."""
    learned = {block: copy.deepcopy(branch) for block, branch in branches.items()}
    items, prefix = (task.asked, task.asked_prefix) if asked else (task.study, task.study_prefix)
    if items:
        descend(base, Job(learned, alpha, items, prefix, loop.make_optimizer(learned), rng, task.rivals_S), loop)
    return learned


def judge(base: BaseModel, branches: Branches, alpha: float, task: Task) -> tuple[float, int, int]:
    """Return the questions' loss in nats per token, the number of their answers' tokens, and how many are right."""
    with torch.no_grad():
        loss, _ = _outer_loss(base, branches, alpha, task)
        with base.patched(dual_mlps(base, branches, alpha)):
            right = sum(tokens_right(base, task.asked, task.asked_prefix, min(branches)))
    return loss.item(), sum(len(item.ids) - item.prompt_tokens for item in task.asked), right


def _outer_loss(
    base: BaseModel, branches: Branches, alpha: float, task: Task, with_study: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the questions' loss against the whole vocabulary, and, if wanted, that of the training examples."""
    first_block = min(branches)
    with base.patched(dual_mlps(base, branches, alpha)):
        asked = mini_batch_loss(base, task.asked, task.asked_prefix, first_block)
        if not with_study or not task.study:
            return asked, torch.zeros_like(asked)
        return asked, mini_batch_loss(base, task.study, task.study_prefix, first_block)


def _second_order(
    base: BaseModel, branches: Branches, alpha: float, task: Task, loop: InnerLoop, truncate: int, rng: random.Random
) -> TaskGradient:
    """Compute phi_T as a function of phi_0, and the gradient through it. The outer loss is that of the other modes."""
    first_block = min(branches)
    start = learned_weights(branches)
    batches = inner_batches([len(item.ids) for item in task.study], loop, rng)
    # Fused attention has no second derivative.
    with torch.enable_grad(), sdpa_kernel([SDPBackend.MATH]), base.patched(dual_mlps(base, branches, alpha)):
        phi: list[Tensor] = [w.detach() for w in start]
        for step, batch in enumerate(batches):
            through = step >= len(batches) - truncate
            if step == max(0, len(batches) - truncate):
                # Up to here the updates count as a constant shift of phi_0.
                phi = [w + (p - w).detach() for w, p in zip(start, phi, strict=True)]
            elif not through:
                phi = [p.detach().requires_grad_() for p in phi]
            with _weights(branches, phi):
                items, prefix = [task.study[i] for i in batch], [task.study_prefix[i] for i in batch]
                loss = mini_batch_loss(base, items, prefix, first_block, task.rivals_S)
                _finite(loss)
                gradient = torch.autograd.grad(loss, phi, create_graph=through)
            rate = loop.schedule.rate(step, len(batches))
            phi = sgd_update(phi, gradient, rate, loop.clip_norm)
        with _weights(branches, phi):
            outer = mini_batch_loss(base, task.asked, task.asked_prefix, first_block)
            return TaskGradient(list(torch.autograd.grad(outer, start)), _finite(outer))


def sgd_update(phi: Sequence[Tensor], gradient: Sequence[Tensor], rate: float, clip_norm: float) -> list[Tensor]:
    """phi - rate * gradient, clipped to a global norm as `torch.nn.utils.clip_grad_norm_` does.

    Differentiable.
    """
    square = torch.stack([(g * g).sum() for g in gradient]).sum()
    # The square root has no finite slope at 0, and a gradient of 0 is not clipped.
    norm = torch.sqrt(torch.where(square > 0, square, torch.ones_like(square)))
    scale = torch.where(square > 0, (clip_norm / (norm + 1e-6)).clamp(max=1.0), torch.ones_like(norm))
    return [p - rate * scale * g for p, g in zip(phi, gradient, strict=True)]


@contextmanager
def _weights(branches: Branches, phi: Sequence[Tensor]) -> Iterator[None]:
    """Give the branches these tensors as learned weights, as functions of whatever they were computed from."""
    places = [(branches[block], name) for block in sorted(branches) for name in branches[block].learned()]
    originals = [branch._parameters[name] for branch, name in places]
    try:
        for (branch, name), tensor in zip(places, phi, strict=True):
            branch._parameters[name] = tensor  # type: ignore[assignment] # as torch.func.functional_call does
        yield
    finally:
        for (branch, name), parameter in zip(places, originals, strict=True):
            branch._parameters[name] = parameter


def _finite(loss: Tensor) -> float:
    value = loss.item()
    if not torch.isfinite(loss):
        raise DivergedError(f"the loss became {value} in the outer loop; try a lower learning_rate, inner or outer")
    return value
