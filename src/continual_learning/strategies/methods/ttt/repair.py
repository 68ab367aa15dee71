"""Studying further what is not yet recited word for word.

Gradient descent on all parts of a passage leaves one in twenty wrong in a word: a capital, a token that did not
compete in the loss, the opening of a part that begins alike. After it, each part is checked against the whole
vocabulary (one forward pass, no decoding); those that fail are studied again among some that do not, with what the
model chose in their place among the competitors, until all are right or the rounds are over.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch

from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.strategies.methods.ttt.distillation import SoftStudy
from continual_learning.strategies.methods.ttt.dual_mlp import rounded
from continual_learning.strategies.methods.ttt.inner_loop import InnerLoop, Job, descend, dual_mlps, wrong_tokens
from continual_learning.training.gradient_descent import StepCallback

# A round: this many passes at this share of the learning rate over the parts that fail, with this many others for each.
_PASSES, _RATE, _OTHERS = 2, 0.3, 2


@dataclass(frozen=True)
class Repair:
    """What repairing came to."""

    wrong: list[list[int]]
    """`wrong_tokens` of each item at the end."""
    tokens: int
    """Tokens that went through the branches, padding included."""


def repair(
    base: BaseModel,
    job: Job,
    count: int,
    kept_as: torch.dtype,
    loop: InnerLoop,
    rounds: int,
    soft: SoftStudy | None = None,
    deadline: float = math.inf,
    on_step: StepCallback | None = None,
) -> Repair:
    """Train the branches, in place, until the first ``count`` items are the model's own choice, for at most so many
    rounds; with 0 they are only checked.

    What is checked are the weights as they are kept, in the type ``kept_as``. ``job`` is as it was trained, its
    optimizer too. Of ``soft``, what is said of ordinary text goes on to count. Past ``deadline``
    (`time.perf_counter`) no round begins. Raises DivergedError when a loss is NaN or infinite.
    """
    again = replace(loop, learning_rate=_RATE * loop.learning_rate, passes=_PASSES, gradient_steps=1, warmup=0, final=1)
    items, prefix, rivals_S = job.items[:count], job.prefix[:count], job.rivals_S
    done = tokens = 0
    while True:
        kept = {b: rounded(branch, mlp_parts(base.mlp(b)), kept_as) for b, branch in job.branches.items()}
        with base.patched(dual_mlps(base, kept, job.alpha)):
            wrong = wrong_tokens(base, items, prefix, min(kept))
        failing = [i for i in range(count) if wrong[i]]
        if not failing or done == rounds or time.perf_counter() > deadline:
            return Repair(wrong, tokens)
        if rivals_S is not None:
            winners = torch.tensor([token for i in failing for token in wrong[i]], device=rivals_S.device)
            rivals_S = torch.cat([rivals_S, winners]).unique(sorted=True)
        right = [i for i in range(count) if not wrong[i]]
        studied = failing + job.rng.sample(right, min(len(right), _OTHERS * len(failing)))
        tokens += descend(
            base,
            job.branches,
            job.alpha,
            [items[i] for i in studied],
            [prefix[i] for i in studied],
            again,
            job.rng,
            rivals_S,
            deadline,
            on_step,
            replace(soft, distill_weight=0.0) if soft else None,
            job.optimizer,
        ).tokens
        done += 1
