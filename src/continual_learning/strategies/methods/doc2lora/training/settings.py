"""What a training run of a hypernetwork is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from continual_learning.options import StrategyConfig

GeneratorKind = Literal["linear", "perceiver"]
_RETRIEVAL_STEPS, _RETRIEVAL_WEIGHT = 150, 0.3
QUESTIONS_PER_DOCUMENT = 8
"""The most questions of one document in a step: those of a document of eight facts."""
TOP_K = 16
"""Tokens of the teacher's distribution that are kept, as published."""
ANSWER_TOKENS = 24
"""The longest target answer."""


class HypernetworkTraining(StrategyConfig):
    """Settings of `train hypernetwork`. Two runs with the same settings on the same base are the same run."""

    generator: GeneratorKind = "linear"
    """linear: fast weights, as in Generative Adapter; perceiver: the architecture of Doc-to-LoRA."""
    steps: int = Field(300, ge=1)
    """Optimizer steps, behind those of `retrieval_steps`."""
    retrieval_steps: int | None = Field(None, ge=0)
    """Steps that train a linear generator's keys alone to open the right tokens of a document, before all else (none:
    150; perceiver: none of them)."""
    retrieval_weight: float | None = Field(None, ge=0)
    """Weight with which the steps behind those go on to train the keys for that, too (none: 0.3 behind such steps, else
    0)."""
    documents_per_step: int = Field(2, ge=1)
    """Documents of a step, over all devices together."""
    joined_documents: int = Field(1, ge=1)
    """The most documents of a step that are read as one longer one; only where each is one chunk."""
    facts_documents: int = Field(200, ge=0)
    """Documents of made-up facts to train on."""
    facts_per_document: int = Field(8, ge=1)
    """Facts in each of them."""
    data: str | None = None
    """A file in SQuAD's form, or squad or squad_v2, to train on the first half of its articles."""
    data_documents: int = Field(200, ge=1)
    """The most passages of it."""
    validation_documents: int = Field(8, ge=1)
    """Documents of each kind that are never trained on, for the validation curve."""
    own_answers: float = Field(0.0, ge=0, le=1)
    """Share of the questions whose target is what the base itself answers with the document in its prompt."""
    teacher_weight: float = Field(0.5, ge=0, le=1)
    """Weight of the teacher's top tokens where the gold answer is known; the gold answer has the rest."""
    irrelevant_questions: int = Field(2, ge=0)
    """Questions of a step, for each document, that it says nothing about."""
    irrelevant_weight: float = Field(1.0, ge=0)
    """Weight of staying with the base on those."""
    max_chunks: int = Field(4, ge=1)
    """The most chunks that a document is cut into."""
    rate: float | None = Field(None, gt=0)
    """Largest step: of the linear generator relative to each weight's size (none: 3e-3), of the Perceiver absolute
    (none: 4e-5, as published)."""
    warm_up: int = Field(10, ge=0)
    """Steps until the rate is reached."""
    blocks: tuple[int, ...] | None = None
    """The blocks to write to; none: linear, one at four fifths and the last; perceiver, all."""
    rank: int | None = Field(None, ge=1)
    """Of a chunk's adapter; none: linear 768 or the width of the MLP if that is less, perceiver 8."""
    reader_rank: int | None = Field(None, ge=0)
    """Of the linear generator's reader, a LoRA in the attention of a third of the blocks, up to its first memory's; 0
    for no reader (none: 16; perceiver: it has none)."""
    validate_every: int = Field(50, ge=1)
    """Steps between two points of the validation curve."""
    checkpoint_every: int = Field(25, ge=1)
    """Steps between two checkpoints."""
    start: str | None = None
    """Folder of a hypernetwork of the same sizes to start from; none: the linear generator fitted to the base, the
    Perceiver random."""
    seed: int = 0
    """Of the documents, their order and the first weights."""

    @field_validator("blocks", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        """As the command line gives them: ``22,24``."""
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @property
    def first_steps(self) -> int:
        """Steps of the retrieval stage."""
        default = _RETRIEVAL_STEPS if self.generator == "linear" else 0
        return default if self.retrieval_steps is None else self.retrieval_steps

    @property
    def keys_weight(self) -> float:
        """Weight of the retrieval stage's loss behind it."""
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
