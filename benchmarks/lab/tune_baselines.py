"""Choose settings for the trained baselines within a fixed budget, on passages that no reported figure uses.

    python benchmarks/lab/tune_baselines.py --data squad_dev_open.jsonl --out benchmarks

Four passages of the first half of the articles (at most 160 tokens, at most 6 questions each) are learned, then
questions about them are asked without the document. These trials were run in order, each continuing with the highest
recall so far (F1 breaks ties):

1. lora, each passage alone: the learning rate. lora_per_document trains the same adapters and takes its settings.
2. full_finetune, each passage alone: the learning rate.
3. lora: twice the questions, or the text alone in many passes.
4. replay with lora's settings, the passages one after another in one memory: how much is replayed; lora for comparison.
5. full_finetune: the text alone in many passes.

No trial starts once ``--minutes`` of learning and answering are spent. Every passage is stored as soon as it is
measured: the same command resumes after an interruption. Writes tuning.json, and the block ``tuning`` of README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blocks import write_block

from continual_learning.datasets.base import Dataset, halves, load_dataset, sample
from continual_learning.evaluation.contender import Contender
from continual_learning.evaluation.machine import machine_facts
from continual_learning.evaluation.protocols import Settings, compare
from continual_learning.model.base_model import BaseModel
from continual_learning.types import Progress

PASSAGE_TOKENS, QUESTIONS, NOTE_SECONDS = 160, 6, 30.0
LORA_RATES, FULL_RATES = (5e-4, 1e-3, 2e-3, 5e-3), (3e-5, 1e-4, 3e-4)
# Half of the default's questions: the search for the learning rate costs half.
CHEAP = {"questions_per_fragment": 3, "passes": 2}
TEXT_ALONE = {"signal": "text", "passes": 10}
REPLAY_RATIOS = (0.5, 1.0)

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """One setting of one strategy."""

    strategy: str
    options: Options
    together: bool
    """Whether the passages are learned one after another in one memory, or else each alone."""

    @property
    def key(self) -> str:
        """What distinguishes it from other trials."""
        return json.dumps([self.strategy, dict(sorted(self.options.items())), self.together])


class Tuner:
    """Runs trials as long as the budget lasts, and stores their results."""

    def __init__(self, base: BaseModel, data: Dataset, minutes: float, out: Path | None):
        self.base, self.data, self.minutes, self.out = base, data, minutes, out
        self.machine = machine_facts(base)
        self.rows: dict[str, dict[str, Any]] = {}
        self.not_run: list[Trial] = []
        self.chosen: dict[str, Options] = {}

    @property
    def spent(self) -> float:
        """Seconds of learning and answering so far, including earlier runs of the same trials."""
        return sum(float(row["seconds"]) for row in self.rows.values())

    def best(self, strategy: str, choices: Sequence[Options], together: bool = False) -> Options:
        """The choice with the highest recall among those within the budget; the first if none was."""
        found: list[tuple[float, float, int]] = []
        for number, options in enumerate(choices):
            trial = Trial(strategy, options, together)
            if trial.key not in self.rows and self.spent > self.minutes * 60:
                self.not_run += [trial] if trial not in self.not_run else []
                continue
            row = self.run(trial)
            found.append((row["recall"], row["f1"], -number))
        self.chosen[strategy] = choices[-max(found)[2]] if found else choices[0]
        self.write()
        return self.chosen[strategy]

    def run(self, trial: Trial) -> dict[str, Any]:
        """The result of a trial, measured unless it is known."""
        if trial.key not in self.rows:
            print(f"{trial.strategy} {shown(trial.options)}", file=sys.stderr, flush=True)
            contender = Contender(trial.strategy, trial.options)
            settings = Settings(retention_documents=0, count_flops=False)
            result = compare(self.data, [contender], self.base, not trial.together, settings, _Notes())
            [found] = result["results"]
            self.rows[trial.key] = {
                "strategy": trial.strategy,
                "options": dict(trial.options),
                "passages": "one after another" if trial.together else "each alone",
                "seconds": found["learn_seconds"] * found["documents"] + found["answer_seconds"] * found["questions"],
                **{k: found[k] for k in ("recall", "f1", "recall_interval", "learn_seconds", "questions", "notes")},
            }
            self.write()
        return self.rows[trial.key]

    def write(self) -> None:
        """Write both files, as far as results are known."""
        if self.out is None:
            return
        result = {
            "command": "python benchmarks/lab/tune_baselines.py --data squad_dev_open.jsonl --out benchmarks",
            "machine": self.machine,
            "passages": [[d.document.title, len(d.questions)] for d in self.data.documents],
            "dataset_sha256": self.data.sha256(),
            "minutes": self.spent / 60,
            "rows": list(self.rows.values()),
            "not_run": [[t.strategy, dict(t.options)] for t in self.not_run],
            "chosen": self.chosen,
        }
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "tuning.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        write_block(self.out / "README.md", "tuning", self.markdown())

    def markdown(self) -> str:
        """The table, with the chosen settings in bold, and what it was measured on."""
        lines = ["| baseline | setting | passages | recall | F1 | learn, s |", "|---|---|---|---|---|---|"]
        for row in self.rows.values():
            bold = "**" if row["options"] == self.chosen.get(row["strategy"]) else ""
            low, high = row["recall_interval"] or (row["recall"], row["recall"])
            recall = f"{row['recall']:.2f} [{low:.2f}, {high:.2f}]"
            lines.append(
                f"| {bold}{row['strategy']}{bold} | {shown(row['options'])} | {row['passages']} | {recall} "
                f"| {row['f1']:.2f} | {row['learn_seconds']:.1f} |"
            )
        machine = f"{self.machine['threads']} threads, {self.machine['matmul_gflops']:.0f} GFLOP/s"
        lines += [
            "",
            f"{len(self.data.questions)} questions on {len(self.data.documents)} passages of the first half of the "
            f"articles, {self.spent / 60:.0f} min of learning and answering ({machine}); in bold what was chosen, by "
            "recall, then F1. lora_per_document trains the same adapters as lora does on a passage alone, and takes "
            "its settings.",
        ]
        if self.not_run:
            left = "; ".join(f"{trial.strategy} {shown(trial.options)}" for trial in self.not_run)
            lines.append(f"Not tried, since the budget of {self.minutes:g} min was spent: {left}.")
        return "\n".join(lines)


class _Notes:
    """Notes the estimated time and the progress of a trial now and then."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def __call__(self, step: Progress) -> None:
        now = time.perf_counter()
        if step.stage == "plan" or now - self._last > NOTE_SECONDS:
            self._last = now
            print(f"  {step.message}", file=sys.stderr, flush=True)


