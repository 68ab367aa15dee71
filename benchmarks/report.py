"""Write the tables of benchmarks/README.md, and the block of results in the project's README.

python benchmarks/report.py            after a run (run.py does it, too)
python benchmarks/report.py --check    exit with 1 if a table does not match the results
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from protocols import protocol_module
from protocols.sequences import show, side_by_side
from records import HERE, MODEL, Json, protocol_facts, results

ORDER = (
    "reading",
    "squad",
    "stream",
    "scale",
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
)
"""The order of the tables. For their texts see `title` and `about` in experiments/<protocol>/_protocol.yaml."""

TITLES = {"smollm2-135m": "SmolLM2-135M-Instruct", "gemma3-270m": "Gemma 3 270M"}
"""How the project's README calls the bases."""


def bases(rows: Iterable[Json]) -> list[str]:
    """The base models of results, the default one first."""
    return sorted({row["model"] for row in rows}, key=lambda name: (name != MODEL, name))


def of_base(every: Mapping[str, Json], model: str) -> dict[str, Json]:
    """The results on one base, by their names on the default one."""
    return {name.partition("@")[0]: result for name, result in every.items() if result["model"] == model}


def protocol_table(protocol: str, every: Mapping[str, Json]) -> str:
    """The table of a protocol, for results of one base."""
    rows = {name: result for name, result in every.items() if result["protocol"] == protocol}
    if not rows:
        return "Not measured yet."
    if protocol == "single_passage":
        return naive(rows.values())
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
        parts.append(f"## {facts['title']}\n{facts['about']}")
        names = bases(rows) or [MODEL]
        for model in names:
            heading = f"### On {model}\n" if len(names) > 1 else ""
            parts.append(heading + protocol_table(protocol, of_base(every, model)))
        if rows:
            parts.append(provenance(rows))
    return "\n\n".join(parts)


def readme_block() -> str:
    """The block of results in the project's README."""
    every = results()
    names = bases(every.values())
    shown = " and ".join(TITLES.get(name, name) for name in names)
    squad, stream = (
        {model: {n: r for n, r in of_base(every, model).items() if r["protocol"] == protocol} for model in names}
        for protocol in ("squad", "stream")
    )
    plain = [r for r in every.values() if r["protocol"] == "single_passage" and r["strategy"] == "naive"]
    return "\n\n".join(
        (
            f"One SQuAD passage at a time, closed book, at most 24 generated tokens, {shown} on one CPU "
            "core; passages and questions that nothing was tuned on ([how, and what else was measured]"
            "(benchmarks/README.md)):",
            side_by_side(squad),
            "Twenty passages one after another in one memory, all questions asked at the end (BWT: what later "
            "documents did to earlier ones, 0 is nothing):",
            side_by_side(stream),
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
