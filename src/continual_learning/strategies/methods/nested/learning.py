"""One turn: every level whose period is over is updated, the fastest first.

A level l with period C_l waits for C_l tokens, whatever the number of turns that takes, and is then updated on
training examples of those turns (Behrouz et al. 2025, the continuum memory system: static until its next period):

    Delta_l <- Delta_l - steps of its optimiser on the loss of examples of the last C_l tokens.

The paper sums the errors of C_l steps and applies them once; here they are separate mini-batches. An update has room
for ``steps`` x `MINI_BATCH_TOKENS`: if the turns give more, every turn has one example before any has a second. What a
level waits for is part of the memory. So that no turn takes much longer than another, a turn updates at most one of the
slower levels, the most overdue; the next turn may update another; and the fastest level takes fewer steps in such a
turn (`STEPS_BESIDE`). Each update also trains on a share of earlier turns (``replay``).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from continual_learning.errors import DivergedError
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.nested.config import NestedConfig
from continual_learning.strategies.methods.nested.levels import distance, fast_blocks, learned, levels_in_place
from continual_learning.strategies.methods.nested.material import drawn, pair_item, turn_pairs
from continual_learning.strategies.methods.nested.memory import Memory
from continual_learning.strategies.methods.nested.optimisers import make_optimizer, optimizer_state
from continual_learning.strategies.methods.nested.staged import Staged, rival_tokens
from continual_learning.training.examples import Item, mini_batches
from continual_learning.training.gradient_descent import Course, Schedule, descend
from continual_learning.training.weight_size import weight_share

# The loss before and after is that of this many examples of the newest turn.
_PROBES = 3
STEPS_BESIDE = 6
"""Maximum steps of the fastest level in a turn that also updates a slower one, which trains on that turn as well: as
many as the slower one takes, so that no turn takes much longer than another."""
MINI_BATCH_TOKENS = 128
"""Tokens of a mini-batch, padding included."""
MAX_LOSS_RISE = 1.0
"""Largest rise in a turn's loss from learning it, in nats per token; learning that works lowers it by some nats."""


@dataclass(frozen=True)
class LevelUpdate:
    """What one update of a level did."""

    level: int
    turns: int
    """Number of turns that it had waited for."""
    steps: int
    distance: float
    """Euclidean norm of the change to the weights."""


@dataclass(frozen=True)
class TurnReport:
    """The result of learning one turn."""

    updates: tuple[LevelUpdate, ...]
    loss_before: float
    loss_after: float
    """Both losses are on the newest turn's training examples, in nats per token."""


def learn_turn(
    base: BaseModel,
    config: NestedConfig,
    memory: Memory,
    seed: str,
) -> TurnReport:
    """Let the levels learn the newest turn of ``memory``, which changes in place.

    Raises DivergedError if a loss is not finite or rises by more than `MAX_LOSS_RISE`; the memory is then of
    no use, and the caller keeps the one before.
    """
    rng = random.Random(seed)
    newest = len(memory.turns) - 1
    # If the embeddings change, no block's input is fixed.
    staged = Staged(base, None if config.embeddings else fast_blocks(base, config.slow_ratio).start)
    for waiting in memory.waiting:
        waiting.append(newest)
    due = _due(config, memory)
    probes = [pair_item(base, pair) for pair in turn_pairs(base, memory.turns[newest], config)[:_PROBES]]
    before = _loss(base, config, memory, staged, probes)
    steps = {level: config.steps[level] for level in due}
    if len(due) > 1:
        steps[due[0]] = min(steps[due[0]], STEPS_BESIDE)
    updates = [_update(base, config, memory, level, steps[level], staged, rng) for level in due]
    after = _loss(base, config, memory, staged, probes) if due else before
    if not math.isfinite(after) or after > before + MAX_LOSS_RISE:
        raise DivergedError(
            f"the loss went from {before:.2f} to {after:.2f}, expected a rise of at most {MAX_LOSS_RISE:g}; the "
            "last good weights are back: lower learning_rates"
        )
    return TurnReport(tuple(updates), before, after)


def _due(config: NestedConfig, memory: Memory) -> list[int]:
    """Return the fastest level if its period is over, and the most overdue of the slower ones whose period is over."""
    waited = [sum(memory.turns[i].tokens for i in waiting) for waiting in memory.waiting]
    over = [level for level, tokens in enumerate(waited) if tokens >= config.periods[level]]
    slower = [level for level in over if level > 0]
    return [level for level in over if level == 0] + (
        [max(slower, key=lambda level: waited[level] / config.periods[level])] if slower else []
    )


@torch.no_grad()
def _loss(base: BaseModel, config: NestedConfig, memory: Memory, staged: Staged, items: Sequence[Item]) -> float:
    with levels_in_place(base, config, memory.levels):
        return float(staged.loss(items))


def _update(
    base: BaseModel,
    config: NestedConfig,
    memory: Memory,
    level: int,
    steps: int,
    staged: Staged,
    rng: random.Random,
) -> LevelUpdate:
    """Train one level on what it waited for; the others do not change."""
    waited = memory.waiting[level]
    room = steps * MINI_BATCH_TOKENS
    own = [turn_pairs(base, memory.turns[i], config) for i in waited]
    items = drawn(base, own, round(room * (1 - config.replay[level])), rng)
    items += _replayed(base, config, memory, waited, round(room * config.replay[level]), rng)
    rivals_S = rival_tokens(base, items, rng)
    batches = _batches(items, steps, rng)
    kept = memory.optimizers[level] if config.keep_optimizer else {}
    scale = weight_share(base) if config.weights == "low_rank" else 1.0
    schedule = Schedule(config.learning_rates[level], config.clip_norm, 0.0, scale=scale)
    with levels_in_place(base, config, memory.levels, level) as parameters:
        optimizer = make_optimizer(config, level, parameters, kept)
        course = Course(list(parameters.values()), optimizer, schedule, len(batches))
        descent = descend(course, batches, lambda b: staged.loss(b, rivals_S), len)
    now = learned(base, config, parameters)
    moved = distance(memory.levels[level], now)
    memory.levels[level] = now
    memory.optimizers[level] = optimizer_state(optimizer, parameters) if config.keep_optimizer else {}
    memory.waiting[level] = []
    memory.updates[level] += 1
    return LevelUpdate(level, len(waited), descent.steps, moved)


def _replayed(
    base: BaseModel, config: NestedConfig, memory: Memory, waited: Sequence[int], tokens: int, rng: random.Random
) -> list[Item]:
    """Return items of turns that the level learned before, each turn equally likely."""
    earlier = sorted(set(range(len(memory.turns))) - set(waited))
    found: list[Item] = []
    for i in rng.sample(earlier, len(earlier)):
        if sum(len(item.ids) for item in found) >= tokens:
            break
        found.append(pair_item(base, rng.choice(turn_pairs(base, memory.turns[i], config))))
    return found


def _batches(items: Sequence[Item], steps: int, rng: random.Random) -> list[list[Item]]:
    """Return mini-batches for this many steps, pass after pass."""
    found: list[list[Item]] = []
    lengths = [len(item.ids) for item in items]
    while len(found) < steps:
        found += [[items[i] for i in batch] for batch in mini_batches(lengths, MINI_BATCH_TOKENS, rng)]
    return found[:steps]
