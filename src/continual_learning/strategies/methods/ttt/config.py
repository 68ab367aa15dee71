"""Settings of TTT-E2E."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from continual_learning.options import ANY
from continual_learning.reading.pipeline import PassageConfig

PACKAGED = "packaged"
_OF_ANOTHER_RULE = ("learning_rate", "neurons", "passes", "mini_batch_tokens", "gradient_steps")
"""Options whose values mean something else in memories that name an optimizer: those were learned by AdamW or SGD."""


class TTTConfig(PassageConfig):
    """Settings of the ttt strategy."""

    RETIRED: ClassVar[Mapping[str, object]] = {
        **PassageConfig.RETIRED,
        "access_share": 0.03,
        "background": None,
        "address": "part",
        "fragment_tokens": 20,
        "answer_tokens": 23,
        "questions_per_fragment": 6,
        "full_answer_every": 3,
        "answer_start_tokens": 4,
        "text_copies": 0,
        "chat_copies": 0,
        "title_on_passages": True,
        "study_file": None,
        "study_model": None,
        "study_model_url": "http://localhost:11434/v1",
        "study_statements": 16,
        "distill_weight": 0.0,
        "replay_weight": 0.0,
        "replay_texts": 16,
        "replay_tokens": 64,
        "soft_top_k": 32,
        "rivals": "background",
        "layer_rate_decay": 1.0,
        "clip_norm": 1.0,
        "warmup": 0.1,
        "routing": True,
        "optimizer": ANY,
        "train": ANY,
        "repair_rounds": ANY,
    }
    """Options of older memories, each with the value that means what the strategy does now."""

    @classmethod
    def of_today(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Without what an earlier inner rule was tuned to."""
        earlier = _OF_ANOTHER_RULE if "optimizer" in stored else ()
        return {name: value for name, value in stored.items() if name not in earlier}

    # Which weights learn.
    first_block: int | None = Field(None, ge=0)
    """First block with a Dual MLP. None: the last block."""
    last_block: int | None = Field(None, ge=1)
    """Block after the last one with a Dual MLP. None: up to the last block."""
    neurons: int | None = Field(160, ge=1)
    """Neurons per block that learn a passage: their output weights do. None: all of them."""
    selection: Literal["tfidf", "tf", "random"] = "tfidf"
    """How neurons are chosen: by TF-IDF of their accesses against background text, by accesses alone, or at random."""
    start: str | None = PACKAGED
    """Where every branch begins: a file that `continual-learning train start` wrote, whose blocks and neurons override
    the settings of both; `packaged`: the one that ships for the base, else the one that `model prepare` made, if those
    settings are at their defaults. None: the passage's neurons, with zero output weights."""
    calibration_samples: int | None = Field(None, ge=2)
    """Number of background texts used to calibrate the neuron gate. None: all."""
    gate_threshold: float = Field(0.0, ge=0, le=1)
    """Neurons whose TF-IDF score is below this share of their block's highest do not learn, whatever `neurons` says."""

    # Weight of the branch: out = frozen(x) + (1 - alpha) * branch(x).
    alpha_initial: float = Field(0.0, ge=0, le=1)
    """alpha before anything is learned."""
    alpha_decay: float = Field(0.0, ge=0, le=1)
    """How much alpha decreases per document, before the document is learned."""
    alpha_min: float = Field(0.0, ge=0, lt=1)
    """Lower bound of alpha."""

    # What is trained on.
    max_tokens: int | None = Field(None, ge=1)
    """Documents longer than this are truncated, with a warning. None: no limit."""

    # The inner loop.
    learning_rate: float = Field(1.6, ge=0, lt=2)
    """How far a step goes, as a share of the step that would make a token sure if all were linear."""
    passages_together: int = Field(4, ge=1)
    """Passages that go through the frozen blocks together, of one document or of several given together: faster, but
    takes more memory."""
    mini_batch_tokens: int = Field(1024, ge=1)
    """Tokens per mini-batch, including padding."""
    gradient_steps: int = Field(1, ge=1)
    """Gradient steps per mini-batch."""
    passes: int = Field(60, ge=1)
    """Passes over the parts of a passage, at most: they end as soon as all are recited word for word."""
    max_seconds: float | None = Field(None, gt=0)
    """Time limit per document in seconds; what is learned by then is checked and kept. None: no limit."""
    seed: int = 0
    """Seeds the probe questions and the composition of mini-batches."""

    # Answering.
    route_threshold: float = Field(0.25, ge=0, le=1)
    """Share of a question's content words, weighted by rarity, that a passage must contain to be opened."""
    route_evidence: float = Field(7.7, ge=0)
    """Minimum total rarity of the shared words, in nats; a word that no background text uses counts 5."""

    # Refusing to get worse.
    guard: bool = True
    """Check after learning, and keep the previous memory if a limit is exceeded."""
    probes: int = Field(6, ge=1)
    """Number of held-out cloze questions about the document in that check."""
    min_recall_gain: float = Field(0.0, ge=0, lt=1)
    """Recall on the probe questions must rise by more than this."""
    max_perplexity_rise: float = Field(0.03, ge=0)
    """Maximum relative rise in perplexity on unrelated text."""
    min_general_kept: float = Field(0.95, ge=0, le=1)
    """Minimum share of general questions that must still be answered correctly."""

    @model_validator(mode="after")
    def _can_learn(self) -> Self:
        if self.alpha(1) >= 1.0:
            raise ValueError(
                "alpha is still 1 when the first document is learned, so the branch would get no gradient and learn "
                "nothing; set alpha_initial below 1 or alpha_decay above 0"
            )
        if self.first_block is not None and self.last_block is not None and self.first_block >= self.last_block:
            raise ValueError(f"first_block {self.first_block} must be below last_block {self.last_block}")
        return self

    def alpha(self, position: int) -> float:
        """alpha of the document learned as the ``position``-th, counted from 1."""
        return max(self.alpha_min, self.alpha_initial - self.alpha_decay * position)

    @property
    def chooses_neurons(self) -> bool:
        """Whether a setting that a start overrides differs from its default."""
        overridden = ("first_block", "last_block", "neurons", "selection", "calibration_samples", "gate_threshold")
        return any(getattr(self, name) != type(self).model_fields[name].default for name in overridden)

    @property
    def alpha_varies(self) -> bool:
        """Whether alpha depends on how many documents were learned before."""
        return self.alpha_decay > 0 and self.alpha_initial > self.alpha_min
