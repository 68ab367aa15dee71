"""The rows that measure the uses of nested learning, by the names that `--rows` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from continual_learning.errors import ConfigError
from continual_learning.evaluation.contender import Contender

ROWS = ("frozen", "prompt", "retrieval", "public", "without_replay", "one", "ungated", "several")


def nested_rows(names: Sequence[str] = ROWS, options: Mapping[str, Any] | None = None) -> list[Contender]:
    """The named rows; ``options`` are those of the strategy nested, for rows with several levels. Raises ConfigError.

    ``public`` has the public program's weights and steps, and learns each turn's words in the chat format; the program
    itself learns the window of the last messages, including its own, instead of the turn.
    """
    from continual_learning.strategies.methods.nested.config import ONE_LEVEL, PUBLIC_PROGRAM  # imports torch

    given = dict(options or {})
    rows = {
        "frozen": Contender("frozen", label="no adaptation"),
        "prompt": Contender("in_context", label="history in the prompt"),
        "retrieval": Contender("rag", label="retrieval over turns"),
        "public": Contender("nested", PUBLIC_PROGRAM, label="nested, public settings"),
        "without_replay": Contender("nested", {**ONE_LEVEL, "replay": (0.0,)}, label="nested, one level, no replay"),
        "one": Contender("nested", ONE_LEVEL, label="nested, one level"),
        "ungated": Contender("nested", {**given, "gate": "always"}, label="nested, several levels, no gate"),
        "several": Contender("nested", given, label="nested, several levels"),
    }
    if unknown := [name for name in names if name not in rows]:
        raise ConfigError(f"--rows: no row {unknown[0]!r}; expected some of {', '.join(ROWS)}")
    return [rows[name] for name in names]
