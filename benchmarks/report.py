"""Write the tables of benchmarks/README.md, and the block of results in the project's README.

python benchmarks/report.py            after a run (run.py does it, too)
python benchmarks/report.py --check    exit with 1 if a table does not match the results
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from protocols import protocol_module
from protocols.sequences import show, table
from records import HERE, Json, protocol_facts, results

ORDER = (
    "reading",
    "squad",
    "stream",
    "everyday",
    "conversation",
    "needle",
    "repository",
    "transfer",
    "nested",
    "doc2lora",
    "jitrl",
    "ace",
    "learning_time",
    "long_document",
    "decoding",
    "cold_start",
    "single_passage",
    "start",
)
"""The order of the tables. For their texts see `title` and `about` in experiments/<protocol>/_protocol.yaml."""


def protocol_table(protocol: str, every: Mapping[str, Json]) -> str:
    """The table of a protocol."""
    rows = {name: result for name, result in every.items() if result["protocol"] == protocol}
    if not rows:
        return "Not measured yet."
    if protocol == "single_passage":
        return naive(rows.values())
    if protocol == "start":
        columns = ("questions", "recall", "f1", "learn_seconds")
        lines = ["| begins, learning | " + " | ".join(columns) + " |", "|---" * 5 + "|"]
        lines += [
            f"| {r['label']} | " + " | ".join(f"{r['figures'][c]:.3g}" for c in columns) + " |" for r in rows.values()
        ]
        return "\n".join(lines)
    if protocol == "nested":  # its targets include those of the conversation
        rows |= {name: result for name, result in every.items() if name == "conversation/nested--several"}
    own: str = protocol_module(protocol).table(rows)
    return own


def naive(rows: Sequence[Json]) -> str:
    """Rows of `lab/single_passage.py`."""
    lines = [
        "| method | recall | token F1 | learn, s | general questions kept | unrelated perplexity | memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in sorted(rows, key=lambda r: -r["figures"]["recall"]):
        f = result["figures"]
        size = f.get("bytes_kept")
        lines.append(
            f"| {result['label']} | {f['recall']:.2f} | {f['f1']:.2f} | {show(f.get('learn_seconds'), '.1f')} "
            f"| {show(f.get('general_kept'), '.0%')} | {show(f.get('perplexity_change'), '+.1%')} "
            f"| {'' if size is None else format(size / 1e6, '.2f')} |"
        )
    return "\n".join(lines)


def provenance(rows: Sequence[Json]) -> str:
    """When, with which code and on which machine the results were measured."""
    dates = sorted({row["date"][:10] for row in rows})
    commits = ", ".join(dict.fromkeys(row["commit"] for row in sorted(rows, key=lambda r: r["date"])))
    machines = dict.fromkeys(filter(None, (_machine(row["machine"]) for row in rows)))
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    busy = [
        r["machine"]["other_cores"] for r in rows if isinstance(r["machine"], dict) and r["machine"].get("other_cores")
    ]
    beside = f"; other work kept up to {max(busy):.1f} cores busy, so that seconds are upper bounds" if busy else ""
    return f"Measured {when}, commit {commits}{'; ' if machines else ''}{'; '.join(machines)}{beside}."


def _machine(machine: Json | str | None) -> str:
    if isinstance(machine, dict):
        return f"{machine['cpu']}, {machine['threads']} thread(s), torch {machine['torch']}"
    return machine or ""


def tables() -> str:
    """All tables, with headings."""
    every = results()
    parts = []
    for protocol in ORDER:
        facts = protocol_facts(protocol)
        rows = [result for result in every.values() if result["protocol"] == protocol]
        parts.append(f"## {facts['title']}\n{facts['about']}\n\n{protocol_table(protocol, every)}")
        if rows:
            parts.append(provenance(rows))
    return "\n\n".join(parts)


def readme_block() -> str:
    """The block of results in the project's README."""
    every = results()
    squad = {n: r for n, r in every.items() if r["protocol"] == "squad"}
    stream = {n: r for n, r in every.items() if r["protocol"] == "stream"}
    plain = [r for r in every.values() if r["protocol"] == "single_passage" and r["strategy"] == "naive"]
    return "\n\n".join(
        (
            "One SQuAD passage at a time, closed book, at most 24 generated tokens, SmolLM2-135M-Instruct on one CPU "
            "core; passages and questions that nothing was tuned on ([how, and what else was measured]"
            "(benchmarks/README.md)):",
            table(squad, short=True),
            "Twenty passages one after another in one memory, all questions asked at the end (BWT: what later "
            "documents did to earlier ones, 0 is nothing):",
            table(stream, short=True),
            "Gradient descent without what `ttt` adds to it, thirty next-token steps in copies of the last MLPs "
            "(naive_dual) or in all weights (naive_full), on other passages of these articles:",
            naive(plain),
        )
    )


def blocks(here: Path = HERE) -> dict[Path, str]:
    """The files that contain tables, with the content that they should have."""
    wanted = {here / "README.md": ("tables", tables()), here.parent / "README.md": ("results", readme_block())}
    return {path: _with_block(path, *block) for path, block in wanted.items()}


def write_tables() -> None:
    """Write both files."""
    for path, text in blocks().items():
        path.write_text(text, encoding="utf-8")


def _with_block(path: Path, name: str, text: str) -> str:
    old = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = old.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path}: no block {begin} … {end}; expected one for the generated tables")
    return f"{before}{begin}\n{text.strip()}\n{end}{after}"


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is out of date")
    if not parser.parse_args(words).check:
        write_tables()
        return 0
    old = [path for path, text in blocks().items() if path.read_text(encoding="utf-8") != text]
    for path in old:
        print(f"{path}: not the tables of results/; run python benchmarks/report.py", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
