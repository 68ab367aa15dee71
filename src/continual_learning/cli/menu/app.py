"""The menu's loop."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from continual_learning.cli.menu.entry import Entry, Menu
from continual_learning.cli.output import note
from continual_learning.errors import InputError, MissingExtraError

EXIT = "Exit"


def entries() -> list[tuple[str, Sequence[Entry]]]:
    """All entries, by group, in the order in which they are shown: those of strategies between ours."""
    from continual_learning.cli.menu import configure, documents, engines, measure, memories, talk
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
    groups.setdefault("Settings", []).extend(configure.ENTRIES)
    return [(name, group) for name, group in groups.items() if group]


def run() -> int:
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
        _loop(Menu())
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
    """Run one entry. Whatever it raises is told as a command would tell it, and the menu goes on."""
    from continual_learning.cli import main
    from continual_learning.cli.menu import prompts

    try:
        entry.action(menu)
        prompts.pause()
    except (KeyboardInterrupt, EOFError):
        note("back to the menu")
    except Exception as error:
        note(f"error: {main.outcome(error)[1]}")
