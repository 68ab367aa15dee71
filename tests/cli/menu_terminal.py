"""A terminal with a program in it: keys in, screen out."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pexpect
import pyte

ENTER, DOWN, UP, CTRL_C, CTRL_D, SPACE, ESCAPE = "\r", "\x1b[B", "\x1b[A", "\x03", "\x04", " ", "\x1b"
MENU = "What next?"
PAUSE = "any key: back to the menu"
MAIN = ["-m", "continual_learning.cli.main"]


class _Screen(pyte.Screen):
    """A screen that counts how often it scrolled, so that a row keeps its number: that on the screen plus this."""

    scrolled = 0

    def index(self) -> None:
        bottom = self.margins.bottom if self.margins else self.lines - 1
        if self.cursor.y == bottom:
            self.scrolled += 1
        super().index()


class Terminal:
    """A pseudo-terminal. `wait` looks below the prompt that the last keys went to: old output does not count."""

    def __init__(
        self, folder: Path, environment: dict[str, str], columns: int = 100, rows: int = 100, arguments: Any = MAIN
    ):
        self.columns, self.rows = columns, rows
        self.screen = _Screen(columns, rows)
        self.screen.write_process_input = self._report
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._mark = self._entry = -1
        self.chosen: list[str] = []
        inherited = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.child = pexpect.spawn(
            sys.executable, list(arguments), cwd=str(folder), dimensions=(rows, columns), timeout=150,
            env={**inherited, "TERM": "xterm-256color", **environment},
        )  # fmt: skip

    def _report(self, data: str) -> None:
        """What a terminal says when it is asked: where the cursor is, and the like."""
        self.child.send(data)

    def lines(self, after: int = -1) -> list[str]:
        """The rows of the screen after the one with this number, without the spaces at their ends."""
        rows = range(max(0, after + 1 - self.screen.scrolled), self.rows)
        cells = self.screen.buffer
        return ["".join(cells[row][column].data for column in range(self.columns)).rstrip() for row in rows]

    def below(self) -> str:
        """What stands below the prompt that was answered last."""
        return "\n".join(self.lines(self._mark)).rstrip()

    def text(self) -> str:
        """The whole screen."""
        return "\n".join(self.lines()).rstrip()

    def wait(self, *texts: str, seconds: float = 120) -> str:
        """Read until all texts stand below the last prompt; what stands there."""
        end = time.monotonic() + seconds
        while True:
            found = self.below()
            if all(text in found for text in texts):
                return found
            assert time.monotonic() < end, f"not on the screen: {texts}\n{self.text()}"
            self._read(0.5)

    def wait_prompt(self, text: str, seconds: float = 120) -> None:
        """Read until a text stands on one of the last rows that have something on them."""
        end = time.monotonic() + seconds
        while text not in "\n".join(self.text().splitlines()[-6:]):
            assert time.monotonic() < end, f"not at the end of the screen: {text}\n{self.text()}"
            self._read(0.5)

    def send(self, keys: str) -> None:
        """Type."""
        row = self.screen.cursor.y + self.screen.scrolled
        first = max(self._mark, self.screen.scrolled - 1)
        prompts = [n for n, line in enumerate(self.lines(first), first + 1) if line.startswith("? ") and n <= row]
        self._mark = prompts[-1] if prompts else row
        self.child.send(keys)

    def answer(self, prompt: str, keys: str) -> None:
        """Wait for a prompt and answer it."""
        self.wait(prompt)
        self.send(keys + ENTER)

    def choose(self, entry: str) -> None:
        """Pick an entry of the menu by typing its name."""
        self.wait(MENU)
        self.send(entry)
        self.wait_prompt(f"/ {entry}")
        self.send(ENTER)
        self.chosen.append(entry)
        self._entry = self._mark

    def done(self) -> str:
        """Wait for the end of an entry; all that it showed, prompts too. Leaves the terminal at the menu."""
        self.wait(PAUSE)
        found = "\n".join(self.lines(self._entry)).rstrip()
        self.send(" ")
        self.wait(MENU)
        return found

    def at_menu(self) -> bool:
        """Whether the menu waits for a choice, or the program has ended."""
        return not self.child.isalive() or MENU in self.below()

    def settle(self) -> None:
        """Read what comes within a second."""
        end = time.monotonic() + 1
        while time.monotonic() < end and self._read(0.2):
            pass

    def ended(self, seconds: float = 120) -> int:
        """Wait for the program's end; its exit code."""
        end = time.monotonic() + seconds
        while self._read(0.5):
            assert time.monotonic() < end, f"still running\n{self.text()}"
        self.child.close()
        return int(self.child.exitstatus if self.child.exitstatus is not None else -self.child.signalstatus)

    def close(self) -> None:
        """End the program, if it still runs."""
        self.child.close(force=True)

    def _read(self, seconds: float) -> bool:
        """Take in what came; False at the program's end."""
        try:
            data = self.child.read_nonblocking(65536, seconds)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self._stream.feed(data)
        return True
