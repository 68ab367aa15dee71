"""What the embedded model makes of 60 fixed questions: measured by the tests, printed by `make quality`.

Twelve passages of SQuAD (LICENSE.md) are learned into one memory of ``quote`` and one of ``ttt``. None of their
articles took part in training the shipped span reader.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from continual_learning.app.learner import Learner
from continual_learning.documents import Document
from continual_learning.documents.shipped import general_questions, unrelated_texts
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.gate import retention
from continual_learning.text.scoring import token_f1

FOLDER = Path(__file__).parent
PASSAGES = FOLDER / "passages.jsonl"
REFERENCE = FOLDER / "reference.json"
COMMAND = "python tests/quality/quality_gate.py --write"

MAX_F1_DROP = 0.03
MIN_PARTS_RECITED = 0.99
MIN_GENERAL_KEPT = 0.97


def passages() -> list[dict[str, Any]]:
    """The passages with their questions, in the order in which they are learned."""
    return [json.loads(line) for line in PASSAGES.read_text(encoding="utf-8").splitlines()]


def learn_passages(base: BaseModel, strategy: str) -> Learner:
    """A learner with the default options that holds every passage. Raises ValueError where one is refused."""
    learner = Learner.open(base, strategy)
    reports = learner.learn([Document(p["context"], p["title"]) for p in passages()])
    refused = [f"{r.title}: {r.reason}" for r in reports if not r.accepted]
    if refused:
        raise ValueError(f"{strategy} refused {'; '.join(refused)}")
    return learner


def mean_f1(learner: Learner) -> float:
    """Mean token F1 over all questions, all documents in one memory."""
    questions = [q for p in passages() for q in p["questions"]]
    answers = learner.ask([q["question"] for q in questions])
    return fmean(token_f1(a.claim, [q["answer"]]) for a, q in zip(answers, questions, strict=True))


def parts_recited(learner: Learner) -> float:
    """Share of the parts of all documents that the learned weights recite word for word."""
    details = [record.details for record in learner.documents]
    return sum(d["parts_recited"] for d in details) / sum(d["parts"] for d in details)


def general_kept(learner: Learner) -> float:
    """Share of the general questions answered right by the base that are right with the memory in place."""
    kept = retention(learner.base, learner.strategy, learner.state, general_questions(), unrelated_texts())
    if kept.general_kept is None:
        raise ValueError("the base answers no general question; expected the embedded model")
    return kept.general_kept


def measure(base: BaseModel) -> dict[str, float]:
    """The figures of the gate, each between 0 and 1."""
    quote, ttt = learn_passages(base, "quote"), learn_passages(base, "ttt")
    return {
        "quote_f1": mean_f1(quote),
        "ttt_parts_recited": parts_recited(ttt),
        "quote_general_kept": general_kept(quote),
        "ttt_general_kept": general_kept(ttt),
    }


def failures(figures: dict[str, float], reference: dict[str, float]) -> list[str]:
    """What is below its limit, one line each with figure and limit. Empty: the gate is passed."""
    limits = {
        "quote_f1": reference["quote_f1"] - MAX_F1_DROP,
        "ttt_parts_recited": MIN_PARTS_RECITED,
        "quote_general_kept": MIN_GENERAL_KEPT,
        "ttt_general_kept": MIN_GENERAL_KEPT,
    }
    return [f"{name} {figures[name]:.3f}; at least {low:.3f}" for name, low in limits.items() if figures[name] < low]


def main() -> None:
    """Print the figures; with --write, make them the reference."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="make the measured figures the reference")
    write = parser.parse_args().write
    figures = {name: round(value, 4) for name, value in measure(BaseModel.load()).items()}
    print(json.dumps(figures, indent=2))
    if write:
        REFERENCE.write_text(json.dumps({"command": COMMAND, **figures}, indent=2) + "\n", encoding="utf-8")
    elif low := failures(figures, json.loads(REFERENCE.read_text(encoding="utf-8"))):
        raise SystemExit("\n".join(low))


if __name__ == "__main__":
    main()
