"""Documents with questions to train and validate on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from continual_learning.datasets.base import Dataset, halves, load_dataset, sample
from continual_learning.datasets.facts import Split, fact_documents
from continual_learning.strategies.methods.doc2lora.training.settings import HypernetworkTraining
from continual_learning.types import QuestionAnswer


@dataclass(frozen=True)
class Example:
    """A document and questions that it answers."""

    text: str
    questions: tuple[QuestionAnswer, ...]
    replies: tuple[str, ...]
    """The expected reply to each question."""
    kind: Literal["facts", "passage"] = "facts"


@dataclass(frozen=True)
class TrainingData:
    """Examples to train and to validate on, which have no word of a fact and no article in common."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]


def training_data(settings: HypernetworkTraining) -> TrainingData:
    """Return made-up facts and passages as the settings ask for them.

    Passages come from the first half of a file's articles, the last tenth of which is for validation; the second half
    is reserved for reports. Raises InputError for a file that cannot be used.
    """
    seed, count = settings.seed, settings.validation_documents
    train: list[Example] = []
    validation: list[Example] = []
    if settings.facts_documents:
        train += facts("train", settings.facts_documents, settings.facts_per_document, seed)
        validation += facts("validation", count, settings.facts_per_document, seed)
    if settings.data is not None:
        mine, held = _parted(halves(load_dataset(settings.data))[0])
        train += passages(mine, settings.data_documents, seed)
        validation += passages(held, count, seed)
    return TrainingData(tuple(train), tuple(validation))


def facts(split: Split, count: int, size: int, seed: int) -> list[Example]:
    """Return documents of ``size`` made-up facts each, from one split."""
    made = fact_documents(split, count, size, seed)
    return [Example(item.document.text, item.questions, item.replies) for item in made]


def passages(dataset: Dataset, count: int, seed: int) -> list[Example]:
    """Return at most ``count`` documents of a data set, with their questions."""
    usable = sum(bool(item.questions) for item in dataset.documents)
    drawn = sample(dataset, min(count, usable), seed, one_per_article=False, min_questions=1)
    return [
        Example(item.document.text, item.questions, tuple(_capital(q.answers[0]) for q in item.questions), "passage")
        for item in drawn.documents
    ]


def drawn(examples: Sequence[Example], count: int, step: int, seed: int) -> list[int]:
    """Return the numbers of a step's documents: all come once before any repeats, in an order given by the seed."""
    found: list[int] = []
    for place in range(step * count, (step + 1) * count):
        epoch, at = divmod(place, len(examples))
        found.append(random.Random(f"{seed} {epoch}").sample(range(len(examples)), len(examples))[at])
    return found


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _parted(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """Return all articles but the last tenth, and the last tenth; at least one each."""
    articles = list(dict.fromkeys(item.article for item in dataset.documents))
    held = set(articles[-max(1, len(articles) // 10) :])
    return (
        replace(dataset, documents=tuple(d for d in dataset.documents if d.article not in held)),
        replace(dataset, documents=tuple(d for d in dataset.documents if d.article in held)),
    )
