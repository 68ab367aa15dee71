"""Passages for the outer loop, with what the frozen blocks make of them, which never changes."""

from __future__ import annotations

import random
from dataclasses import dataclass

from continual_learning.datasets.base import Dataset, split_by_article
from continual_learning.errors import InputError
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.inner_loop import Batch, Job, prefix_activations
from continual_learning.strategies.methods.ttt.learning import Passage, part_item, parts_of
from continual_learning.strategies.methods.ttt.outer_loop.config import StartConfig
from continual_learning.text.chunking import passages

# Share of the articles that are held out.
_HELD_SHARE = 0.2


@dataclass(frozen=True)
class StudyPassage:
    """The parts of a passage as ttt learns them, without branches, all in one mini-batch."""

    job: Job
    batch: Batch


def split_passages(
    base: BaseModel, dataset: Dataset, ttt: TTTConfig, config: StartConfig
) -> tuple[list[Passage], list[Passage]]:
    """Return passages to train on and to validate on, from different articles, cut as ttt cuts them.

    Raises InputError if either list is empty.
    """
    drawn = []
    split = split_by_article(dataset, config.seed, _HELD_SHARE)
    for part, wanted in zip(split, (config.passages, config.validation_passages), strict=True):
        cut = [
            Passage(text, item.document.title, ttt.alpha(1), "")
            for item in part.documents
            for text in passages(item.document.text, lambda t: len(base.encode(t)), ttt.passage_tokens)
        ]
        if not cut:
            raise InputError(f"{dataset.name}: the {part.split} part of its articles has no text; expected some")
        drawn.append(random.Random(f"{config.seed}:{part.split}").sample(cut, min(wanted, len(cut))))
    return drawn[0], drawn[1]


def study_passage(base: BaseModel, passage: Passage, ttt: TTTConfig, first_block: int) -> StudyPassage:
    """Run the blocks before ``first_block`` on a passage's parts, each after its cue."""
    parts = parts_of(base, passage, ttt)
    items = [part_item(base, passage.title, number, part) for number, part in enumerate(parts)]
    prefix = prefix_activations(base, items, first_block)
    return StudyPassage(Job({}, passage.alpha, items, prefix, len(items), base.stop_ids), Batch.of(base, items, prefix))
