"""The interactive menu: forms over the commands.

An entry asks for what a command needs, shows the command line that does the same, and runs it in this process, so
that whatever the menu does can be scripted.

    app.py        the loop: panel, choice of an entry, what becomes of Ctrl-C
    entry.py      what an entry is, and how it runs a command
    prompts.py    questions at the terminal
    panel.py      the status panel
    talk.py, documents.py, measure.py, memories.py, engines.py, base_models.py, configure.py
                  the entries; those of a strategy are in its ``commands.py``
"""

from __future__ import annotations

from collections.abc import Callable


def run_menu(run_command: Callable[[list[str]], int]) -> int:
    """Show the menu until the user leaves it; the exit code. Raises InputError where there is no terminal.

    ``run_command`` runs a command line and returns its exit code.
    """
    from continual_learning.cli.menu.app import run

    return run(run_command)
