"""A participant in a comparison: a strategy with its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from continual_learning.errors import InputError
from continual_learning.evaluation.cache import digest
from continual_learning.model.base_model import BaseModel
from continual_learning.model.prepared import stamp
from continual_learning.strategies.base import Strategy, make_strategy, strategy_class

_PROBE = "Who said: “Ça va,\n  Zoë”?  It's 3,141.59 — naïve 東京 🙂 \t<|im_end|> #x1"
"""A text that tokenizers differ on."""
_NAMES = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"}
"""Fields of a configuration that change no answer, or are known otherwise."""


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
    """What the answers depend on in a base: weights, configuration, tokenizer, template, precision, what was prepared.

    The code that loads them is not part of what a result depends on (`code_digest`), so they are all here.
    """
    config: Any = base.model.config.get_text_config()
    facts = config.to_dict() if hasattr(config, "to_dict") else asdict(config)
    key = {
        "weights": base.fingerprint,
        "config": {key: str(value) for key, value in facts.items() if key not in _NAMES},
        "tokens": digest([base.encode(_PROBE), base.chat_ids([{"role": "user", "content": _PROBE}])]),
        "dtype": str(base.model.dtype),
        "precision": base.linears.precision,
    }
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
