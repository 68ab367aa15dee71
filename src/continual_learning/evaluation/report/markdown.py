"""Markdown: the table for a README, and how it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from continual_learning.evaluation.report import columns, formats, words


def render_markdown(result: Mapping[str, Any]) -> str:
    """One row per strategy, highest recall first, the best of each column in bold; then command, machine, wall time.

    A run on several base models has the rows of one after those of another, and the best of each in bold.

    Columns without measurements are left out, as are some that a README has no room for. The cost of learning is not
    compared for strategies that learned nothing. Equal best values are all bold, unless all strategies have them.
    """
    clean = formats.plain(result)
    entries = columns.entries(clean)
    shown = [column for column in columns.visible(entries) if column.brief]
    best = {column.name: columns.best_of_each(column, entries) for column in shown}
    several = any(entry.model for entry in entries)
    first = ["strategy", "model"] if several else ["strategy"]
    lines = [
        _row([*first, *(column.head for column in shown)]),
        _row([*("---" for _ in first), *("---:" for _ in shown)]),
    ]
    for entry in entries:
        cells = [_text(text) for text in ((entry.name, entry.model) if several else (entry.name,))]
        for column in shown:
            value = column.cell(entry)
            value = f"**{value}**" if entry.index in best[column.name] else value
            cells.append(f"{value} {column.bracket(entry)}".strip())
        lines.append(_row(cells))
    lines += ["", *_block(clean)]
    return "\n".join(lines) + "\n"


def _block(result: Mapping[str, Any]) -> list[str]:
    facts = [words.data(result), words.machine(result), words.wall_time(result)]
    command = str(result.get("command") or "").replace("\n", " ").strip()
    # A fence longer than any run of backquotes in the command cannot be closed by the command.
    fence = "`" * max([3, *(len(run) + 1 for run in _runs(command))])
    lines = [fence, command, fence] if command else []
    return [*lines, *(f"- {_text(fact)}" for fact in facts if fact)]


def _runs(text: str) -> list[str]:
    return "".join(c if c == "`" else " " for c in text).split()


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    """``text`` on one line, with everything that Markdown or HTML would take for markup escaped."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\|*`[]" else c for c in text)
