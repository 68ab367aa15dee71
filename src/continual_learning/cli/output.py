"""What commands write: results on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from continual_learning.errors import InputError

if TYPE_CHECKING:
    from continual_learning.types import Progress, ProgressCallback

# Titles and answers may hold anything: an escape sequence must not reach the terminal.
_CONTROL = {code: None for code in (*range(9), *range(11, 32), *range(127, 160))}
_WIDE = 10_000
_PACE_SECONDS = 300.0
"""Over which a bar takes the mean pace: the steps of one batch are far from even."""


class Output:
    """One command's output. With ``as_json``, standard output gets one JSON document and nothing else."""

    def __init__(self, as_json: bool):
        self.as_json = as_json

    @property
    def terminal(self) -> bool:
        """Whether standard output is a terminal that a person reads."""
        return not self.as_json and sys.stdout.isatty()

    def line(self, text: str = "") -> None:
        """A line on standard output; nothing with ``as_json``."""
        if not self.as_json:
            print(clean(text))

    def token(self, text: str) -> None:
        """A piece of an answer that is being written."""
        print(clean(text), end="", flush=True)

    def note(self, text: str) -> None:
        """A line on standard error."""
        note(text)

    def dim(self, text: str) -> None:
        """A line on standard error about what was just written; nothing with ``as_json``."""
        if self.as_json:
            return
        sys.stdout.flush()
        faint = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        print(f"\x1b[2m{clean(text)}\x1b[0m" if faint else clean(text), file=sys.stderr, flush=True)

    def result(self, data: Any) -> None:
        """The JSON document; nothing without ``as_json``."""
        if self.as_json:
            print_json(data)

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Names and values, aligned."""
        width = max((len(name) for name in facts), default=0)
        for name, value in facts.items():
            self.line(f"{name:<{width}}  {value}")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table as wide as the terminal, or as wide as it needs to be if there is none."""
        if self.as_json:
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for index, column in enumerate(columns):
            numbers = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
            table.add_column(column, justify="right" if numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text("-" if cell is None else clean(str(cell))) for cell in row))
        console = Console(width=None if sys.stdout.isatty() else _WIDE)
        with console.capture() as capture:
            console.print(table)
        for line in capture.get().splitlines():
            print(line.rstrip())


def open_standard_streams() -> None:
    """Let what was started without standard input, output or error, as services are (``>&-``), have empty ones.

    Python has None in their places then, and the next file that is opened would become standard output.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
        setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - to the end


def note(text: str) -> None:
    """A line on standard error."""
    print(clean(text), file=sys.stderr, flush=True)


def clean(text: str) -> str:
    """``text`` without control characters other than newline and tab."""
    return text.translate(_CONTROL)


def print_json(data: Any) -> None:
    """One JSON document on standard output; NaN and infinity, which JSON lacks, become null."""
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print(json.dumps(plain(data), ensure_ascii=ascii_only, allow_nan=False, indent=2))


def plain(data: Any) -> Any:
    """Dataclasses, tuples and paths as plain JSON values."""
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return {f.name: plain(getattr(data, f.name)) for f in dataclasses.fields(data)}
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple | set | frozenset):
        return [plain(value) for value in data]
    if isinstance(data, Path):
        return str(data)
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


def size(count: int) -> str:
    """Bytes in readable form: ``824 B``, ``3.1 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def confirmed(question: str) -> bool:
    """Ask on the terminal. Raises InputError without one."""
    if not sys.stdin.isatty():
        raise InputError(f"{question} cannot be asked without a terminal; add --yes to proceed")
    print(f"{clean(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def percent(share: float | None) -> str | None:
    """A share as a percentage: ``0.25`` is ``25%``."""
    return None if share is None else f"{share:.0%}"


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[ProgressCallback | None]:
    """A callback that draws a bar on standard error; None if that is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        """Minutes and seconds to the end at the recent pace; nothing while that is unknown."""

        def render(self, task: Task) -> Text:
            left = None if task.finished else task.time_remaining
            return Text("" if left is None else f"{int(left) // 60}:{int(left) % 60:02d} left")

    columns = (
        TextColumn("{task.fields[title]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TimeLeft(),
    )
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, speed_estimate_period=_PACE_SECONDS) as bar:
        task = bar.add_task("", total=None, title=clean(title)[:40])

        def show(step: Progress) -> None:
            text = f"{step.stage} {step.message}".strip()
            bar.update(task, completed=step.done, total=step.total, description=clean(text))

        yield show
