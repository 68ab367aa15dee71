"""What ttt learns from: each signal on the same passages, self-made and borrowed material apart.

    python benchmarks/signal_ablation.py --data squad_dev_open.jsonl --study study_material_open.jsonl --out benchmarks

Passages of the first half of the articles for which a larger model wrote study material (``--study``: JSON lines with
``context`` and ``qa``, ``rewrites`` or ``implications``), one of an article, at most 160 tokens; the questions are
those of ``--data`` and are never studied. Every row is kept as it is measured: the same command goes on after an
interruption. Writes signal.json, and the block ``signal`` of README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from blocks import keep_rows, known_rows, write_block

from continual_learning.datasets.base import Dataset, halves, load_dataset, sample
from continual_learning.evaluation.contender import Contender
from continual_learning.evaluation.machine import machine_facts
from continual_learning.evaluation.protocols import Settings, compare
from continual_learning.model.base_model import BaseModel

PASSAGE_TOKENS = 160
NO_QUESTIONS: dict[str, Any] = {"address": "question", "questions_per_fragment": 0}


def rows(study: Path) -> dict[str, dict[str, Any]]:
    """Options of ttt by what the row is called."""
    borrowed = {"study_file": str(study)}
    questions = {"address": "question"}
    return {
        "parts after cues, read by the span reader (the default)": {},
        "parts after cues, recited": {"reader": None},
        "parts after cues, and borrowed material": borrowed,
        "next-token loss on the text": {**NO_QUESTIONS, "text_copies": 6},
        "self-made questions": questions,
        "self-made questions, top-k KL to the base with the passage": {**questions, "distill_weight": 1.0},
        "self-made questions, replay with KL to the base": {**questions, "replay_weight": 1.0},
        "borrowed questions and statements, and the text": {**NO_QUESTIONS, "text_copies": 1, **borrowed},
        "self-made and borrowed questions": {**questions, **borrowed},
    }


def passages(data: Path, study: Path, base: BaseModel, count: int) -> Dataset:
    """Short passages that have study material, of different articles."""
    known = {json.loads(line)["context"].strip() for line in study.read_text("utf-8").splitlines()}
    first, _ = halves(load_dataset(data))
    usable = tuple(
        d
        for d in first.documents
        if d.document.text.strip() in known and len(base.encode(d.document.text)) <= PASSAGE_TOKENS
    )
    return sample(replace(first, documents=usable), count)


def markdown(found: dict[str, dict[str, Any]], data: Dataset, machine: dict[str, Any]) -> str:
    """The table, and what it was measured on."""
    lines = ["| signal | recall | F1 | learn, s |", "|---|---|---|---|"]
    for name, row in found.items():
        low, high = row["recall_interval"] or (row["recall"], row["recall"])
        recall = f"{row['recall']:.2f} [{low:.2f}, {high:.2f}]"
        lines.append(f"| {name} | {recall} | {row['f1']:.2f} | {row['learn_seconds']:.1f} |")
    tokens = sum(row["tokens_learned"] for row in list(found.values())[:1])
    lines += [
        "",
        f"{len(data.questions)} questions on {len(data.documents)} passages of the first half of the articles "
        f"({tokens} tokens); {machine['threads']} threads, {machine['matmul_gflops']:.0f} GFLOP/s. Without the check "
        "after learning.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for signal.json, with README.md")
    parser.add_argument("--passages", type=int, default=6)
    arguments = parser.parse_args()
    base = BaseModel.load()
    data = passages(arguments.data, arguments.study, base, arguments.passages)
    path = arguments.out / "signal.json"
    found = known_rows(path, data.sha256())
    machine = machine_facts(base)
    for name, options in rows(arguments.study).items():
        if name in found:
            continue
        print(name, file=sys.stderr, flush=True)
        contender = Contender("ttt", {"guard": False, **options})
        result = compare(data, [contender], base, True, Settings(retention_documents=0, count_flops=False))
        keys = ("recall", "recall_interval", "f1", "exact_match", "learn_seconds", "answer_seconds", "tokens_learned")
        found[name] = {key: result["results"][0][key] for key in keys}
        print(f"  recall {found[name]['recall']:.2f}, F1 {found[name]['f1']:.2f}", file=sys.stderr, flush=True)
        keep_rows(path, data.sha256(), machine, found)
        write_block(arguments.out / "README.md", "signal", markdown(found, data, machine))


if __name__ == "__main__":
    main()
