"""What an entry of the menu is, and how it runs a command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from continual_learning.cli.output import clean

UPGRADE = "pip install --upgrade continual-learning-slm"


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
    command: str = ""
    """The command that it needs, such as ``ace save``; empty if it is always there."""
    strategy: str = ""
    """The strategy that it needs."""

    def missing(self) -> str:
        """What this installation lacks for the entry, and how to get it; empty if nothing is missing."""
        from continual_learning.config import strategy_names

        if self.strategy and self.strategy not in strategy_names():
            return f"{self.title}: this installation has no strategy {self.strategy!r}; `{UPGRADE}` brings it"
        if self.command and not has_command(self.command):
            return f"{self.title}: this installation has no command {self.command!r}; `{UPGRADE}` brings it"
        return ""


def has_command(path: str) -> bool:
    """Whether there is a command such as ``ace save``."""
    import typer

    from continual_learning.cli import main

    found = typer.main.get_command(main.app)
    for name in path.split():
        commands = getattr(found, "commands", {})
        if name not in commands:
            return False
        found = commands[name]
    return True


def has_option(path: str, option: str) -> bool:
    """Whether a command takes an option such as ``--memory``."""
    import typer

    from continual_learning.cli import main

    found = typer.main.get_command(main.app)
    for name in path.split():
        found = found.commands[name]  # type: ignore[attr-defined]
    return any(option in parameter.opts for parameter in found.params)


def flags(**values: object) -> Sequence[str]:
    """``--memory work --max-new-tokens 8`` of the values that are not None."""
    found: list[str] = []
    for name, value in values.items():
        if value is not None:
            found += [f"--{name.replace('_', '-')}", str(value)]
    return found
