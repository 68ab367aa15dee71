"""What an entry of the menu is, and how it runs a command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from continual_learning.cli.outcome import PROGRAM
from continual_learning.cli.output import clean

if TYPE_CHECKING:
    from continual_learning.settings.schema import Config


@dataclass
class Menu:
    """What the menu remembers from one entry to the next."""

    run_command: Callable[[list[str]], int]
    """Runs a command line; its exit code."""
    chosen_memory: str | None = None
    """The memory that was switched to; None: the one of the settings."""

    strategies: dict[str, str] = field(default_factory=dict)
    """Strategies that were chosen for memories, by their names: one that is not there yet is made with it."""

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
        words = [str(a) for a in arguments]
        self.say(f"$ {shlex.join([PROGRAM, *words])}")
        before = sys.argv
        sys.argv = [before[0], *words]  # reports name the command that made them
        try:
            return self.run_command(words)
        finally:
            sys.argv = before
            sys.stdout.flush()

    def say(self, text: str) -> None:
        """A line for the user."""
        print(clean(text), flush=True)

    # For entries that strategies bring: `continual_learning.strategies.commands.MenuContext`.

    @property
    def prompts(self) -> Any:
        """Questions at the terminal."""
        from continual_learning.cli.menu import prompts

        return prompts

    def config(self) -> Config:
        """All settings."""
        from continual_learning.settings.schema import load_config

        return load_config()

    def options(self, strategy: str) -> dict[str, Any]:
        """All options of a strategy as the settings have them."""
        from continual_learning.strategies.base import make_strategy

        options: dict[str, Any] = make_strategy(strategy, self.config().strategy_options(strategy)).config.model_dump(
            mode="json"
        )
        return options

    def model_for(self, strategy: str) -> str:
        """The model that a new memory of this strategy gets."""
        return self.config().model_for(strategy, self.options(strategy))


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
