"""Run Outer Loop (Meta-Learning)."""

from __future__ import annotations

import shlex

from continual_learning.cli.menu import prompts
from continual_learning.cli.menu.entry import Entry, Menu

COMMAND = "train start"


def run_outer_loop(menu: Menu) -> None:
    """Train the starting point that the inner loop learns from."""
    menu.run(*COMMAND.split(), "--help")
    options = prompts.text("Options for it (empty: as it stands)", required=False, check=_words)
    if prompts.confirm("This may take hours; Ctrl-C stops it. Start?"):
        menu.run(*COMMAND.split(), *shlex.split(options))


def _words(given: str) -> bool | str:
    try:
        shlex.split(given)
    except ValueError as error:
        return f"{error}; expected options as in a shell"
    return True


ENTRIES = (
    Entry(
        "Run Outer Loop (Meta-Learning)",
        "train the starting point from which documents are learned",
        run_outer_loop,
        COMMAND,
    ),
)
