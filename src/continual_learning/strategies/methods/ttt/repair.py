"""Further training on what is not yet recited word for word.

Gradient descent on all parts of a passage leaves one in twenty wrong in a word: a capital, a token that was no
candidate in the loss, the opening of a part that begins like another. After it, each part is checked against the whole
vocabulary (one forward pass, no decoding). Those that fail are trained again together with some that do not, with the
model's wrong choices added to the candidate tokens, until all are right or the rounds are over.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch

from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.strategies.methods.ttt.dual_mlp import rounded
from continual_learning.strategies.methods.ttt.inner_loop import InnerLoop, Job, descend, dual_mlps, wrong_tokens
from continual_learning.training.gradient_descent import StepCallback

# Deltas are stored in half precision: their values are small, and this keeps memories small.
STORED_TYPE = torch.float16

# A round: this many passes at this share of the learning rate over the parts that fail, with this many others for each.
_PASSES, _RATE, _OTHERS = 2, 0.3, 2


@dataclass(frozen=True)
class Repair:
    """The result of repairing."""

    wrong: list[list[int]]
    """`wrong_tokens` of each item at the end."""
    tokens: int
    """Tokens that went through the branches, padding included."""


def repair(
    base: BaseModel,
    job: Job,
    loop: InnerLoop,
    rounds: int,
    deadline: float = math.inf,
    on_step: StepCallback | None = None,
) -> Repair:
    """Train the branches, in place, until the model itself chooses the items, for at most ``rounds`` rounds (0: only
    check).

    The weights are checked as they are stored, in `STORED_TYPE`. ``job`` is as training left it, with its optimizer.
    Past ``deadline`` (`time.perf_counter`) no round begins. Raises DivergedError if a loss is NaN or infinite.
    """
    again = replace(loop, learning_rate=_RATE * loop.learning_rate, passes=_PASSES, gradient_steps=1, warmup=0, final=1)
    count, rivals_S = len(job.items), job.rivals_S
    done = tokens = 0
    while True:
        kept = {b: rounded(branch, mlp_parts(base.mlp(b)), STORED_TYPE) for b, branch in job.branches.items()}
        with base.patched(dual_mlps(base, kept, job.alpha)):
            wrong = wrong_tokens(base, job.items, job.prefix, min(kept))
        failing = [i for i in range(count) if wrong[i]]
        if not failing or done == rounds or time.perf_counter() > deadline:
            return Repair(wrong, tokens)
        if rivals_S is not None:
            winners = torch.tensor([token for i in failing for token in wrong[i]], device=rivals_S.device)
            rivals_S = torch.cat([rivals_S, winners]).unique(sorted=True)
        right = [i for i in range(count) if not wrong[i]]
        chosen = failing + job.rng.sample(right, min(len(right), _OTHERS * len(failing)))
        items, prefix = [job.items[i] for i in chosen], [job.prefix[i] for i in chosen]
        tokens += descend(
            base, replace(job, items=items, prefix=prefix, rivals_S=rivals_S), again, deadline, on_step
        ).tokens
        done += 1
