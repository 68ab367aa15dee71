"""Does a start help? A two-by-two comparison: {start, plain} x {learning on, off}, closed book.

    python benchmarks/lab/start.py --data squad_dev_open.jsonl --start FOLDER/start.safetensors

For each passage, one per article, ttt begins at the start or without one, learns the passage or does not, and is asked
the passage's questions without the passage. By default the articles are those of the second half of the file: train
the start on the first (`continual-learning train start … --half first`).

With learning off the passage's branch has its initial weights and is open for the same questions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from continual_learning import Learner
from continual_learning.datasets.base import QADocument, halves, load_dataset, sample
from continual_learning.model.base_model import BaseModel
from continual_learning.settings.schema import from_text, parse_assignments
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.start import load_start
from continual_learning.text.scoring import contains_answer, token_f1

ANSWER_TOKENS = 24
# One step at a learning rate of zero: the branch is created and nothing is learned.
OFF: Mapping[str, Any] = {"learning_rate": 0.0, "max_seconds": 1e-9, "questions_per_fragment": 1}


@dataclass
class Cell:
    """One of the four combinations."""

    start: bool
    learning: bool
    recall: list[bool] = field(default_factory=list)
    f1: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)

    def measure(self, base: BaseModel, item: QADocument, options: Mapping[str, Any]) -> None:
        """Learn a passage and ask its questions."""
        learner = Learner.open(base, "ttt", guard=False, **{**options, **({} if self.learning else OFF)})
        report = learner.learn(item.document)
        self.seconds.append(report.seconds)
        answers = learner.ask([q.question for q in item.questions], max_new_tokens=ANSWER_TOKENS)
        for asked, answer in zip(item.questions, answers, strict=True):
            self.recall.append(contains_answer(answer.claim, asked.answers))
            self.f1.append(token_f1(answer.claim, asked.answers))
            self.answers.append(
                {
                    "title": item.document.title,
                    "question": asked.question,
                    "answers": asked.answers,
                    "said": answer.text,
                    "right": self.recall[-1],
                }
            )

    def summary(self) -> dict[str, Any]:
        """Means over questions; seconds over passages."""
        return {
            "begins": "start" if self.start else "plain",
            "learning": "on" if self.learning else "off",
            "questions": len(self.recall),
            "recall": statistics.fmean(self.recall),
            "f1": statistics.fmean(self.f1),
            "learn_seconds": statistics.fmean(self.seconds),
        }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="SQuAD's JSON, or JSON lines: title, context, questions")
    parser.add_argument("--start", required=True, help="a start's file, or `packaged`")
    parser.add_argument("--half", choices=("first", "second", "all"), default="second", help="which articles")
    parser.add_argument("--passages", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of ttt")
    parser.add_argument(
        "--max-seconds", type=float, default=float("inf"), help="seconds after which no passage is started"
    )
    parser.add_argument("--out", type=Path, help="file for the results, JSON")
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.data)
    if arguments.half != "all":
        dataset = halves(dataset)[0 if arguments.half == "first" else 1]
    items = sample(dataset, arguments.passages, arguments.seed).documents
    base = BaseModel.load(arguments.model)
    options = {k: from_text(TTTConfig, k, v) for k, v in parse_assignments(arguments.set).items()}
    facts = load_start(arguments.start, base).facts
    cells = [Cell(start, learning) for start in (False, True) for learning in (False, True)]
    began = time.perf_counter()
    for number, item in enumerate(items, 1):
        if time.perf_counter() - began > arguments.max_seconds:
            break
        for cell in cells:
            cell.measure(base, item, {**options, **({"start": arguments.start} if cell.start else {})})
        now = "  ".join(
            f"{c.summary()['begins']}/{c.summary()['learning']} {statistics.fmean(c.recall):.2f}" for c in cells
        )
        print(f"{number}/{len(items)} {time.perf_counter() - began:.0f} s  {now}", file=sys.stderr, flush=True)
        result = {
            "command": f"python benchmarks/start.py --data {Path(arguments.data).name} --start {arguments.start} "
            f"--half {arguments.half} --passages {arguments.passages} --seed {arguments.seed} "
            + " ".join(f"--set {text}" for text in arguments.set),
            "machine": f"{torch.get_num_threads()} threads, torch {torch.__version__}",
            "start": facts,
            "passages": number,
            "rows": [cell.summary() for cell in cells],
            "details": [asdict(cell) for cell in cells],
        }
        if arguments.out:  # after every passage, so that an interrupted run keeps what it measured
            arguments.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print("| begins | learning | questions | recall | token F1 | learn, s |\n|---|---|---|---|---|---|")
    for row in (cell.summary() for cell in cells):
        print(
            f"| {row['begins']} | {row['learning']} | {row['questions']} | {row['recall']:.2f} | {row['f1']:.2f} | "
            f"{row['learn_seconds']:.1f} |"
        )


if __name__ == "__main__":
    main()
