"""The menu's loop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from continual_learning.cli.menu.entry import Entry, Menu
from continual_learning.cli.outcome import outcome
from continual_learning.cli.output import note
from continual_learning.errors import InputError, MissingExtraError

EXIT = "Exit"


class StrategyMenu(Menu):
    """The menu for entries that strategies bring: `continual_learning.strategies.commands.MenuContext`."""

    def learn(self, source: str, memory: str, *more: str, strategy: str | None = None, qa: str = "") -> int:
        """`learn` into a memory."""
        from continual_learning.cli.menu import documents

        return documents.learn(self, source, memory, *more, strategy=strategy, qa=qa)

    def ask_in_turn(self, memory: str, feedback: bool = False) -> None:
        """Questions to a memory until an empty one."""
        from continual_learning.cli.menu import engines

        engines.ask_in_turn(self, memory, feedback)

    def learn_then_ask(self, strategy: str) -> None:
        """Documents into a memory of this strategy, then questions with feedback."""
        from continual_learning.cli.menu import engines

        engines.learn_then_ask(self, strategy)


def entries() -> list[tuple[str, Sequence[Entry]]]:
    """All entries, by group, in the order in which they are shown: those of strategies between ours."""
    from continual_learning.cli.menu import base_models, configure, documents, engines, measure, memories, talk
    from continual_learning.strategies.registry import command_modules

    groups: dict[str, list[Entry]] = {
        "Talk": [*talk.ENTRIES],
        "Learn": [*documents.ENTRIES],
        "Train": [],
        "Measure": [*measure.ENTRIES],
        "Memory": [*memories.ENTRIES],
    }
    for _, module in command_modules():
        for entry in getattr(module, "MENU", ()):
            groups.setdefault(entry.group, []).append(Entry(entry.title, entry.help, entry.action))
    groups.setdefault("Compare", []).extend(engines.COMPARE)
    groups.setdefault("Models", []).extend(base_models.ENTRIES)
    groups.setdefault("Settings", []).extend(configure.ENTRIES)
    return [(name, group) for name, group in groups.items() if group]


def run(run_command: Callable[[list[str]], int]) -> int:
    """Show the menu until Exit, Ctrl-D, or Ctrl-C twice. Raises InputError where there is no terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError(
            "without a command, continual-learning opens its menu, which needs a terminal; "
            "continual-learning --help lists the commands that work without one"
        )
    try:
        import questionary  # noqa: F401 - told before anything is shown
    except ImportError:
        raise MissingExtraError("the menu needs questionary; pip install questionary") from None
    from continual_learning.cli.session import models_kept

    with models_kept():
        _loop(StrategyMenu(run_command))
    return 0


def _loop(menu: Menu) -> None:
    from continual_learning.cli.menu import panel

    found = {entry.title: entry for _, group in entries() for entry in group}
    interrupted = False
    last: str | None = None
    while True:
        height = panel.show(menu)
        try:
            title = _choose(last, height)
        except KeyboardInterrupt:
            if interrupted:
                return
            interrupted = True
            note("Ctrl-C once more, or Exit, leaves the menu")
            continue
        except EOFError:
            return
        if title == EXIT:
            return
        interrupted, last = False, title
        _perform(menu, found[title])


def _choose(last: str | None, above: int) -> str:
    from continual_learning.cli.menu import prompts

    wide = prompts.columns() >= 60
    titles: dict[str, str] = {}
    helps: dict[str, str] = {}
    for name, group in entries():
        for number, entry in enumerate(group):
            titles[entry.title] = f"{name if number == 0 else '':<10}{entry.title}" if wide else entry.title
            helps[entry.title] = entry.help
    titles[EXIT] = f"{'':<10}{EXIT}" if wide else EXIT
    helps[EXIT] = "everything is on disk already"
    return prompts.select("What next?", titles, default=last, helps=helps, above=above)


def _perform(menu: Menu, entry: Entry) -> None:
    """Run one entry. Errors are reported as a command would report them, and the menu continues."""
    from continual_learning.cli.menu import prompts

    try:
        entry.action(menu)
        prompts.pause()
    except (KeyboardInterrupt, EOFError):
        note("back to the menu")
    except Exception as error:
        note(f"error: {outcome(error)[1]}")
