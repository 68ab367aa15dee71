"""Settings of the ace strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from continual_learning.chat_models.servers import check_url
from continual_learning.errors import ConfigError
from continual_learning.options import StrategyConfig


class ACEConfig(StrategyConfig):
    """Which model plays the roles, and how the playbook is learned."""

    backend: Literal["base", "ollama", "openai"] = "base"
    """What answers, reflects and curates: the base model itself, an Ollama server, or an OpenAI-compatible one. If
    server_model is set but no backend, it is ollama, or openai if base_url is set too."""
    server_model: str = Field("qwen3.5:9b", min_length=1)
    """Model on the server. The backend base uses the base model instead."""
    host: str = "http://localhost:11434"
    """Address of the Ollama server."""
    base_url: str = "http://localhost:8000/v1"
    """Address of the OpenAI-compatible server."""
    api_key_variable: str = Field("OPENAI_API_KEY", pattern=r"^[A-Z_][A-Z0-9_]*$")
    """Name of the environment variable with its API key; the key itself is never stored."""
    num_ctx: int = Field(8192, ge=256)
    """Context window of a server's model: tokens of prompt and reply together."""
    timeout: float = Field(120.0, gt=0)
    """Maximum seconds that a server may take for a reply."""

    loops: int = Field(3, ge=0)
    """Passes over the questions given with a document; 0 keeps the document and learns nothing from the questions."""
    reflection_rounds: int = Field(1, ge=1)
    """Maximum reflections on a wrong answer, with a new attempt between them; the paper uses up to 3."""
    self_reflection: bool = False
    """Learn from documents without questions too, using questions made by rule whose answers are not shown."""
    reflector: bool = True
    """Ask the model what went wrong; otherwise the right answer itself is learned."""
    curator: bool = True
    """Ask the model how to change the playbook; otherwise each insight is added."""
    generator: Literal["direct", "json"] = "direct"
    """direct: a plain answer; json: the paper's JSON of reasoning, entries used and answer."""
    max_strategies: int = Field(50, ge=1)
    """Maximum number of entries in the playbook."""
    selection: bool = True
    """Put only relevant entries before a question; otherwise all that fit."""
    playbook_dir: str | None = Field("playbooks", min_length=1)
    """Folder where `ace save`, `ace load` and `ace list` keep playbooks by name. None: the working folder."""

    RETIRED: ClassVar[Mapping[str, object]] = {
        "retries": 2,
        "patience": 2,
        "batch_questions": 8,
        "validation_share": 0.5,
        "earlier_questions": 8,
        "reflection": None,
        "tagging": None,
        "playbook_tokens": 2000,
        "duplicate_similarity": 0.85,
        "top_entries": 3,
        "general_entries": 1,
        "entry_tokens": 150,
        "min_relevance": 0.5,
        "instruction": "Answer the question with a few words from the passage.",
        "shots": 2,
        "top_k": 2,
        "chunk_tokens": 160,
        "overlap_tokens": 32,
        "min_score": 0.5,
        "answer_tokens": 24,
        "insight_chars": 200,
    }
    """Retired options that older memories may carry, each with the value that matches what the strategy does now."""

    @property
    def on_server(self) -> bool:
        """Whether a model other than the base plays the roles."""
        return self.backend != "base"

    @model_validator(mode="before")
    @classmethod
    def _a_named_model_is_used(cls, given: dict[str, Any]) -> dict[str, Any]:
        if "model" in given:  # the option's name in older memories, which no caller of `Learner.open` can give
            given = {"server_model" if key == "model" else key: value for key, value in given.items()}
        if "server_model" in given and "backend" not in given:
            return {**given, "backend": "openai" if "base_url" in given else "ollama"}
        return given

    @field_validator("host", "base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            return check_url(value, "the address")
        except ConfigError as error:
            raise ValueError(str(error)) from None
