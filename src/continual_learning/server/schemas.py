"""The contents of requests."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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


class Part(BaseModel):
    """One part of a message: a text, or what an assistant said in refusing."""

    model_config = ConfigDict(extra="ignore")

    type: str
    text: str | None = None
    refusal: str | None = None


class Function(BaseModel):
    """The function that an assistant called."""

    model_config = ConfigDict(extra="ignore")

    name: str
    arguments: str = ""


class ToolCall(BaseModel):
    """A call by an assistant."""

    model_config = ConfigDict(extra="ignore")

    id: str = ""
    function: Function


class ChatMessage(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class StreamOptions(BaseModel):
    """What else a stream holds."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool | None = None


class ChatCompletion(BaseModel):
    """OpenAI's request. Clients send more fields than these; answers are greedy, so what steers sampling is unread."""

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=64)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # What follows is refused, unless it says what happens anyway: see `openai.refuse`.
    n: int | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    tool_choice: Any = None
    logprobs: bool | None = None
    logit_bias: dict[str, float] | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
