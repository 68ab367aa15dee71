"""Which inner rule learns a passage best: parts recited word for word, by rule, rate, layers and weights that learn.

    python benchmarks/lab/inner_rule.py --data squad_dev_open.jsonl --out benchmarks

Short passages of the first half of the articles, each learned by ttt from the unchanged base with the same passes,
first without repair, then with it. Every row is stored as soon as it is measured: the same command resumes after an
interruption. Writes inner_rule.json, and the block `inner_rule` of README.md.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from blocks import keep_rows, known_rows, write_block

from continual_learning.datasets.base import Dataset, halves, load_dataset, sample
from continual_learning.evaluation.machine import machine_facts
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy

PASSAGE_TOKENS = 160
ROWS: dict[str, dict[str, Any]] = {
    "AdamW, 2e-2 (the default)": {},
    "AdamW, 5e-3": {"learning_rate": 5e-3},
    "AdamW, 5e-2": {"learning_rate": 5e-2},
    "AdamW, a block learns at 0.8 of the next one's rate": {"layer_rate_decay": 0.8},
    "AdamW, output weights alone": {"train": "values"},
    "AdamW, output weights alone, 84 neurons (as many numbers)": {"train": "values", "neurons": 84},
    "AdamW, neurons by accesses alone": {"selection": "tf"},
    "AdamW, neurons by chance": {"selection": "random"},
    "Muon, 2e-2": {"optimizer": "muon"},
    "Muon, 1e-1": {"optimizer": "muon", "learning_rate": 0.1},
    "SGD, 1": {"optimizer": "sgd", "learning_rate": 1.0},
    "SGD, 10": {"optimizer": "sgd", "learning_rate": 10.0},
}


def passages(data: Path, base: BaseModel, count: int) -> Dataset:
    """Short passages of different articles."""
    first, _ = halves(load_dataset(data))
    short = tuple(d for d in first.documents if len(base.encode(d.document.text)) <= PASSAGE_TOKENS)
    return sample(replace(first, documents=short), count, min_questions=1)


def measured(base: BaseModel, data: Dataset, options: dict[str, Any]) -> dict[str, Any]:
    """Parts recited without repair and with it, over all passages."""
    row: dict[str, Any] = {"parts": 0}
    for name, rounds in (("without", {"repair_rounds": 0}), ("with", {})):
        strategy = make_strategy("ttt", {"guard": False, **options, **rounds})
        recited, parts, seconds, size = 0, 0, 0.0, 0
        for item in data.documents:
            state, report = strategy.learn(base, strategy.init(base), item.document)
            details = state.meta.documents[-1].details
            recited, parts = recited + details["parts_recited"], parts + details["parts"]
            seconds, size = seconds + report.seconds, size + report.bytes
        row |= {"parts": parts, f"recited_{name}": recited, f"seconds_{name}": seconds / len(data.documents),
                "bytes": size / len(data.documents)}  # fmt: skip
    return row


def markdown(found: dict[str, dict[str, Any]], data: Dataset, machine: dict[str, Any]) -> str:
    """The table, and what it was measured on."""
    lines = ["| rule | recited | with repair | learn, s | with repair | MB |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {name} | {row['recited_without']} of {row['parts']} | {row['recited_with']} | "
        f"{row['seconds_without']:.1f} | {row['seconds_with']:.1f} | {row['bytes'] / 1e6:.2f} |"
        for name, row in found.items()
    ]
    lines += [
        "",
        f"Parts of {len(data.documents)} passages of the first half of the articles; seconds a passage, "
        f"{machine['threads']} thread(s), {machine['matmul_gflops']:.0f} GFLOP/s.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for inner_rule.json, with README.md")
    parser.add_argument("--passages", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m")
    arguments = parser.parse_args()
    base = BaseModel.load(arguments.model)
    data = passages(arguments.data, base, arguments.passages)
    path = arguments.out / "inner_rule.json"
    found = known_rows(path, data.sha256())
    machine = machine_facts(base)
    for name, options in ROWS.items():
        if name not in found:
            found[name] = measured(base, data, options)
            print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
        keep_rows(path, data.sha256(), machine, found)
    write_block(arguments.out / "README.md", "inner_rule", markdown(found, data, machine))


if __name__ == "__main__":
    main()
