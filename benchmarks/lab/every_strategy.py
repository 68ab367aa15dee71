"""Every strategy on one base: `python benchmarks/lab/every_strategy.py MODEL [STRATEGY …]`.

Each learns a passage into a memory on disk, answers questions about it and general ones, is opened again, which must
give the same answers, and forgets the passage, after which the answers must be the base's own.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from continual_learning.app.learner import Learner
from continual_learning.errors import ContinualLearningError
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import strategy_names

PASSAGE = (
    "The Vessel Street Library in Port Ardmore was founded in 1894 by the shipbuilder Agnes Telford, who gave it four "
    "thousand books on navigation. It burned down in the storm of March 1921 and was rebuilt in red granite by the "
    "architect Paul Mirren. Since 2003 its reading room has housed a collection of sea charts, the oldest of which "
    "was drawn in 1611. The library closes on Mondays, and its tower, 38 metres high, is home to a colony of swifts."
)
QUESTIONS = (
    "Who founded the Vessel Street Library?",
    "How high is the tower of the Vessel Street Library?",
    "On which day does the Vessel Street Library close?",
)
QA = [
    {"question": "When was the Vessel Street Library founded?", "answer": "1894"},
    {"question": "Who rebuilt the Vessel Street Library?", "answer": "Paul Mirren"},
]
"""For strategies that learn from questions."""
GENERAL = ("What is the capital of France?", "How many days are in a week?")
TOKENS = 16
OPTIONS: dict[str, dict[str, Any]] = {"ace": {"loops": 1}}


def main(model: str, names: Sequence[str]) -> None:
    """Print, for each strategy, its answers, what failed, and seconds."""
    base = BaseModel.load(model)
    asked = [*QUESTIONS, *GENERAL]
    own = [a.text for a in Learner(base, Learner.open(base, "frozen").strategy).ask(asked, TOKENS)]
    print(f"{base.name} alone: {own}", flush=True)
    for name in names or strategy_names():
        home = Path(tempfile.mkdtemp())
        try:
            print(f"{name}: {one(base, name, home, asked, own)}", flush=True)
        except ContinualLearningError as error:
            print(f"{name}: FAILED {type(error).__name__}: {error}", flush=True)
        finally:
            shutil.rmtree(home, ignore_errors=True)


def one(base: BaseModel, name: str, home: Path, asked: Sequence[str], own: Sequence[str]) -> str:
    """What one strategy does, in words."""
    started = time.perf_counter()
    learner = Learner.open(base, name, "lab", home, **OPTIONS.get(name, {}))
    report = learner.learn(PASSAGE, "Vessel Street Library", QA)
    learned = time.perf_counter()
    answers = learner.ask(asked, TOKENS)
    answered = time.perf_counter()
    again = Learner.open(base, name, "lab", home).ask(asked, TOKENS)
    faults = [] if [a.text for a in again] == [a.text for a in answers] else [f"REOPENED {[a.text for a in again]}"]
    faults += [f"LINES {a.text!r}" for a in answers if "\n" in a.text or "Question:" in a.text]
    left = len(learner.documents)
    for document in learner.documents:
        learner.forget(document.id)
    after = [a.text for a in learner.ask(asked, TOKENS)]
    faults += [] if after == list(own) else [f"FORGOTTEN {after}"]
    return "\n  ".join((
        f"{report.reason}; {left} kept, learned in {learned - started:.1f} s, {len(asked)} answers in "
        f"{answered - learned:.1f} s, all in {time.perf_counter() - started:.1f} s",
        *(f"{a.origin:7} {a.text!r} {'; '.join(a.notes)}".rstrip() for a in answers),
        *report.warnings, *(faults or ["no fault"]),
    ))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
