"""The NL_* variables of the public nested learning program, as settings of this one."""

from __future__ import annotations

from collections.abc import Mapping

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
    "NL_SLOW_RATIO": "strategies.nested.slow_ratio",
    "NL_MAX_GRAD_NORM": "strategies.nested.clip_norm",
    "NL_WEIGHT_DECAY": "strategies.nested.weight_decay",
    "NL_TEMPERATURE": "strategies.nested.temperature",
    "NL_TOP_K": "strategies.nested.top_k",
    "NL_TOP_P": "strategies.nested.top_p",
}
# variable -> option of the strategy that has an entry for each level
LEVEL_SETTINGS = {"NL_LEARNING_RATE": "strategies.nested.learning_rates", "NL_ADAPT_STEPS": "strategies.nested.steps"}


def read_environment(environ: Mapping[str, str], levels: int) -> dict[str, tuple[str, str]]:
    """Return what the NL_* variables set: setting to text and variable. One value applies to each of the ``levels``.

    Raises ConfigError for a variable that this program does not know.
    """
    found = {}
    for variable in sorted(v for v in environ if v.startswith("NL_") and environ[v]):
        value = environ[variable]
        if variable in SETTINGS:
            found[SETTINGS[variable]] = (value, variable)
        elif variable in LEVEL_SETTINGS:
            found[LEVEL_SETTINGS[variable]] = (f"[{', '.join([value] * levels)}]", variable)
        else:
            known = ", ".join(sorted({**SETTINGS, **LEVEL_SETTINGS}))
            raise ConfigError(f"variable {variable} = {value!r}: not a setting of nested learning; expected {known}")
    return found
