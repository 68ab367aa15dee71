"""What a base that never saw a chat answers: `python benchmarks/lab/base_without_chat.py MODEL squad_dev_open.jsonl`.

The general questions with nothing else in its prompt, then questions about five passages of the first half of SQuAD's
articles, each learned alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

from continual_learning.datasets.base import halves, load_dataset, sample_evenly
from continual_learning.documents.shipped import general_questions
from continual_learning.model.base_model import BaseModel
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.base import make_strategy
from continual_learning.text.scoring import contains_answer, token_f1

STRATEGIES = ("in_context", "rag", "quote")
TOKENS = 24


def main(model: str, data: Path) -> None:
    """Print the general questions answered right, and F1 by strategy."""
    base = BaseModel.load(model)
    general = general_questions()
    answers = plain_answers(base, [q.question for q in general], TOKENS)
    right = sum(contains_answer(a.text, q.answers) for a, q in zip(answers, general, strict=True))
    print(f"general questions: {right} of {len(general)} right")
    passages = sample_evenly(halves(load_dataset(data))[0], 5, 0, 4).documents
    for name in STRATEGIES:
        strategy, scores, origins = make_strategy(name, {}), [], []
        for item in passages:
            state, _ = strategy.learn(base, strategy.init(base), item.document)
            found = strategy.answer(base, state, [q.question for q in item.questions], TOKENS)
            scores += [token_f1(a.claim, q.answers) for a, q in zip(found, item.questions, strict=True)]
            origins += [a.origin for a in found]
        left = origins.count("model")
        print(f"{name}: F1 {sum(scores) / len(scores):.2f} on {len(scores)} questions, {left} left to the base")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
