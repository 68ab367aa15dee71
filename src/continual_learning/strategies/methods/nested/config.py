"""Settings of the nested strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from continual_learning.options import StrategyConfig

OptimizerName = Literal["sgd", "adamw", "muon", "m3"]

SEED = 0
"""Seeds the initial factors, the choice of questions and their order."""
BY_LEVEL = ("periods", "learning_rates", "steps", "optimizers", "replay")
"""Settings that have an entry for each level."""

PUBLIC_PROGRAM = {
    "weights": "full",
    "signal": "text",
    "gate": "always",
    "periods": (0,),
    "optimizers": ("adamw",),
    "learning_rates": (5e-6,),
    "steps": (2,),
    "replay": (0.0,),
    "clip_norm": 0.3,
    "weight_decay": 0.01,
    "embeddings": True,
    "keep_optimizer": False,
}
"""The public chat program's weights and steps: the top fifth of the layers and the embeddings, two of 5e-6 a turn."""


class NestedConfig(StrategyConfig):
    """Settings of the nested strategy. Lists have an entry for each level, the fastest first."""

    # The levels.
    periods: tuple[int, ...] = (0, 64, 512)
    """Number of new tokens after which a level is updated; 0: after every turn."""
    learning_rates: tuple[float, ...] = (2e-3, 2e-3, 1e-3)
    """Learning rate of each level; it falls linearly to a tenth within an update. Rates of low-rank changes are for
    weights as large as SmolLM2-135M's: where a base's are smaller, the rate is smaller in proportion."""
    steps: tuple[int, ...] = (10, 6, 6)
    """Optimiser steps per update of each level."""
    optimizers: tuple[OptimizerName, ...] = ("adamw", "adamw", "adamw")
    """Each level's optimiser. Its state is kept from update to update, and saved to disk."""
    replay: tuple[float, ...] = (0.5, 0.5, 0.5)
    """Share of each update's training examples that is sampled from turns the level learned before."""

    # Weights of the levels.
    slow_ratio: float = Field(0.8, ge=0, lt=1)
    """Share of the blocks, from the first on, that no level ever changes."""
    weights: Literal["low_rank", "full"] = "low_rank"
    """low_rank: low-rank changes to the MLPs of the other blocks; full: all weights of those blocks, one level only."""
    embeddings: bool = False
    """With full weights: change the token embeddings too."""

    # Training.
    signal: Literal["study", "text"] = "study"
    """study: question-answer pairs made from what was said; text: the words themselves, in the chat format."""
    clip_norm: float = Field(1.0, gt=0)
    """Global norm to which gradients are clipped."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay at each step, as a share of the learning rate."""
    keep_optimizer: bool = True
    """Keep the optimisers' state between updates; otherwise each update starts a new one."""

    # Answering.
    gate: Literal["content", "always"] = "content"
    """content: use the levels for questions about the user and for those that share words with what was said; always:
    for all questions."""
    temperature: float = Field(0.0, ge=0)
    """Sampling temperature; 0: always the likeliest token."""
    top_k: int = Field(0, ge=0)
    """Sample from this many of the likeliest tokens; 0: from all."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the likeliest tokens whose probabilities add up to this."""

    RETIRED: ClassVar[Mapping[str, object]] = {
        "steps_beside": 6,
        "consolidation": 0.0,
        "rank": 8,
        "questions": 5,
        "study_tokens": 128,
        "mini_batch_tokens": 128,
        "passage_tokens": 120,
        "max_tokens": 4096,
        "slow_every": 5,
        "slow_share": 0.5,
        "seed": SEED,
        "route_threshold": 0.25,
        "route_evidence": 7.7,
        "max_loss_rise": 1.0,
    }
    """Retired options that older memories may carry, each with the value that matches what the strategy does now."""

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        lengths = {name: len(getattr(self, name)) for name in BY_LEVEL}
        if len(set(lengths.values())) > 1 or not self.periods:
            raise ValueError(f"each list needs an entry for each level, at least one; their lengths are {lengths}")
        if list(self.periods) != sorted(set(self.periods)) or self.periods[0] < 0:
            raise ValueError(f"periods {list(self.periods)} must be 0 or more, and rise from level to level")
        if min(self.learning_rates) < 0 or min(self.steps) < 1 or not all(0 <= r < 1 for r in self.replay):
            raise ValueError("learning_rates must be 0 or more, steps 1 or more, and replay at least 0 and below 1")
        if self.weights == "full" and len(self.periods) > 1:
            raise ValueError(f"weights = full takes one level, not {len(self.periods)}; give one period, such as [0]")
        if self.embeddings and self.weights != "full":
            raise ValueError("embeddings are changed only with weights = full")
        if self.weights == "full" and {"muon", "m3"} & set(self.optimizers):
            raise ValueError(f"{self.optimizers[0]} takes matrices, and full weights have vectors; use adamw or sgd")
        return self


ONE_LEVEL = {name: getattr(NestedConfig(), name)[:1] for name in BY_LEVEL}
"""The fastest of the default levels alone."""

PRESETS: dict[str, dict[str, Any]] = {"several": {}, "one": ONE_LEVEL, "public": PUBLIC_PROGRAM}
"""Named settings."""
