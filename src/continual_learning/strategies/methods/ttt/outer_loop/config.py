"""Settings of the outer loop."""

from __future__ import annotations

from pydantic import Field

from continual_learning.options import StrategyConfig


class StartConfig(StrategyConfig):
    """How a start is meta-learned. The inner loop's settings are those of ttt."""

    inner_steps: int = Field(3, ge=1, le=5)
    """Steps on a passage after which a start should do well."""
    truncate: int = Field(5, ge=1, le=5)
    """How many of the last inner steps the gradient goes through."""
    passages: int = Field(256, ge=1)
    """Number of passages to train on, drawn once; about 0.7 MB is kept of each."""
    passages_per_step: int = Field(4, ge=1)
    """Passages whose gradients are averaged in one step; several processes share them."""
    learning_rate: float = Field(3e-3, gt=0)
    """Step size of AdamW after a short warm-up; it is constant, so that a run can always be made longer."""
    validate_every: int = Field(10, ge=1)
    """Steps between two validations; the first is at the beginning. Steps after the last one are not validated."""
    validation_passages: int = Field(12, ge=1)
    """Number of passages from held-out articles that are learned at each validation."""
    seed: int = 0
    """Seeds the split, the order of the passages and what is sampled from each."""
