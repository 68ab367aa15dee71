"""Levels: weights that each have a pace of their own, put into the base while they learn and answer.

Level 0 is the base, which never changes. The others are changes to the last blocks: low-rank changes that add up on
the linear layers of the MLPs (`low_rank`), or, with a single level, fp32 copies of all weights of those blocks.

    out = (W_0 + sum over levels l of Delta_l) x

A new level changes nothing: the base is reproduced bit for bit, as it is with a learning rate of 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from continual_learning.errors import ConfigError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import is_transposed
from continual_learning.strategies.methods.nested.config import SEED, NestedConfig
from continual_learning.strategies.methods.nested.low_rank import LowRankLevels, new_factors
from continual_learning.training.all_weights import parameters_in_place, require_full

RANK = 8
"""Rank of a level's changes: three levels take 4 MB for the embedded model, and what a chat tells is little."""

Level = dict[str, Tensor]
"""What one level learned: ``<path>.A`` and ``<path>.B``, or the change of each parameter by its name; fp32, CPU."""


def fast_blocks(base: BaseModel, slow_ratio: float) -> range:
    """The blocks that levels change: all but the first ``slow_ratio`` of them, at least one."""
    count = base.block_count
    return range(min(count - 1, round(count * slow_ratio)), count)


def keeps_transposed(base: BaseModel) -> bool:
    """Whether the MLPs' weights are [inputs, outputs], which an adapter's settings must state."""
    return any(is_transposed(module) for module in base.mlp(-1).modules())


def level_name(number: int) -> str:
    """Return the name of the part of a state that holds a level; the fastest is ``level1``."""
    return f"level{number + 1}"


def new_levels(base: BaseModel, config: NestedConfig) -> list[Level]:
    """Return levels that change nothing yet. Raises ConfigError for full weights that are not in float32."""
    if config.weights == "full":
        return [{name: torch.zeros_like(p, device="cpu") for name, p in _own(base, config).items()}]
    levels = []
    for number in range(len(config.periods)):
        level: Level = {}
        for path, linear in _linears(base, config).items():
            factors = new_factors(linear, RANK, f"{SEED}:{number}:{path}")
            level[f"{path}.A"], level[f"{path}.B"] = factors
        levels.append(level)
    return levels


@contextmanager
def levels_in_place(
    base: BaseModel, config: NestedConfig, levels: Sequence[Level], learning: int | None = None
) -> Iterator[dict[str, nn.Parameter]]:
    """Put these levels into the base. Yields the parameters of the level ``learning``, which takes gradients.

    Their final values are read with `learned`.
    """
    if config.weights == "full":
        whole = {
            name: nn.Parameter((p.detach() + levels[0][name].to(p.device)).contiguous(), learning is not None)
            for name, p in _own(base, config).items()
        }
        with parameters_in_place(base.model, whole):
            yield whole
        return
    parameters = [
        {name: nn.Parameter(t.to(base.device, copy=True), number == learning) for name, t in level.items()}
        for number, level in enumerate(levels)
    ]
    modules = {
        path: LowRankLevels(linear, [(p[f"{path}.A"], p[f"{path}.B"]) for p in parameters])
        for path, linear in _linears(base, config).items()
    }
    with base.patched(modules):
        yield {} if learning is None else parameters[learning]


def learned(base: BaseModel, config: NestedConfig, parameters: Mapping[str, nn.Parameter]) -> Level:
    """Return a level from its parameters, once the base has its own weights again."""
    if config.weights == "low_rank":
        return {name: p.detach().to("cpu") for name, p in parameters.items()}
    own = _own(base, config)
    return {name: (p.detach() - own[name].detach()).to("cpu") for name, p in parameters.items()}


def change(level: Level) -> dict[str, Tensor]:
    """Return a level's change to each weight matrix, [F, D] by the linear layer's path, or to each parameter."""
    if not any(name.endswith(".A") for name in level):
        return dict(level)
    paths = [name.removesuffix(".A") for name in level if name.endswith(".A")]
    return {path: level[f"{path}.B"] @ level[f"{path}.A"] for path in paths}


def distance(a: Level, b: Level) -> float:
    """Return the Euclidean distance between the changes that two states of a level make."""
    left, right = change(a), change(b)
    return math.hypot(*(float((left[path] - right[path]).norm()) for path in left))


def _linears(base: BaseModel, config: NestedConfig) -> dict[str, nn.Module]:
    """Return the linear layers of the MLPs that levels change, by path."""
    found: dict[str, nn.Module] = {}
    for block in fast_blocks(base, config.slow_ratio):
        for name, module in base.mlp(block).named_modules():
            if isinstance(module, nn.Linear) or is_transposed(module):
                found[f"{base.mlp_path(block)}.{name}"] = module
    return found


def _own(base: BaseModel, config: NestedConfig) -> dict[str, nn.Parameter]:
    """Return the base's own parameters that full weights change, by name."""
    require_full(base)
    prefixes = tuple(f"{base.block_path(block)}." for block in fast_blocks(base, config.slow_ratio))
    embedding = base.model.get_input_embeddings().weight
    found = {
        name: p
        for name, p in base.model.named_parameters()
        if name.startswith(prefixes) or (config.embeddings and p is embedding)
    }
    half = next((p.dtype for p in found.values() if p.dtype != torch.float32), None)
    if half is not None:
        raise ConfigError(f"weights = full on a model in {half}: updates would be rounded away; load it in float32")
    return found
