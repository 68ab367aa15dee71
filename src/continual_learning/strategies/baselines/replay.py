"""Experience replay: sequential training that mixes in earlier documents and ordinary text.

The documented baseline of continual learning (Rolnick et al. 2019, arXiv 1811.11682; Chaudhry et al. 2019, arXiv
1902.10486): with every new document, examples of earlier ones, drawn from their kept texts, are learned again, and so
are background texts, which represent what the model should still know. The trained parameters are a LoRA adapter.
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

# Background texts per example of the new document.
_BACKGROUND_RATIO = 0.25


class ReplayConfig(AdapterConfig):
    """Settings of the replay strategy.

    benchmarks/lab/tune_baselines.py chose rates, questions, passes and the replay ratio; the rest was not tuned.
    """

    learning_rate: float = Field(5e-3, ge=0)
    """AdamW's peak learning rate; it rises during the warm-up and then falls to a tenth. It is for weights as large as
    SmolLM2-135M's: where a base's are smaller, the rate is smaller in proportion."""
    replay_ratio: float = Field(1.0, ge=0)
    """Examples of earlier documents per example of the new one."""

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
    """One adapter for all documents; each pass mixes new examples with old ones."""

    summary = "sequential training with replay of earlier documents and ordinary text"
    Config = ReplayConfig
    role = "baseline"
    cost = Cost(
        learn_token=0.7,
        memory_bytes=9.8e6,
        f1={"smollm2-135m": 0.078},
        general_kept=0.25,
    )
    fixed = ("rank", "alpha")

    @property
    def trainable(self) -> LoRA:
        """The adapter."""
        return LoRA(self.config.rank, self.config.alpha)

    def material(self, base: BaseModel, state: State, text: str, title: str, rng: random.Random) -> list[Item]:
        """The examples of one pass: the new document, and a new draw of earlier documents and background texts."""
        new = super().material(base, state, text, title, rng)
        earlier = self._earlier_items(base, state, _rounded(self.config.replay_ratio * len(new), rng), rng)
        drawn = rng.choices(background_texts(), k=_rounded(_BACKGROUND_RATIO * len(new), rng))
        return [*new, *earlier, *(text_item(base, one) for one in drawn)]

    def _earlier_items(self, base: BaseModel, state: State, count: int, rng: random.Random) -> list[Item]:
        """``count`` examples of earlier documents, or fewer if there are fewer; every document is equally likely."""
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
    """Round up or down at random, with the right mean: a quarter of an example is one example in four passes."""
    return int(count) + (rng.random() < count % 1)
