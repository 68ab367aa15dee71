"""Facts told in a chat, on any bases: `python benchmarks/lab/told_facts.py smollm2-135m gemma3-270m`.

The conversation of benchmarks/experiments/conversation: 20 facts over 40 turns, each learned as it comes; then the
history is cleared and every fact is asked. `--part tune` takes the facts on which settings are tuned, `--set` others.
"""

from __future__ import annotations

import argparse
import statistics
import time

import yaml

from continual_learning.datasets.conversation import conversation_dataset
from continual_learning.documents.shipped import general_questions, unrelated_texts
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.gate import retention
from continual_learning.text.scoring import contains_answer

TOKENS = 24


def main() -> None:
    """Print, for each base, what is answered, and what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--part", default="report", choices=("tune", "report"))
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--facts", type=int, default=20)
    parser.add_argument("--set", dest="options", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--no-retention", action="store_true", help="leave out the general questions")
    given = parser.parse_args()
    data = conversation_dataset(given.part, given.turns, given.facts)
    asked = [question for item in data.documents for question in item.questions]
    options = {name: yaml.safe_load(value) for name, _, value in (one.partition("=") for one in given.options)}
    strategy = make_strategy("nested", options)
    for model in given.models:
        base = BaseModel.load(model)
        state, seconds, refused = strategy.init(base), [], 0
        for item in data.documents:
            started = time.perf_counter()
            state, report = strategy.learn(base, state, item.document)
            refused += not report.accepted
            if item.questions:
                seconds.append(time.perf_counter() - started)
        answers = strategy.answer(base, state, [question.question for question in asked], TOKENS)
        right = [contains_answer(answer.text, q.answers) for answer, q in zip(answers, asked, strict=True)]
        for answer, question, ok in zip(answers, asked, right, strict=True):
            print(f"  {'+' if ok else '-'} {question.question} {answer.text!r} ({question.answers[0]})")
        kept = ""
        if not given.no_retention:
            found = retention(base, strategy, state, general_questions(), unrelated_texts())
            kept = f", general questions kept {found.general_kept:.0%}" if found.general_kept is not None else ""
        print(
            f"{model}: {sum(right)} of {len(right)} facts{kept}, {statistics.fmean(seconds):.1f} s a fact, "
            f"at most {max(seconds):.1f}; {refused} turns refused",
            flush=True,
        )


if __name__ == "__main__":
    main()
