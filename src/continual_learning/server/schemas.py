"""The contents of requests."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from continual_learning.model.chat_template import Message

MAX_QUESTIONS = 256

Text = Annotated[str, Field(min_length=1)]
NewTokens = Annotated[int, Field(ge=1, le=8192)]


class Request(BaseModel):
    """Base of requests: an unknown field is refused, since it would silently have no effect."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class QA(Request):
    """A question known beforehand."""

    question: Text
    answer: Text | Annotated[list[Text], Field(min_length=1)]
    """One answer, or all accepted ones."""


class Learn(Request):
    """A document: its text, never a path or an address, so that a client reads nothing of this machine."""

    text: Text
    title: str = ""
    qa: list[QA] = []


class Ask(Request):
    """One question or several."""

    question: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_QUESTIONS)]
    max_new_tokens: NewTokens = 64
    stream: bool = False
    """Whether to send the answer piece by piece, as server-sent events; for a single question."""


class Feedback(Request):
    """Feedback on an answer."""

    answer_id: Text
    """The ``id`` that came with the answer."""
    reward: float | None = Field(None, ge=-1, le=1, allow_inf_nan=False)
    """-1 (bad) to 1 (good)."""
    correction: str | None = None
    """The right answer."""


class Save(Request):
    """A name for the current version."""

    name: Text
    overwrite: bool = False


class Load(Request):
    """A checkpoint or version."""

    name: Text


class Rollback(Request):
    """The version or checkpoint to return to; by default, the one before the last change."""

    to: Text | None = None


class Forget(Request):
    """A document."""

    document_id: Text


class TextPart(BaseModel):
    """One part of a message."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def words(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    def plain(self) -> Message:
        """As a strategy's history takes it."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.words}


class ChatCompletion(BaseModel):
    """OpenAI's request. Clients send more fields than these; answers are greedy, so what steers sampling is unread."""

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: NewTokens | None = None
    max_completion_tokens: NewTokens | None = None
    stream: bool = False
