"""The interface of every chat model: conversations in, texts out, greedily."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from continual_learning.model.chat_template import Message

Schema = Mapping[str, Any]
"""A JSON schema: objects whose properties are all required, arrays with ``maxItems``, strings with ``maxLength``,
``enum``, ``const`` and ``anyOf``."""


@dataclass(frozen=True)
class ChatRequest:
    """A conversation to continue by one turn."""

    messages: tuple[Message, ...]
    max_new_tokens: int
    schema: Schema | None = None
    """The schema of the reply, enforced if the model supports that."""


@dataclass(frozen=True)
class ChatReply:
    """One turn of the model, and its cost."""

    text: str
    prompt_tokens: int
    """Tokens of the prompt, as counted by the model."""
    tokens: int
    """Tokens generated."""
    seconds: float
    """Wall time; in a batch, its share."""
    truncated: bool = False
    """Whether it was cut off at the limit."""
    probability: float | None = None
    """Geometric mean of the probabilities of the tokens; None if the model does not report them."""


class ChatModel(Protocol):
    """A model at temperature 0."""

    name: str
    window: int
    """Tokens of prompt and reply together."""

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt: exact in process, an upper estimate for a server."""

    def complete(
        self, requests: Sequence[ChatRequest], on_token: Callable[[str], None] | None = None
    ) -> list[ChatReply]:
        """One reply per request, in order. ``on_token`` streams and needs a single request.

        Raises ChatModelError if the model cannot be used, InputError for a prompt that does not fit into the window.
        """
