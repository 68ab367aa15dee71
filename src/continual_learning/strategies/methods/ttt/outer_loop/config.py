"""Settings of the outer loop."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from continual_learning.options import StrategyConfig

Mode = Literal["second_order", "first_order", "reptile", "instruction"]


class StartConfig(StrategyConfig):
    """How a start is meta-learned. The inner loop's settings are those of ttt."""

    mode: Mode = "first_order"
    """second_order: MAML through the last updates (inner optimizer sgd). first_order: MAML that treats the updates as
    constants. reptile: moves towards the weights after training on examples and questions. instruction: no inner loop,
    plain training on questions and passages (pre-instruction-tuning), as the control."""
    inner_tokens: int = Field(768, ge=1)
    """Tokens of training examples in an inner loop, sampled anew each time from those that ttt makes of the passage."""
    inner_passes: int = Field(4, ge=1)
    """Passes over these: the few after which a start should do well."""
    truncate: int = Field(2, ge=1)
    """How many of the last inner steps second_order differentiates through."""
    questions: int = Field(8, ge=1)
    """Maximum number of questions per passage and step in mode instruction; the others ask for all trained parts."""
    passages_per_step: int = Field(4, ge=1)
    """Passages whose gradients are averaged in one step; several processes share them."""
    learning_rate: float | None = Field(None, gt=0)
    """Step size. None: 1e-3 for AdamW; in mode reptile, the fraction of the difference that is applied, 0.2."""
    warmup_steps: int = Field(5, ge=0)
    """Steps over which the rate rises; it is constant afterwards, so that a run can always be made longer."""
    validate_every: int = Field(10, ge=1)
    """Steps between two validations; the first is at the beginning. Steps after the last one are not validated."""
    validation_passages: int = Field(8, ge=1)
    """Number of passages from held-out articles that are learned at each validation."""
    seed: int = 0
    """Seeds the split, the order of the passages and what is sampled from each."""

    @property
    def rate(self) -> float:
        """The step size after the warm-up."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 0.2 if self.mode == "reptile" else 1e-3
