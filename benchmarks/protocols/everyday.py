"""Everyday documents: a score by the rule of each kind of question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from continual_learning.datasets.everyday import KINDS
from continual_learning.evaluation.contender import Contender
from continual_learning.evaluation.everyday import benchmark_everyday
from continual_learning.evaluation.protocols import Settings
from protocols import Bench, progress_notes
from protocols.sequences import only_row, show

Json = dict[str, Any]


def measure(experiment: Any, bench: Bench) -> tuple[Json, Json, Any]:
    """Measure one contender on the half of the setting."""
    given = experiment.setting
    how = Settings(given["max_new_tokens"], tuple(given["seeds"]), retention_documents=0, count_flops=False)
    row = [Contender(experiment.strategy, experiment.options, experiment.label)]
    result = benchmark_everyday(row, bench.base, given["half"], how, progress_notes())
    found, setting, answers = only_row(experiment, result)
    return {k: v for k, v in found.items() if k not in ("strategy", "seeds")}, setting, answers


def table(results: Mapping[str, Json]) -> str:
    """A row for each result, the highest score first."""
    rows = sorted(results.values(), key=lambda r: -r["figures"]["score"])
    columns: dict[str, Callable[[Json], str]] = {"strategy": lambda r: r["label"], "score": _score}
    for kind in KINDS:
        columns[kind.replace("_", " ")] = partial(_score_of, kind)
    columns["answered"] = lambda r: show(r["figures"]["answered"], ".0%")
    columns["answer, s"] = lambda r: show(r["figures"]["answer_seconds"], ".2f")
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(column(row) for column in columns.values()) + " |" for row in rows]
    of = rows[0]["setting"]["dataset"]
    return "\n".join(
        [*lines, "", f"{of['questions']} questions on {of['documents']} documents, {of['tokens']:,} tokens."]
    )


def _score(result: Json) -> str:
    between = result["figures"]["score_interval"]
    return show(result["figures"]["score"], ".2f") + (f" [{between[0]:.2f}, {between[1]:.2f}]" if between else "")


def _score_of(kind: str, result: Json) -> str:
    return show(result["figures"][f"score_{kind}"], ".2f")
