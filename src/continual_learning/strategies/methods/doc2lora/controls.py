"""Does a task description matter? The same questions with a random and with a mismatched description.

Random descriptions were found to give adapters as good as the true ones, so a result of the text mode means nothing
without these controls.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from continual_learning.model.base_model import BaseModel
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.gate import ANSWER_TOKENS
from continual_learning.strategies.methods.doc2lora.adapter import installed
from continual_learning.strategies.methods.doc2lora.generators import AdapterGenerator
from continual_learning.text.scoring import contains_answer
from continual_learning.types import QuestionAnswer

MISMATCHED = (
    "Translate the sentence into French.",
    "Say whether the film review is positive or negative.",
    "Add the two numbers and give their sum.",
    "Sort the words of the list by the alphabet.",
)


@dataclass(frozen=True)
class Controls:
    """Recall of the same questions, 0 to 1, with adapters of three descriptions."""

    described: float
    random: float
    """With about as many random tokens from the tokenizer's vocabulary as the description has."""
    mismatched: float
    """Mean over descriptions of other tasks."""

    def to_json(self) -> dict[str, float]:
        """Plain JSON values."""
        return asdict(self)

    def summary(self) -> str:
        """Return the result, and what follows from it, in one line."""
        best = max(self.random, self.mismatched)
        verdict = "the description matters" if self.described > best else "the description makes no difference"
        return (
            f"recall {self.described:.2f} with this description, {self.random:.2f} with a random one, "
            f"{self.mismatched:.2f} with mismatched ones: {verdict}"
        )


def description_controls(
    base: BaseModel, generator: AdapterGenerator, description: str, qa: Sequence[QuestionAnswer], seed: int = 0
) -> Controls:
    """Answer ``qa`` with the adapters of ``description``, of random words and of other tasks' descriptions."""

    def recall(text: str) -> float:
        with installed(base, generator.internalise(base, text).whole):
            answers = plain_answers(base, [q.question for q in qa], ANSWER_TOKENS)
        return sum(contains_answer(a.text, q.answers) for a, q in zip(answers, qa, strict=True)) / len(qa)

    others = [recall(text) for text in MISMATCHED if text != description]
    return Controls(recall(description), recall(random_description(base, description, seed)), sum(others) / len(others))


def random_description(base: BaseModel, description: str, seed: int) -> str:
    """Random tokens, about as many as the description has; the same for the same seed."""
    draw = random.Random(seed)
    special = set(base.tokenizer.all_special_ids)
    choices = [i for i in range(base.vocab_size) if i not in special]
    return base.decode(draw.choices(choices, k=len(base.encode(description)))).strip() or MISMATCHED[0]
