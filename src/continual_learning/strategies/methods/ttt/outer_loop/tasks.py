"""The tasks of the outer loop: passages with questions, and what is trained on and asked for of each.

Shapes: T = tokens, D = hidden size, S = candidate tokens of the inner loss.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from continual_learning.datasets.base import Dataset, split_by_article
from continual_learning.errors import InputError
from continual_learning.model.base_model import BaseModel
from continual_learning.retrieval.parts import cut_parts
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.inner_loop import prefix_activations
from continual_learning.strategies.methods.ttt.learning import part_item, rival_tokens
from continual_learning.text.chunking import passages
from continual_learning.text.scoring import contains_answer
from continual_learning.training.examples import Item, text_item
from continual_learning.types import QuestionAnswer


@dataclass(frozen=True)
class StudyPassage:
    """A passage as ttt learns it, and questions that it answers."""

    text: str
    title: str
    questions: tuple[QuestionAnswer, ...]


@dataclass(frozen=True)
class Task:
    """One passage in one step: items to train on and to ask for, with the activations of the frozen blocks below."""

    study: list[Item]
    study_prefix: list[Tensor]
    """[T, D] each."""
    asked: list[Item]
    asked_prefix: list[Tensor]
    rivals_S: Tensor


def training_passages(
    base: BaseModel, dataset: Dataset, passage_tokens: int, share: float, seed: int
) -> tuple[list[StudyPassage], list[StudyPassage]]:
    """Return passages to train on and to validate on, from different articles.

    A document is cut into passages as ttt cuts it, and a question goes with the passage that holds its answer.
    Raises InputError if either list is empty.
    """
    learn, held = split_by_article(dataset, seed, share)
    found = []
    for part in (learn, held):
        made = []
        for item in part.documents:
            pieces = passages(item.document.text, lambda t: len(base.encode(t)), passage_tokens)
            for piece in pieces:
                questions = tuple(q for q in item.questions if contains_answer(piece, q.answers))
                if questions:
                    made.append(StudyPassage(piece, item.document.title, questions))
        if not made:
            raise InputError(
                f"{dataset.name}: the {part.split} part of {len(part.documents)} documents has no question whose "
                "answer occurs in its passage; expected some"
            )
        found.append(made)
    return found[0], found[1]


def make_task(
    base: BaseModel,
    passage: StudyPassage,
    ttt: TTTConfig,
    background: Sequence[str],
    first_block: int,
    inner_tokens: int,
    questions: int,
    rng: random.Random,
) -> Task:
    """Sample what is trained on and asked for of a passage; with ``inner_tokens`` 0, nothing is trained on.

    A question's words choose parts, so the weights are asked with the cues of parts: all those that were trained on.
    """
    parts = cut_parts(passage.text, lambda t: len(base.encode(t)), ttt.part_tokens)
    cued = [part_item(base, passage.title, number, part) for number, part in enumerate(parts)]
    asked = _some(cued, inner_tokens, rng) if inner_tokens else rng.sample(cued, min(questions, len(cued)))
    study = asked if inner_tokens else []
    rivals_S = rival_tokens(base, asked, background)
    return Task(
        study,
        prefix_activations(base, study, first_block),
        asked,
        prefix_activations(base, asked, first_block),
        rivals_S,
    )


def passage_item(base: BaseModel, passage: StudyPassage) -> Item:
    """Return the passage as plain text after its title."""
    return text_item(base, passage.text, passage.title)


def _some(items: Sequence[Item], tokens: int, rng: random.Random) -> list[Item]:
    """Return items drawn at random, at least one, that together have at most this many tokens."""
    drawn: list[Item] = []
    for item in rng.sample(items, len(items)):
        if drawn and sum(len(i.ids) for i in drawn) + len(item.ids) > tokens:
            break
        drawn.append(item)
    return drawn
