"""The forms of the menu: which keys become which command line. No command is run, so no model is needed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

if os.name != "posix":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from menu_terminal import CTRL_C, CTRL_D, DOWN, ENTER, MENU, SPACE, Terminal

from continual_learning.strategies.methods.ace.playbook import Playbook

pytestmark = pytest.mark.slow

PROGRAM = """
import pathlib, sys
from continual_learning.cli import session
from continual_learning.settings import schema
from continual_learning.cli.menu import entry, run_menu
def fake(words):
    if words[:2] == ["train", "start"]:
        folder = pathlib.Path(words[words.index("--out") + 1])
        folder.mkdir()
        (folder / "start.safetensors").touch()
    return 0
entry.Menu.options = lambda self, strategy: {"mode": "text"}
session.stored_names = lambda memory: ("frozen", "model") if memory == "default" else None
schema.strategy_names = lambda: ["ace", "frozen", "ttt"]
sys.exit(run_menu(fake))
"""


def expect(terminal: Terminal, *commands: str) -> None:
    """The entry ended, and these commands were run, in this order."""
    shown = terminal.done()
    found = [line.removeprefix("$ continual-learning ") for line in shown.splitlines() if line.startswith("$ ")]
    assert [command for command in found if command in commands] == list(commands), shown


def fill(terminal: Terminal, entry: str, *answers: tuple[str, str]) -> None:
    """Choose an entry and answer its prompts."""
    terminal.choose(entry)
    for prompt, keys in answers:
        terminal.answer(prompt, keys)


def test_forms_become_command_lines_and_ctrl_d_leaves(tmp_path: Path) -> None:
    for name in ("doc.txt", "qa.jsonl", "other.json"):
        (tmp_path / name).write_text("words")
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "playbook.json").write_text(json.dumps(Playbook().to_json()))
    home = {"CONTINUAL_LEARNING_HOME": str(tmp_path / "home"), "CONTINUAL_LEARNING_STRATEGY": "frozen"}
    menu = Terminal(tmp_path, home, columns=160, arguments=["-c", PROGRAM])
    document, question = ("Document", "doc.txt"), ("Question (empty: back)", "Who?")
    enough = ("Question (empty: back)", "")
    try:
        fill(menu, "Learn from Document", document, ("questions and answers", "qa.jsonl"))
        expect(menu, "learn doc.txt --memory default --qa qa.jsonl")
        fill(menu, "Ask a Question", ("? Question", "Who is 'it'?"))
        expect(menu, """ask 'Who is '"'"'it'"'"'?' --memory default""")
        for which in ("MVP", "Full"):
            name = f"jitrl_{which.lower()}"
            fill(menu, f"JitRL {which}", document, question, ("Was it right?", "bad"), enough)
            expect(menu, f"learn doc.txt --memory {name} --strategy {name}", f"feedback bad --memory {name}")
        correction = (("Was it right?", "wrong"), ("The right answer", "Maren Holloway"))
        fill(menu, "JitRL MVP", document, question, *correction, enough)
        expect(menu, "ask 'Who?' --memory jitrl_mvp", "feedback correct 'Maren Holloway' --memory jitrl_mvp")
        fill(menu, "ACE Learn Document", document, ("questions and answers", "qa.jsonl"))
        expect(menu, "learn doc.txt --memory ace --strategy ace --qa qa.jsonl")
        fill(menu, "ACE Ask", question, enough)
        expect(menu, "ask 'Who?' --memory ace")
        fill(menu, "ACE Save Playbook", ("Name of the playbook", ""), ("Replace it?", "y"))
        expect(menu, "ace save playbook --memory ace --overwrite")
        fill(menu, "ACE Load Playbook", ("Playbook", "playbook: "))
        expect(menu, "ace load playbook --memory ace")
        fill(menu, "ACE Load Playbook", ("Playbook", "another file"), ("File of the playbook", "other.json"))
        expect(menu, "ace load ./other.json --memory ace")
        fill(menu, "ACE List Playbooks")
        expect(menu, "ace list")
        fill(menu, "Doc-to-LoRA Learn", ("Description of a task", "doc.txt"))
        expect(menu, "learn doc.txt --memory doc2lora --strategy doc2lora --set mode=text")
        fill(menu, "Nested Chat")
        expect(menu, "nested --memory nested")
        fill(menu, "Run Outer Loop", ("Documents with questions", "qa.jsonl"), ("Folder of the run", ""),
             ("Steps in all", "\x155"), ("More options", "--half 'fir"))  # fmt: skip
        menu.wait_prompt("expected options as in a shell")
        menu.send("'" + ENTER)
        menu.answer("Let new ttt memories begin there?", "y")
        start = tmp_path / "outer-loop" / "start.safetensors"
        expect(
            menu,
            "train start qa.jsonl --out outer-loop --steps 5 --half fir",
            f"config set strategies.ttt.start {start}",
        )
        fill(menu, "Run Benchmarks", ("Which benchmark?", "stream"), ("Data", "qa.jsonl"), ("Documents", "\x153"))
        menu.wait("Strategies")
        menu.send("aa" + DOWN + SPACE + ENTER)
        menu.answer("Write a report to", "")
        expect(menu, "benchmark stream --data qa.jsonl --documents 3 --strategies frozen")
        fill(menu, "Run Benchmarks", ("Which benchmark?", "squad"), ("Data", ""), ("Documents", ""))
        menu.wait("Strategies")
        menu.send("aa" + DOWN + SPACE + ENTER)
        menu.answer("Write a report to", "")
        expect(menu, "benchmark squad --documents 8 --strategies frozen")
        fill(menu, "Compare All Engines", document, ("empty: type them", ""), ("Question 1", "Who?"),
             ("Its answer", "Maren"), ("Question 2", ""), ("Keep them in", "\x15mine.jsonl"))  # fmt: skip
        menu.answer("Strategies", "")
        expect(menu, "compare doc.txt --qa mine.jsonl --strategies ace,frozen,ttt")
        assert json.loads((tmp_path / "mine.jsonl").read_text()) == {"question": "Who?", "answer": "Maren"}
        fill(menu, "Save Checkpoint", ("Name of the checkpoint", "one"))
        expect(menu, "checkpoint save one --memory default")
        fill(menu, "Learn from Document", ("Document", "nowhere.txt"))
        menu.wait_prompt("there is no such file or folder")
        menu.send(CTRL_C)
        menu.wait("back to the menu", MENU)
        menu.send(CTRL_D)
        assert menu.ended() == 0
    finally:
        menu.close()
