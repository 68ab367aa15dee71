"""A cold `ask`: a new process that imports, opens a memory and answers its first question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from continual_learning.evaluation.cold_start import cold_answer
from protocols import Bench, note


def measure(experiment: Any, bench: Bench) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """The best of several starts of a memory that holds one document."""
    runs = []
    for _ in range(experiment.setting["runs"]):
        runs.append(cold_answer(experiment.strategy, model=bench.base.name))
        note(str(runs[-1]))
    return {"runs": runs, "best": min(runs, key=lambda run: run["processor_seconds"])}, {}, None


def table(results: Mapping[str, Any]) -> str:
    """Seconds to the first answer."""
    lines = ["| strategy | processor seconds | seconds |", "|---|---|---|"]
    for result in results.values():
        best = result["figures"]["best"]
        lines.append(f"| {result['label']} | {best['processor_seconds']:.1f} | {best['seconds']:.1f} |")
    return "\n".join(lines)
