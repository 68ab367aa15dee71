"""The menu at odd terminals, interrupted, and what its entries and settings are made of."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from continual_learning.cli.menu.app import entries
from continual_learning.cli.menu.configure import choices, describe
from continual_learning.cli.menu.entry import flags
from continual_learning.settings.schema import Settings, core_keys
from continual_learning.strategies.base import strategy_names

if os.name != "posix":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from menu_terminal import CTRL_C, ENTER, ESCAPE, MENU, UP, Terminal

pytestmark = pytest.mark.slow


def test_flags_of_values() -> None:
    assert flags(memory="a b", qa=None, max_new_tokens=3) == ["--memory", "a b", "--max-new-tokens", "3"]


def test_every_documented_entry_is_there_once() -> None:
    documented = """Chat with Model, Ask a Question, Learn from Document, Learn from Directory,
        Run Outer Loop (Meta-Learning), Run Benchmarks, View Forgetting Metrics, Model Info, Learning History,
        Save Checkpoint, Load Checkpoint, List Checkpoints, Compare All Engines, ACE Learn Document, ACE Ask,
        ACE Save Playbook, ACE Load Playbook, Doc-to-LoRA Learn, Doc-to-LoRA Ask, Doc-to-LoRA Switch Mode, Nested Chat,
        List Models, Inspect a Model, Pull a Model, Prepare a Model, Remove a Model, Configure"""
    titles = [entry.title for _, group in entries() for entry in group]
    assert {" ".join(name.split()) for name in documented.split(",")} <= set(titles)
    assert {"JitRL MVP (learn, then ask)", "JitRL Full (learn, then ask)"} <= set(titles)
    assert len(set(titles)) == len(titles) and all(entry.help for _, group in entries() for entry in group)


def test_every_setting_is_described() -> None:
    assert [key for key in core_keys() if not describe(key)] == []
    assert describe("strategies.ttt.passes").startswith("Passes over")


def test_settings_that_take_few_values_offer_them() -> None:
    assert choices("model.precision") == ["full", "int8", "int4"]
    assert choices("model.frozen_weights") == ["full", "int8", "nf4"]
    assert choices("strategy") == ["auto", *strategy_names()]
    assert choices("strategies.ttt.guard") == ["true", "false"]
    assert choices("max_new_tokens") == choices("strategies.ttt.max_seconds") == []
    assert "max_new_tokens" in Settings.model_fields


def test_without_a_terminal_it_is_one_line_and_2(cli: Any) -> None:
    result = cli()
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "needs a terminal" in result.err and "continual-learning --help" in result.err


@pytest.fixture
def environment(tiny_llama_dir: Path, tmp_path: Path) -> dict[str, str]:
    return {
        "CONTINUAL_LEARNING_HOME": str(tmp_path / "home"),
        "CONTINUAL_LEARNING_MODEL__NAME": str(tiny_llama_dir),
        "CONTINUAL_LEARNING_STRATEGY": "in_context",
    }


def test_a_standard_terminal_shows_the_panel_and_the_list_scrolls(tmp_path: Path, environment: dict[str, str]) -> None:
    terminal = Terminal(tmp_path, environment, columns=80, rows=24)
    try:
        terminal.wait(MENU, "device memory", "Chat with Model")
        assert "Exit" not in terminal.text()
        terminal.send(UP)  # from the first to the last
        terminal.wait_prompt("Exit")
        assert "device memory" in terminal.text() and "Exit" in terminal.text()
        assert b"\x1b[1;3" in terminal.raw or b"\x1b[38;5" in terminal.raw or b"\x1b[0;38" in terminal.raw  # colours
        terminal.send(ENTER)
        assert terminal.ended() == 0
    finally:
        terminal.close()


def test_a_narrow_terminal_without_colour(tmp_path: Path, environment: dict[str, str]) -> None:
    terminal = Terminal(tmp_path, environment | {"NO_COLOR": "1"}, columns=30)
    try:
        terminal.wait(MENU, "Exit", "device memory")
        lines = terminal.text().splitlines()
        assert not [line for line in lines if set(line) & set("╭│╰")]  # no room for a box
        assert sum("Chat with Model" in line for line in lines) == 1 and lines[0].startswith("model: ")
        terminal.send("Configure" + ENTER)
        terminal.wait("Which settings?")
        terminal.send(ESCAPE)
        terminal.wait("back to the menu", MENU)
        terminal.send(CTRL_C)
        terminal.wait("Ctrl-C once more", MENU)
        terminal.send(CTRL_C)
        assert terminal.ended() == 0
        colours = re.findall(rb"\x1b\[([\d;]*)m", terminal.raw)
        assert not [c for c in colours if re.search(rb"(^|;)(3[0-8]|4[0-8]|9\d|10[0-7])(;|$)", c)], set(colours)
    finally:
        terminal.close()