def shown(options: Options) -> str:
    """Settings on one line."""
    return ", ".join(f"{name}={value}" for name, value in options.items())


def passages(path: Path, count: int, base: BaseModel) -> Dataset:
    """Short passages of different articles of the first half, with their first questions."""
    first, _ = halves(load_dataset(path))
    short = tuple(d for d in first.documents if len(base.encode(d.document.text)) <= PASSAGE_TOKENS)
    chosen = sample(replace(first, documents=short), count)
    return replace(chosen, documents=tuple(replace(d, questions=d.questions[:QUESTIONS]) for d in chosen.documents))


def tune(tuner: Tuner) -> None:
    """The search that the docstring of this file describes."""
    lora = tuner.best("lora", [{**CHEAP, "learning_rate": rate} for rate in LORA_RATES])
    full = tuner.best("full_finetune", [{**CHEAP, "learning_rate": rate} for rate in FULL_RATES])
    rate = {"learning_rate": lora["learning_rate"]}
    lora = tuner.best("lora", [lora, {**lora, "questions_per_fragment": 6}, {**TEXT_ALONE, **rate}])
    tuner.chosen["lora_per_document"] = lora
    tuner.best("replay", [{**lora, "replay_ratio": ratio} for ratio in REPLAY_RATIOS], together=True)
    if tuner.spent <= tuner.minutes * 60:
        tuner.run(Trial("lora", lora, together=True))
    tuner.best("full_finetune", [full, {**TEXT_ALONE, "learning_rate": full["learning_rate"]}])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="SQuAD, or JSON lines: title, context, questions")
    parser.add_argument("--out", type=Path, help="folder for tuning.json, with the README.md that has the block")
    parser.add_argument("--passages", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=30.0, help="minutes after which no trial is started")
    parser.add_argument("--model", default="smollm2-135m")
    arguments = parser.parse_args()
    base = BaseModel.load(arguments.model)
    tuner = Tuner(base, passages(arguments.data, arguments.passages, base), arguments.minutes, arguments.out)
    tune(tuner)
    print(tuner.markdown())
    for strategy, options in tuner.chosen.items():
        print(" ".join(f"--set {strategy}.{name}={value}" for name, value in options.items()))


if __name__ == "__main__":
    main()
