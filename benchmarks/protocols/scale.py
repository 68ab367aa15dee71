"""Memories of one, ten and a hundred documents: what finding the right one costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from continual_learning.datasets.base import load_dataset
from continual_learning.evaluation.contender import Contender
from continual_learning.evaluation.protocols import Settings
from continual_learning.evaluation.scale import benchmark_scale, scale_data
from protocols import Bench, progress_notes
from protocols.sequences import only_row, show

Json = dict[str, Any]


def measure(experiment: Any, bench: Bench) -> tuple[Json, Json, Any]:
    """Measure one contender on memories of the setting's sizes."""
    given = experiment.setting
    how = Settings(given["max_new_tokens"], tuple(given["seeds"]), retention_documents=0)
    row = [Contender(experiment.strategy, experiment.options, experiment.label)]
    how_many = (given["sizes"], given["questions"], given["others"])
    chosen, others = scale_data(load_dataset(bench.data), *how_many, given["split"], given["data_seed"])
    result = benchmark_scale(chosen, row, bench.base, given["sizes"], others, how, progress_notes())
    found, setting, answers = only_row(experiment, result)
    return {k: v for k, v in found.items() if k not in ("strategy", "seeds")}, setting, answers


def table(results: Mapping[str, Json]) -> str:
    """A row for each result, the highest F1 in the largest memory first."""
    rows = sorted(results.values(), key=lambda r: -r["figures"]["f1"])
    sizes = [size["documents"] for size in rows[0]["figures"]["sizes"]]
    columns: dict[str, Callable[[Json], str]] = {"strategy": lambda r: r["label"]}
    for number, size in enumerate(sizes):
        columns[f"F1 in {size}"] = lambda r, n=number: _f1(r["figures"]["sizes"][n])
    columns["share"] = lambda r: show(r["figures"]["f1"] / max(r["figures"]["f1_alone"], 1e-9), ".2f")
    for number, size in enumerate(sizes):
        columns[f"right document in {size}"] = lambda r, n=number: show(r["figures"]["sizes"][n]["opened"], ".0%")
    columns |= {
        "others left alone": lambda r: show(r["figures"]["left_alone"], ".0%"),
        "general questions kept": lambda r: show(r["figures"]["general_kept"], ".0%"),
        "learn, s": lambda r: show(r["figures"]["learn_seconds"], ".1f"),
        "answer, s": lambda r: show(r["figures"]["answer_seconds"], ".2f"),
        "memory, MB": lambda r: show(r["figures"]["bytes_kept"] / 1e6, ".2f"),
    }
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(column(row) for column in columns.values()) + " |" for row in rows]
    of, others = rows[0]["setting"]["dataset"], rows[0]["figures"]["others"]
    return "\n".join(
        [
            *lines,
            "",
            f"{of['questions']} questions on {of['documents']} documents, {of['tokens']:,} tokens; {others} questions "
            "about other articles. In brackets the paired 95% interval of the change against the smallest memory.",
        ]
    )


def _f1(size: Json) -> str:
    between = size["f1_change_interval"]
    change = f" [{between[0]:+.2f}, {between[1]:+.2f}]" if between and any(between) else ""
    return f"{size['f1']:.2f}{change}"
