"""Writes what a benchmark found into its block of benchmarks/README.md, between ``<!-- name -->`` and its end."""

from __future__ import annotations

from pathlib import Path


def write_block(readme: Path, name: str, text: str) -> None:
    """Put ``text`` into the block, which is added at the end where there is none."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = readme.read_text(encoding="utf-8") if readme.exists() else ""
    if begin not in old:
        old = f"{old.rstrip()}\n\n{begin}\n{end}\n".lstrip()
    before, _, rest = old.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{readme}: {begin} is not closed; expected {end} behind it")
    readme.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8")
