"""Experience replay: sequential training in which earlier documents and ordinary text come along.

The documented baseline of continual learning (Rolnick et al. 2019, arXiv 1811.11682; Chaudhry et al. 2019, arXiv
1902.10486): with every new document, material of earlier ones, drawn from their kept texts, is learned again, and so
are texts of no document, which stand for what the model should still know. What is trained is a LoRA adapter.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator

from continual_learning.documents.shipped import background_texts
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import Cost
from continual_learning.strategies.baselines._finetuning import PASSAGE_TOKENS, AdapterConfig
from continual_learning.strategies.baselines._lora import LoRA
from continual_learning.strategies.baselines._sequential import SequentialFinetuning, kept_texts
from continual_learning.training.examples import Item, cut_to_tokens, document_items, text_item

# Background texts for each item of the new document.
_BACKGROUND_RATIO = 0.25


class ReplayConfig(AdapterConfig):
    """Settings of the replay strategy.

    Rates, questions, passes and the replay ratio are from benchmarks/lab/tune_baselines.py; the rest was not tuned.
    """

    learning_rate: float = Field(5e-3, ge=0)
    """AdamW's highest; it rises during the warm-up and falls to a tenth after."""
    replay_ratio: float = Field(1.0, ge=0)
    """Items of earlier documents for each item of the new one."""

    RETIRED: ClassVar[Mapping[str, object]] = {
        **AdapterConfig.RETIRED,
        "parameters": "lora",
        "background_ratio": _BACKGROUND_RATIO,
        "background": None,
    }

    @field_validator("learning_rate", mode="before")
    @classmethod
    def _rate(cls, value: Any) -> Any:
        """Memories once stored null for the default rate."""
        return cls.model_fields["learning_rate"].default if value is None else value


class Replay(SequentialFinetuning[ReplayConfig]):
    """One adapter for all documents; each pass mixes new material with old."""

    summary = "sequential training with replay of earlier documents and ordinary text"
    Config = ReplayConfig
    role = "baseline"
    cost = Cost(learn_token=0.7)
    fixed = ("rank", "alpha")

    @property
    def trainable(self) -> LoRA:
        """The adapter."""
        return LoRA(self.config.rank, self.config.alpha)

    def material(self, base: BaseModel, state: State, text: str, title: str, rng: random.Random) -> list[Item]:
        """One pass: the new document, and a new draw of earlier documents and background texts."""
        new = super().material(base, state, text, title, rng)
        earlier = self._earlier_items(base, state, _rounded(self.config.replay_ratio * len(new), rng), rng)
        drawn = rng.choices(background_texts(), k=_rounded(_BACKGROUND_RATIO * len(new), rng))
        return [*new, *earlier, *(text_item(base, one) for one in drawn)]

    def _earlier_items(self, base: BaseModel, state: State, count: int, rng: random.Random) -> list[Item]:
        """``count`` items of earlier documents, fewer where they have fewer, each document as likely as another."""
        texts, ids = kept_texts(state), [record.id for record in state.meta.documents]
        wanted = Counter(rng.choices(ids, k=count) if ids else [])
        items: list[Item] = []
        for record in state.meta.documents:
            if wanted[record.id]:
                text, _, _ = cut_to_tokens(base, texts[record.id], self.config.max_tokens)
                made = document_items(base, text, record.title, PASSAGE_TOKENS, self.config.study_material, rng)
                items += rng.sample(made, min(wanted[record.id], len(made)))
        return items


def _rounded(count: float, rng: random.Random) -> int:
    """Up or down by chance, so that it is right in the mean: a quarter of one item is one item in four passes."""
    return int(count) + (rng.random() < count % 1)
