"""The results of a benchmark: its rows as they are measured, and its block in benchmarks/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Rows = dict[str, dict[str, Any]]


def known_rows(path: Path, dataset: str) -> Rows:
    """Read what `keep_rows` wrote, by the rows' names; empty if it was measured on another dataset (by digest)."""
    known: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return known["rows"] if known.get("dataset") == dataset else {}


def keep_rows(path: Path, dataset: str, machine: dict[str, Any], rows: Rows) -> None:
    """Write all measured rows, after each one, so that an interrupted run resumes with the rest."""
    kept = {"dataset": dataset, "machine": machine, "rows": rows}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def write_block(readme: Path, name: str, text: str) -> None:
    """Put ``text`` into the block, which is added at the end if there is none."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = readme.read_text(encoding="utf-8") if readme.exists() else ""
    if begin not in old:
        old = f"{old.rstrip()}\n\n{begin}\n{end}\n".lstrip()
    before, _, rest = old.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{readme}: {begin} is not closed; expected {end} behind it")
    readme.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8")
