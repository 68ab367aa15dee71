"""Does what the hypernetwork writes depend on the document? A falling loss alone does not show it.

A generator can collapse: it writes one adapter for all documents, which teaches the form of the answers and lowers the
loss. So the gold answers' negative log-likelihood is measured with the document's own adapter (matched), with another
document's (mismatched) and with none, and the adapters themselves are compared: how far they are from their mean,
relative to their length. A collapsed generator has matched = mismatched and a movement of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import torch

from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import generate
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.methods.doc2lora.adapter import installed
from continual_learning.strategies.methods.doc2lora.generated_lora import Adapter
from continual_learning.strategies.methods.doc2lora.generators import DocumentGenerator
from continual_learning.strategies.methods.doc2lora.network import DocumentHypernetwork
from continual_learning.strategies.methods.doc2lora.training.data import Example
from continual_learning.strategies.methods.doc2lora.training.student import States, prompt_losses, question_losses
from continual_learning.strategies.methods.doc2lora.training.targets import Target, prompt_ids, reply_ids
from continual_learning.text.scoring import contains_answer


@dataclass(frozen=True)
class Sensitivity:
    """Negative log-likelihood of the replies in nats per token, and recall from 0 to 1 if it was asked for."""

    matched: float
    mismatched: float
    none: float
    prompt: float | None
    """With the document in the prompt."""
    movement: float
    """Mean distance of the adapters from their mean, divided by their mean length."""
    recall_matched: float | None = None
    recall_mismatched: float | None = None
    recall_none: float | None = None
    recall_prompt: float | None = None
    documents: int = 0
    questions: int = 0

    @property
    def share(self) -> float | None:
        """Share of the fall in loss due to the document in the prompt that the adapter gives too."""
        if self.prompt is None or self.none <= self.prompt:
            return None
        return (self.none - self.matched) / (self.none - self.prompt)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "share": self.share}


@torch.no_grad()
def context_sensitivity(
    base: BaseModel,
    network: DocumentHypernetwork,
    examples: Sequence[Example],
    recall: bool = False,
    in_prompt: bool = False,
    chunk_tokens: int = 1024,
    max_questions: int = 8,
) -> Sensitivity:
    """Measure on at least two documents. ``recall`` also lets the model answer; ``in_prompt`` adds the teacher."""
    generator = DocumentGenerator(base, network, chunk_tokens)
    made = [generator.internalise(base, example.text) for example in examples]
    states = States(base, network.config.first_block)
    losses: dict[str, list[float]] = {"matched": [], "mismatched": [], "none": [], "prompt": []}
    right: dict[str, list[float]] = {name: [] for name in losses}
    for number, example in enumerate(examples):
        questions, replies = example.questions[:max_questions], example.replies[:max_questions]
        targets = [_target(base, q.question, r) for q, r in zip(questions, replies, strict=True)]
        cases: list[tuple[str, Adapter]] = [
            ("matched", made[number].whole),
            ("mismatched", made[(number + 1) % len(made)].whole),
            ("none", {}),
        ]
        for name, adapter in cases:
            losses[name] += question_losses(base, adapter, [[targets]], states).tolist()
            if recall:
                with installed(base, adapter):
                    answers = plain_answers(base, [q.question for q in questions], 24)
                right[name] += [contains_answer(a.text, q.answers) for a, q in zip(answers, questions, strict=True)]
        if in_prompt:
            asked = [_target(base, q.question, r, example.text) for q, r in zip(questions, replies, strict=True)]
            losses["prompt"] += prompt_losses(base, asked).tolist()
            if recall:
                written = generate(base, [target.prompt for target in asked], 24)
                right["prompt"] += [contains_answer(w.text, q.answers) for w, q in zip(written, questions, strict=True)]
    return Sensitivity(
        matched=fmean(losses["matched"]),
        mismatched=fmean(losses["mismatched"]),
        none=fmean(losses["none"]),
        prompt=_mean(losses["prompt"]),
        recall_matched=_mean(right["matched"]),
        recall_mismatched=_mean(right["mismatched"]),
        recall_none=_mean(right["none"]),
        recall_prompt=_mean(right["prompt"]),
        movement=_movement([one.adapter for one in made]),
        documents=len(examples),
        questions=len(losses["matched"]),
    )


def _mean(values: Sequence[float]) -> float | None:
    """Return the mean; None of no values, which means that it was not asked for."""
    return fmean(values) if values else None


def _target(base: BaseModel, question: str, reply: str, document: str | None = None) -> Target:
    return Target(tuple(prompt_ids(base, question, document)), tuple(reply_ids(base, reply)), None, None, 1.0)


def _movement(made: Sequence[Adapter]) -> float:
    """Compare the changes ``B^T A`` themselves, by products of the small matrices: none is as large as a weight."""

    def product(one: Adapter, other: Adapter) -> float:
        total = 0.0
        for place, (A_RI, B_RO) in one.items():
            C_RI, E_RO = other[place]
            total += float(((A_RI @ C_RI.mT) * (B_RO @ E_RO.mT)).sum())
        return total

    count = len(made)
    gram = [[product(one, other) for other in made] for one in made]
    length = fmean(gram[i][i] for i in range(count))
    centre = sum(map(sum, gram)) / count**2
    return max(0.0, (length - centre) / length) ** 0.5 if length > 0 else 0.0
