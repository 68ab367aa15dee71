"""Settings of the ace strategy."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from continual_learning.chat_models.servers import check_url
from continual_learning.errors import ConfigError
from continual_learning.options import StrategyConfig


class ACEConfig(StrategyConfig):
    """Which model plays the roles, how the playbook is learned, and what stands before a question."""

    backend: Literal["base", "ollama", "openai"] = "base"
    """Who answers, reflects and curates: the base model itself, an Ollama server, or an OpenAI-compatible one."""
    model: str = Field("qwen3.5:9b", min_length=1)
    """The server's model. The backend base uses the base model."""
    host: str = "http://localhost:11434"
    """Address of the Ollama server."""
    base_url: str = "http://localhost:8000/v1"
    """Address of the OpenAI-compatible server."""
    api_key_variable: str = Field("OPENAI_API_KEY", pattern=r"^[A-Z_][A-Z0-9_]*$")
    """Name of the environment variable with its key; the key itself is never kept."""
    num_ctx: int = Field(8192, ge=256)
    """Window of a server's model: tokens of prompt and reply together."""
    timeout: float = Field(120.0, gt=0)
    """Seconds that a server may take for a reply."""
    retries: int = Field(2, ge=0, le=10)
    """Attempts after one that failed in a way that may pass, with growing pauses."""

    loops: int = Field(3, ge=0)
    """Passes over the questions given with a document; 0 keeps the document and learns nothing from them."""
    patience: int = Field(2, ge=1)
    """Passes without a better playbook after which learning stops early."""
    reflection_rounds: int = Field(1, ge=1)
    """Reflections on a wrong answer, with a new attempt between them; the paper takes up to 3."""
    batch_questions: int = Field(8, ge=1)
    """Questions that are answered before the playbook changes."""
    validation_share: float = Field(0.5, gt=0, lt=1)
    """Share of the given questions that are held out: a playbook is kept only if they are answered better with it."""
    earlier_questions: int = Field(8, ge=0)
    """Held-out questions of earlier documents that are asked again along with them."""
    self_reflection: bool = False
    """Learn from documents without questions too, from questions made by rule whose answers are not shown."""
    reflector: bool = True
    """Ask the model what went wrong; otherwise the right answer itself is what is learned."""
    curator: bool = True
    """Ask the model how to change the playbook; otherwise each insight is added."""
    reflection: Literal["brief", "full"] | None = None
    """All that the paper asks a reflection for, or the insight alone; none: brief in process, full on a server."""
    tagging: Literal["outcome", "reflector"] | None = None
    """Who says whether an entry helped: answers with and without the playbook, or the model; none: outcome in
    process, reflector on a server."""

    max_strategies: int = Field(50, ge=1)
    """Most entries of the playbook."""
    playbook_tokens: int = Field(2000, ge=50)
    """Most tokens of all entries."""
    duplicate_similarity: float = Field(0.85, gt=0, le=1)
    """Likeness from which two entries say the same."""

    selection: bool = True
    """Put only relevant entries before a question; otherwise all that fit."""
    top_entries: int = Field(3, ge=0)
    """Most entries before a question, beside general ones."""
    general_entries: int = Field(1, ge=0)
    """Most general entries before a question."""
    entry_tokens: int = Field(150, ge=0)
    """Most tokens of entries before a question."""
    min_relevance: float = Field(0.5, ge=0, le=1)
    """Least relevance of an entry (see `retrieval.relevance`)."""

    generator: Literal["direct", "json"] = "direct"
    """A plain answer, or the paper's JSON of reasoning, entries used and answer."""
    instruction: str = "Answer the question with a few words from the passage."
    """What the model is told to do."""
    shots: int = Field(2, ge=0, le=3)
    """Worked examples before a plain answer."""
    top_k: int = Field(2, ge=1)
    """Most chunks of documents before a question."""
    chunk_tokens: int = Field(160, ge=8)
    """Longest chunk: whole sentences, as many as fit."""
    overlap_tokens: int = Field(32, ge=0)
    """Most tokens at the end of a chunk that begin the next one too."""
    min_score: float = Field(0.5, ge=0, le=1)
    """Least relevance of a chunk."""
    answer_tokens: int = Field(24, ge=1)
    """Longest answer while learning."""
    insight_chars: int = Field(200, ge=20, le=600)
    """Longest text of each field of a reflection, and of an entry that the curator writes."""

    @property
    def on_server(self) -> bool:
        """Whether another model than the base plays the roles."""
        return self.backend != "base"

    @field_validator("host", "base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            return check_url(value, "the address")
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _overlap_is_shorter(self) -> Self:
        if self.overlap_tokens >= self.chunk_tokens:
            raise ValueError(f"overlap_tokens {self.overlap_tokens} must be below chunk_tokens {self.chunk_tokens}")
        return self
