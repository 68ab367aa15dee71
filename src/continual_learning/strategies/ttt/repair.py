"""Studying further what is not yet recited word for word.

Gradient descent on all parts of a passage leaves one in twenty wrong in a word: a capital, a token that did not
compete in the loss, the opening of a part that begins alike. After it, each part is checked against the whole
vocabulary (one forward pass, no decoding); those that fail are studied again among some that do not, with what the
model chose in their place among the competitors, until all are right or the rounds are over.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from continual_learning.base import BaseModel
from continual_learning.finetuning import StepCallback
from continual_learning.nn.dual_mlp import NeuronBranch
from continual_learning.strategies.ttt.inner_loop import InnerLoop, descend, dual_mlps, wrong_tokens
from continual_learning.study_items import Item

# A round: this many passes at this share of the learning rate over the parts that fail, with this many others for each.
_PASSES, _RATE, _OTHERS = 2, 0.3, 2


@dataclass(frozen=True)
class Repair:
    """What repairing did."""

    rounds: int
    steps: int
    tokens: int
    """Tokens that went through the branches, padding included."""


def repair(
    base: BaseModel,
    branches: Mapping[int, NeuronBranch],
    alpha: float,
    items: Sequence[Item],
    prefix: Sequence[Tensor],
    loop: InnerLoop,
    optimizer: torch.optim.Optimizer,
    rng: random.Random,
    rivals_S: Tensor | None,
    rounds: int,
    deadline: float = math.inf,
    on_step: StepCallback | None = None,
) -> Repair:
    """Train the branches, in place, until every item is the model's own choice, for at most so many rounds.

    ``optimizer`` is the one that trained them. Past ``deadline`` (`time.perf_counter`) no round begins.
    Raises DivergedError when a loss is NaN or infinite.
    """
    again = replace(loop, learning_rate=_RATE * loop.learning_rate, passes=_PASSES, gradient_steps=1, warmup=0, final=1)
    steps = tokens = 0
    for done in range(rounds):
        if time.perf_counter() > deadline:
            return Repair(done, steps, tokens)
        with base.patched(dual_mlps(base, branches, alpha)):
            wrong = wrong_tokens(base, items, prefix, min(branches))
        failing = [i for i in range(len(items)) if wrong[i]]
        if not failing:
            return Repair(done, steps, tokens)
        if rivals_S is not None:
            winners = torch.tensor([token for i in failing for token in wrong[i]], device=rivals_S.device)
            rivals_S = torch.cat([rivals_S, winners]).unique(sorted=True)
        right = [i for i in range(len(items)) if i not in failing]
        studied = failing + rng.sample(right, min(len(right), _OTHERS * len(failing)))
        descent = descend(
            base,
            branches,
            alpha,
            [items[i] for i in studied],
            [prefix[i] for i in studied],
            again,
            rng,
            rivals_S,
            deadline,
            on_step,
            optimizer=optimizer,
        )
        steps += descent.steps
        tokens += descent.tokens
    return Repair(rounds, steps, tokens)
