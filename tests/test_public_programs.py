"""The table of docs/public-programs.md names what there is: every variable, chat command and command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from continual_learning.cli.main import main
from continual_learning.settings.schema import Settings
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.methods.nested.environment import LEVEL_SETTINGS, SETTINGS
from continual_learning.strategies.methods.nested.repl import Repl

PAGE = Path(__file__).parent.parent / "docs" / "public-programs.md"
LINES = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| (`|\| `)", line)]
CELLS = [[cell.strip() for cell in line.strip("|").split("|")] for line in LINES]
ROWS = [[re.findall(r"`([^`]+)`", cell) for cell in cells] for cells in CELLS]
"""What stands in backticks in each cell."""
HERE = [words for row in ROWS for words in row[1]]
COMMANDS = [words for words in HERE if words.startswith("continual-learning ")]


def values(text: str) -> list[object]:
    """What a cell with a default says: the values before a colon, without what is counted."""
    words = [word.split()[0] for word in text.strip(" |").split(":")[0].split(",")]
    return [float(word) if word[0].isdigit() else {"none": None}.get(word, word) for word in words]


def test_every_variable_is_mapped_to_its_setting_with_its_default() -> None:
    mapped = {row[0][0]: row[1][0] for row in ROWS if row[0] and row[0][0].startswith("NL_")}
    assert mapped == {**SETTINGS, **LEVEL_SETTINGS}
    written = {
        row[0][0]: values(cells[2]) for row, cells in zip(ROWS, CELLS, strict=True) if row[0] and row[0][0] in mapped
    }
    options = make_strategy("nested").config.model_dump()
    for variable, key in mapped.items():
        at: Any = options if key.startswith("strategies.") else Settings().model_dump()
        for part in key.removeprefix("strategies.nested.").split("."):
            at = at[part]
        defaults = at if isinstance(at, tuple) else (at,)
        plain = [str(v).lower() if isinstance(v, bool) else v for v in defaults]
        assert written[variable] == plain, variable


def test_every_command_of_the_chat_is_there() -> None:
    session: Any = SimpleNamespace()
    there = set(Repl(session, session, session)._commands) | {"/quit", "/exit"}
    assert {words.split()[0] for words in HERE if words.startswith("/")} == there


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_line_has_these_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)[1:]
    group = words[: 2 if words[0] == "checkpoint" else 1]
    assert main([*group, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in words if word.startswith("--"))
