"""Run Outer Loop (Meta-Learning)."""

from __future__ import annotations

import shlex
from pathlib import Path

from continual_learning.cli.menu import prompts
from continual_learning.cli.menu.entry import Entry, Menu

START = "start.safetensors"


def run_outer_loop(menu: Menu) -> None:
    """Train where the inner loop begins; then, if it is wanted, let ttt begin there."""
    data = prompts.path("Documents with questions (SQuAD's JSON, or JSON lines)")
    folder = prompts.text("Folder of the run (one that holds a run goes on)", "outer-loop")
    steps = prompts.number("Steps in all", 100)
    more = prompts.text("More options, such as --mode reptile (empty: none)", required=False, check=_words)
    code = menu.run("train", "start", data, "--out", folder, "--steps", steps, *shlex.split(more))
    found = Path(folder).expanduser().resolve() / START
    if code == 0 and found.exists() and prompts.confirm("Let new ttt memories begin there?"):
        menu.run("config", "set", "strategies.ttt.start", found)


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
    ),
)
