"""Questions at the terminal. Ctrl-C in any of them raises KeyboardInterrupt, Ctrl-D raises EOFError."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import questionary
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent, merge_key_bindings
from prompt_toolkit.layout.dimension import Dimension
from questionary import Choice
from questionary.prompts.common import InquirerControl

from continual_learning.cli.output import clean

LEAST_LINES = 5
AROUND_A_LIST = 3
"""Lines of the question and of what is searched for."""

Check = Callable[[str], bool | str]


def columns() -> int:
    """Width of the terminal."""
    return shutil.get_terminal_size().columns


def lines() -> int:
    """Height of the terminal."""
    return shutil.get_terminal_size().lines


def text(question: str, default: str = "", required: bool = True, check: Check | None = None) -> str:
    """A line of text without the spaces around it. ``check`` gives True, or what is wrong."""

    def verdict(given: str) -> bool | str:
        if not given.strip():
            return "expected some words; Ctrl-C goes back" if required else True
        return True if check is None else check(given.strip())

    answer: str = questionary.text(_fit(question), default=default, validate=verdict).unsafe_ask()
    return answer.strip()


def path(question: str, folders: bool = False, required: bool = True, must_exist: bool = True) -> str:
    """A path, with completion; ``~`` is the home folder. Empty only where it is not required."""

    def verdict(given: str) -> bool | str:
        if not given.strip():
            return "expected a path; Ctrl-C goes back" if required else True
        if must_exist and "://" not in given and not Path(given.strip()).expanduser().exists():
            return f"{given.strip()}: there is no such file or folder"
        return True

    answer: str = questionary.path(_fit(question), only_directories=folders, validate=verdict).unsafe_ask()
    answer = answer.strip()
    return str(Path(answer).expanduser()) if answer and "://" not in answer else answer


def number(question: str, default: int, least: int = 1) -> int:
    """A whole number."""

    def check(given: str) -> bool | str:
        return True if given.isdecimal() and int(given) >= least else f"{given}: expected a whole number from {least}"

    return int(text(question, str(default), check=check))


def confirm(question: str, default: bool = False) -> bool:
    """Yes or no."""
    answer: bool = questionary.confirm(_fit(question), default=default, auto_enter=False).unsafe_ask()
    return answer


def select(
    question: str,
    choices: Mapping[str, str],
    default: str | None = None,
    helps: Mapping[str, str] | None = None,
    above: int = 0,
) -> str:
    """One of ``choices`` (value to title). Typing narrows the list. ``helps`` explain the one pointed at.

    A list that is longer than the terminal scrolls, leaves ``above`` lines over it on the screen, and has no helps,
    which would stand at its end. Esc goes back as Ctrl-C does.
    """
    wide = columns() >= 60
    room = max(LEAST_LINES, lines() - above - AROUND_A_LIST)
    helps = helps if helps and wide and len(choices) < room else {}
    items = [Choice(_fit(title), value, description=helps.get(value)) for value, title in choices.items()]
    asked = questionary.select(
        _fit(question),
        items,
        default=default,
        use_search_filter=True,
        use_jk_keys=False,
        instruction="(arrows, or type to search)" if wide else " ",
    )
    for window in asked.application.layout.find_all_windows():
        if isinstance(window.content, InquirerControl):
            window.height = Dimension(max=room)
    application = asked.application
    application.key_bindings = merge_key_bindings([application.key_bindings or KeyBindings(), _leaving()])
    answer: str = asked.unsafe_ask()
    return answer


def _leaving() -> KeyBindings:
    """Keys that a list of questionary does not know: Esc goes back as Ctrl-C does, Ctrl-D is the end of input."""
    keys = KeyBindings()

    @keys.add("escape")
    def _back(event: KeyPressEvent) -> None:
        event.app.exit(exception=KeyboardInterrupt)

    @keys.add("c-d", eager=True)
    def _end(event: KeyPressEvent) -> None:
        event.app.exit(exception=EOFError)

    return keys


def several(question: str, choices: Sequence[str], checked: Sequence[str]) -> list[str]:
    """Some of ``choices``, at least one."""
    items = [Choice(name, checked=name in checked) for name in choices]
    answer: list[str] = questionary.checkbox(
        _fit(question),
        items,
        validate=lambda found: True if found else "expected at least one; space marks it",
        instruction="(space marks, a all, i the others, enter continues)" if columns() >= 60 else " ",
    ).unsafe_ask()
    return answer


def pause() -> None:
    """Wait for a key, so that what was shown can be read."""
    questionary.press_any_key_to_continue("any key: back to the menu").unsafe_ask()


def _fit(words: str) -> str:
    """Text from names and paths, without control characters, and not wider than the terminal."""
    words = clean(words).replace("\n", " ").replace("\t", " ")
    room = max(10, columns() - 6)
    return words if len(words) <= room else words[: room - 1] + "…"
