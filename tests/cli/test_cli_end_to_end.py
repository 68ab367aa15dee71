"""The command as a process: a tiny model on disk, learned, asked, interrupted, at a terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

pytestmark = pytest.mark.slow

MAIN = [sys.executable, "-m", "continual_learning.cli.main"]


def run(*arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MAIN, *map(str, arguments)], input=text, capture_output=True, text=True, check=False)


def test_learn_ask_chat_forget(tiny_llama_dir: Path, cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.txt").write_text("Comb jellies eat plankton.")
    flags = ("--model", tiny_llama_dir, "--strategy", "in_context")
    learned = run("learn", "-", "--title", "Jellies", *flags, "--memory", "work", "--json", text="They eat plankton.")
    assert learned.returncode == 0, learned.stderr
    assert learned.stderr == ""
    assert json.loads(learned.stdout)["accepted"] == 1

    asked = run("ask", "What do they eat?", "--memory", "work", "--max-new-tokens", 4)  # its own model and strategy
    assert asked.returncode == 0, asked.stderr
    # From here on in this process, which sees the same memory on disk.
    answer = cli("ask", "What do they eat?", "--memory", "work", "--max-new-tokens", 4, "--json").json
    assert asked.stdout == answer["answers"][0]["text"] + "\n"
    assert answer["model"] == str(tiny_llama_dir)

    monkeypatch.setattr(sys, "stdin", StringIO("hello\nagain\n"))
    talked = cli("chat", "--memory", "work", "--max-new-tokens", 4)
    assert (talked.code, len(talked.out.splitlines()) >= 2) == (0, True)

    forgotten = cli("memory", "forget", "Jellies", "--memory", "work")
    assert forgotten.code == 0, forgotten.err
    assert "holds no document" in cli("ask", "What?", "--memory", "work", "--max-new-tokens", 2).err


SLOW_LEARN = """
import sys, time
from continual_learning.cli.main import main
from continual_learning.strategies.baselines.in_context import InContext
def learn(*_):
    print("learning", file=sys.stderr, flush=True)
    time.sleep(60)
InContext.learn = learn
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_while_learning(tiny_llama_dir: Path, cli: Command) -> None:
    Path("a.txt").write_text("Comb jellies eat plankton.")
    flags = ["--model", str(tiny_llama_dir), "--strategy", "in_context"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_LEARN, "learn", "a.txt", *flags],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == "learning\n"
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert error == "interrupted; the memory is as it was\n"
    assert cli("memory", "list", "--json").json == {"memories": []}


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_at_a_terminal(tiny_llama_dir: Path, cli: Command) -> None:
    pexpect: Any = pytest.importorskip("pexpect")
    Path("a.txt").write_text("Comb jellies eat plankton.")
    cli("learn", "a.txt", "--model", tiny_llama_dir, "--strategy", "in_context", "--memory", "work")
    child = pexpect.spawn(
        MAIN[0], [*MAIN[1:], "chat", "--memory", "work", "--max-new-tokens", "3"], encoding="utf-8", timeout=120
    )
    child.expect("/quit")
    child.expect("> ")
    child.sendline("hello")
    child.expect("from: a")  # where the answer came from
    child.expect("> ")
    child.sendline("/clear")
    child.expect("cleared")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
