"""Settings of the outer loop."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from continual_learning.options import StrategyConfig

Mode = Literal["second_order", "first_order", "reptile", "instruction"]


class StartConfig(StrategyConfig):
    """How a start is trained. The inner loop's settings are those of ttt."""

    mode: Mode = "first_order"
    """second_order: MAML through the last updates (inner rule sgd). first_order: MAML that takes the updates as
    constants. reptile: towards the weights after studying material and questions. instruction: no inner loop, plain
    training on questions and passages (pre-instruction-tuning), as the control."""
    inner_tokens: int = Field(768, ge=1)
    """Tokens of study material in an inner loop: drawn anew each time from what ttt makes of the passage."""
    inner_passes: int = Field(4, ge=1)
    """Passes over it: the few after which a start is to be good."""
    truncate: int = Field(2, ge=1)
    """How many of the last inner steps second_order differentiates through."""
    questions: int = Field(8, ge=1)
    """Most questions of a passage in one step, drawn anew each time; the address `part` asks for all studied parts."""
    passages_per_step: int = Field(4, ge=1)
    """Passages whose gradients are averaged for one step; several processes share them."""
    learning_rate: float | None = Field(None, gt=0)
    """Step size. None: 1e-3 of AdamW; in mode reptile the share of the way that is gone, 0.2."""
    warmup_steps: int = Field(5, ge=0)
    """Steps over which the rate rises; constant after, so that a run can always be made longer."""
    validate_every: int = Field(10, ge=1)
    """Steps between two validations; there is one at the beginning. What comes after the last is not judged."""
    validation_passages: int = Field(8, ge=1)
    """Passages of held-out articles that are learned at each."""
    seed: int = 0
    """Of the split, the order of the passages and what is drawn of each."""

    @property
    def rate(self) -> float:
        """The step size after the warm-up."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 0.2 if self.mode == "reptile" else 1e-3
