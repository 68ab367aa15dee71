"""The NL_* variables of the public nested learning program, as settings of this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from continual_learning.errors import ConfigError

# variable -> setting of this program
SETTINGS = {
    "NL_MODEL_PATH": "model.name",
    "NL_MAX_NEW_TOKENS": "max_new_tokens",
    "NL_CONTEXT_WINDOW": "nested.context_window",
    "NL_ADAPT_EVERY_TURN": "nested.adapt_every_turn",
    "NL_ADAPT_EVERY_N_TURNS": "nested.adapt_every_n_turns",
    "NL_ADAPT_USER_ONLY": "nested.adapt_user_only",
    "NL_CUMULATIVE_CONTEXT": "nested.cumulative_context",
    "NL_AUTO_RESET_THRESHOLD": "nested.auto_reset_threshold",
    "NL_CHECKPOINT_DIR": "nested.checkpoint_dir",
    "NL_AUTO_SAVE_EVERY_N": "nested.auto_save_every_n",
}
# variable -> option of the strategy
OPTIONS = {
    "NL_SLOW_RATIO": "slow_ratio",
    "NL_MAX_GRAD_NORM": "clip_norm",
    "NL_WEIGHT_DECAY": "weight_decay",
    "NL_TEMPERATURE": "temperature",
    "NL_TOP_K": "top_k",
    "NL_TOP_P": "top_p",
}
# variable -> option of the strategy that has an entry for each level
LEVEL_OPTIONS = {"NL_LEARNING_RATE": "learning_rates", "NL_ADAPT_STEPS": "steps"}


@dataclass(frozen=True)
class FromEnvironment:
    """What the variables say, as text."""

    settings: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    each_level: dict[str, str] = field(default_factory=dict)


def read_environment(environ: Mapping[str, str]) -> FromEnvironment:
    """The NL_* variables. Raises ConfigError for one that this program does not know."""
    found = FromEnvironment()
    for variable in sorted(v for v in environ if v.startswith("NL_") and environ[v]):
        value = environ[variable]
        if variable in SETTINGS:
            found.settings[SETTINGS[variable]] = value
        elif variable in OPTIONS:
            found.options[OPTIONS[variable]] = value
        elif variable in LEVEL_OPTIONS:
            found.each_level[LEVEL_OPTIONS[variable]] = value
        else:
            known = ", ".join(sorted({**SETTINGS, **OPTIONS, **LEVEL_OPTIONS}))
            raise ConfigError(f"variable {variable} = {value!r}: not a setting of nested learning; expected {known}")
    return found
