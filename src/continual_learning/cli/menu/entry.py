"""What an entry of the menu is, and how it runs a command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from continual_learning.cli.output import clean


@dataclass
class Menu:
    """What the menu remembers from one entry to the next."""

    chosen_memory: str | None = None
    """The memory that was switched to; None: the one of the settings."""

    @property
    def memory(self) -> str:
        """The memory that entries work with."""
        from continual_learning.cli.session import memory_name

        return memory_name(self.chosen_memory)

    def memory_of(self, strategy: str) -> str:
        """The memory for entries of one strategy: the present one if it was made with it, else one of its name."""
        from continual_learning.cli.session import stored_names

        stored = stored_names(self.memory)
        return self.memory if stored and stored[0] == strategy else strategy

    def run(self, *arguments: object) -> int:
        """Run a command as the shell would, after showing it; its exit code. Errors are told, not raised."""
        from continual_learning.cli import main

        words = [str(a) for a in arguments]
        self.say(f"$ {shlex.join([main.PROGRAM, *words])}")
        before = sys.argv
        sys.argv = [before[0], *words]  # reports name the command that made them
        try:
            return main.main(words)
        finally:
            sys.argv = before
            sys.stdout.flush()

    def say(self, text: str) -> None:
        """A line for the user."""
        print(clean(text), flush=True)


@dataclass(frozen=True)
class Entry:
    """One line of the menu."""

    title: str
    help: str
    """What it does, in a line."""
    action: Callable[[Menu], None]


def flags(**values: object) -> Sequence[str]:
    """``--memory work --max-new-tokens 8`` of the values that are not None."""
    found: list[str] = []
    for name, value in values.items():
        if value is not None:
            found += [f"--{name.replace('_', '-')}", str(value)]
    return found
