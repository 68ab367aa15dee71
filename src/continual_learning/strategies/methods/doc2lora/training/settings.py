"""Settings of a hypernetwork's training run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from continual_learning.options import StrategyConfig

GeneratorKind = Literal["linear", "perceiver"]
_RETRIEVAL_STEPS, _RETRIEVAL_WEIGHT = 150, 0.3
QUESTIONS_PER_DOCUMENT = 8
"""Maximum number of questions per document in a step: as many as a document of eight facts has."""
TOP_K = 16
"""How many of the teacher's likeliest tokens are kept, as published."""
ANSWER_TOKENS = 24
"""Maximum length of a target answer, in tokens."""


class HypernetworkTraining(StrategyConfig):
    """Settings of `train hypernetwork`. Two runs with the same settings on the same base are the same run."""

    generator: GeneratorKind = "linear"
    """linear: fast weights, as in Generative Adapter; perceiver: the architecture of Doc-to-LoRA."""
    steps: int = Field(300, ge=1)
    """Optimizer steps after those of `retrieval_steps`."""
    retrieval_steps: int | None = Field(None, ge=0)
    """Steps at the beginning that train only a linear generator's keys, to open the right tokens of a document. None:
    150 (perceiver: 0)."""
    retrieval_weight: float | None = Field(None, ge=0)
    """Loss weight of the key objective in the later steps. None: 0.3 if there are `retrieval_steps`, else 0."""
    documents_per_step: int = Field(2, ge=1)
    """Documents per step, over all devices together."""
    joined_documents: int = Field(1, ge=1)
    """Maximum number of a step's documents that are read as one longer document; only if each is one chunk."""
    facts_documents: int = Field(200, ge=0)
    """Number of documents of made-up facts to train on."""
    facts_per_document: int = Field(8, ge=1)
    """Number of facts in each of them."""
    data: str | None = None
    """File in SQuAD format, squad or squad_v2 of the hub, or lessons, which ship with the package; the first half of
    its articles is used for training."""
    data_documents: int = Field(200, ge=1)
    """Maximum number of its passages to train on."""
    validation_documents: int = Field(8, ge=1)
    """Number of documents of each kind that are held out for the validation curve."""
    own_answers: float = Field(0.0, ge=0, le=1)
    """Share of the questions whose target is the base's own answer with the document in its prompt."""
    teacher_weight: float = Field(0.5, ge=0, le=1)
    """Weight of the teacher's top tokens if the gold answer is known; the gold answer gets the rest."""
    irrelevant_questions: int = Field(2, ge=0)
    """Questions per document in a step that the document says nothing about."""
    irrelevant_weight: float = Field(1.0, ge=0)
    """Loss weight of answering these as the base does."""
    max_chunks: int = Field(4, ge=1)
    """Maximum number of chunks that a document is cut into."""
    rate: float | None = Field(None, gt=0)
    """Peak learning rate: for the linear generator relative to each weight's size (None: 3e-3), for the Perceiver
    absolute (None: 4e-5, as published)."""
    warm_up: int = Field(10, ge=0)
    """Number of steps in which the rate rises to its peak."""
    blocks: tuple[int, ...] | None = None
    """Blocks to write to. None: for linear, the one at four fifths of the depth and the last; for perceiver, all."""
    rank: int | None = Field(None, ge=1)
    """Rank of a chunk's adapter. None: for linear, 768 or the width of the MLP if that is less; for perceiver, 8."""
    reader_rank: int | None = Field(None, ge=0)
    """Rank of the linear generator's reader, a LoRA in the attention of a third of the blocks, up to that of its first
    memory; 0: no reader. None: 16 (perceiver: it has no reader)."""
    validate_every: int = Field(50, ge=1)
    """Steps between two points of the validation curve."""
    checkpoint_every: int = Field(25, ge=1)
    """Steps between two checkpoints."""
    start: str | None = None
    """Folder of a hypernetwork of the same sizes to start from. None: the linear generator is fitted to the base, the
    Perceiver is random."""
    seed: int = 0
    """Seeds the documents, their order and the initial weights."""

    @field_validator("blocks", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        """Accept block numbers as the command line gives them: ``22,24``."""
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @property
    def first_steps(self) -> int:
        """Steps of the retrieval stage."""
        default = _RETRIEVAL_STEPS if self.generator == "linear" else 0
        return default if self.retrieval_steps is None else self.retrieval_steps

    @property
    def keys_weight(self) -> float:
        """Weight of the retrieval stage's loss in the steps after it."""
        default = _RETRIEVAL_WEIGHT if self.first_steps else 0.0
        return default if self.retrieval_weight is None else self.retrieval_weight

    @property
    def all_steps(self) -> int:
        """Steps of both stages."""
        return self.first_steps + self.steps

    @model_validator(mode="after")
    def _what_a_perceiver_has_not(self) -> HypernetworkTraining:
        for name, value in (("retrieval_steps", self.retrieval_steps), ("retrieval_weight", self.retrieval_weight)):
            if self.generator == "perceiver" and value:
                raise ValueError(
                    f"{name} = {value} with generator = perceiver, which has no key for each of a document's tokens; "
                    "give 0, or generator=linear"
                )
        if self.generator == "perceiver" and self.reader_rank:
            raise ValueError(
                f"reader_rank = {self.reader_rank} with generator = perceiver, which reads what the base makes of a "
                "document as it is; give 0, or generator=linear"
            )
        if self.generator == "perceiver" and self.blocks is not None:
            raise ValueError(
                f"blocks = {', '.join(map(str, self.blocks))} with generator = perceiver, which reads and writes all; "
                "leave it out, or give generator=linear"
            )
        return self

    @model_validator(mode="after")
    def _some_documents(self) -> HypernetworkTraining:
        if not self.facts_documents and self.data is None:
            raise ValueError("facts_documents = 0 without data: nothing to train on; give one of them")
        return self
