"""A participant in a comparison: a strategy with its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from continual_learning.errors import InputError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.prepared import stamp
from continual_learning.strategies.base import Strategy, make_strategy, strategy_class


@dataclass(frozen=True)
class Contender:
    """A strategy and its options that differ from their defaults."""

    strategy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    """The label of its row; if empty, the strategy's name."""

    @property
    def name(self) -> str:
        """The label of its row."""
        return self.label or self.strategy

    def make(self, seed: int) -> Strategy[Any]:
        """Create the strategy. ``seed`` is passed to a strategy with such a setting, unless the options set it.

        Raises UnknownNameError and ConfigError.
        """
        has_seed = "seed" in strategy_class(self.strategy).Config.model_fields
        given = {"seed": seed} if has_seed else {}
        return make_strategy(self.strategy, {**given, **self.options})

    def key(self, base: BaseModel, seed: int) -> dict[str, Any]:
        """What its results depend on."""
        config = self.make(seed).config.model_dump(mode="json")
        return {"base": base_key(base), "strategy": self.strategy, "config": config}


def base_key(base: BaseModel) -> dict[str, Any]:
    """What the answers depend on in a base: the weights, the precision of the computation, what was prepared for it."""
    key = {"weights": base.fingerprint, "dtype": str(base.model.dtype), "precision": base.linears.precision}
    made = stamp(base.fingerprint)
    return {**key, "prepared": made} if made else key


def contenders(names: Sequence[str | Contender]) -> list[Contender]:
    """Convert names to contenders, checking each one now rather than in the middle of a run."""
    found = [name if isinstance(name, Contender) else Contender(name) for name in names]
    if not found:
        raise InputError("0 strategies to compare; expected at least one, such as ttt,frozen")
    for contender in found:
        contender.make(0)
    return found
