"""Where the time goes when ttt learns a passage, and how much of the processor's speed is used.

Passages of about 140 tokens from the first half of the articles, each learned from the unchanged base: one by one, and
four together. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from continual_learning.datasets.base import halves, load_dataset, sample
from continual_learning.documents import Document
from continual_learning.evaluation.machine import count_gflop
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.types import LearnReport
from protocols import Bench

TOKENS = (120, 160)
TOGETHER = 4


def short_passages(data: Path, base: BaseModel, count: int) -> list[Document]:
    """Passages of different articles with about 140 tokens."""
    first, _ = halves(load_dataset(data))
    fitting = tuple(d for d in first.documents if TOKENS[0] <= len(base.encode(d.document.text)) <= TOKENS[1])
    return [d.document for d in sample(replace(first, documents=fitting), count, min_questions=1).documents]


def measured(base: BaseModel, documents: list[Document], together: int) -> dict[str, Any]:
    """Seconds by part of the work and in total, over all documents; GFLOP of the first ``together``."""
    strategy = make_strategy("ttt", {"passages_together": together})
    reports: list[LearnReport] = []
    for first in range(0, len(documents), together):
        group = documents[first : first + together]
        reports += [report for _, report in strategy.learn_together(base, strategy.init(base), group)]
        print(f"{together} together: {first + len(group)} of {len(documents)}", file=sys.stderr, flush=True)
    parts: Counter[str] = Counter()
    for report in reports:
        parts.update(report.timings)
    head = documents[:together]
    return {
        "together": together,
        "tokens": sum(report.tokens for report in reports),
        "refused": sum(not report.accepted for report in reports),
        "seconds": [report.seconds for report in reports],
        "by_part": dict(parts),
        "gflop_a_token": count_gflop(lambda: strategy.learn_together(base, strategy.init(base), head))
        / sum(report.tokens for report in reports[:together]),
    }


def measure(experiment: Any, bench: Bench) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Measure learning one by one, and several together."""
    base = bench.base
    documents = short_passages(bench.data, base, experiment.setting["passages"])
    strategy = make_strategy("ttt", {})
    strategy.learn(base, strategy.init(base), Document("The ferry to Orsel leaves at nine.", "Warm up"))
    rows = [measured(base, documents, together) for together in (1, TOGETHER)]
    return {"rows": rows}, {"documents": [d.title for d in documents]}, None


def table(results: Mapping[str, Any]) -> str:
    """For each result, seconds for 140 tokens by part of the work."""
    return "\n\n".join(_table(result["figures"]["rows"], result["machine"]) for result in results.values())


def _table(rows: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    names = sorted(rows[0]["by_part"], key=lambda name: -rows[0]["by_part"][name])
    lines = [
        "| seconds for 140 tokens | " + " | ".join(_called(row) for row in rows) + " |",
        "|---|" + "---|" * len(rows),
    ]
    for name in names:
        lines.append(f"| {name} | " + " | ".join(f"{_each(row, row['by_part'][name]):.2f}" for row in rows) + " |")
    lines.append("| **in all** | " + " | ".join(f"**{_each(row, sum(row['seconds'])):.1f}**" for row in rows) + " |")
    lines.append("| GFLOP | " + " | ".join(f"{140 * row['gflop_a_token']:.0f}" for row in rows) + " |")
    peak = machine["matmul_gflops"]
    # The check asks the base once per run: counting starts after that.
    learning = [sum(row["seconds"]) - row["by_part"].get("retention", 0.0) for row in rows]
    speeds = [row["gflop_a_token"] * row["tokens"] / seconds for row, seconds in zip(rows, learning, strict=True)]
    shares = " | ".join(f"{speed:.0f} ({speed / peak:.0%} of the peak)" for speed in speeds)
    lines.append(f"| GFLOP/s without retention | {shares} |")
    count, mean = len(rows[0]["seconds"]), rows[0]["tokens"] / len(rows[0]["seconds"])
    lines += [
        "",
        f"{count} passages, {mean:.0f} tokens on average; {machine['threads']} thread(s), whose peak "
        f"in an fp32 product of two matrices is {peak:.0f} GFLOP/s in the same run; {machine['cpu']}. GFLOP are those "
        "of the first passage, and of the first that were learned together.",
    ]
    return "\n".join(lines)


def _called(row: dict[str, Any]) -> str:
    return "one by one" if row["together"] == 1 else f"{row['together']} together"


def _each(row: dict[str, Any], seconds: float) -> float:
    return 140 * seconds / float(row["tokens"])
