"""The loaded base as a chat model: exact token counts, batches, and JSON that is valid by construction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from continual_learning.chat_models.json_constraint import JSONConstraint
from continual_learning.chat_models.protocol import ChatReply, ChatRequest
from continual_learning.errors import InputError
from continual_learning.model.chat_template import Message
from continual_learning.model.generation import generate

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel


class InProcessModel:
    """See `ChatModel`. The base is unchanged after every call."""

    def __init__(self, base: BaseModel):
        self._base = base
        self.name = base.name
        self.window = base.window

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt in the base's chat format."""
        return len(self._base.chat_ids(messages, system=False))

    def complete(
        self, requests: Sequence[ChatRequest], on_token: Callable[[str], None] | None = None
    ) -> list[ChatReply]:
        """See `ChatModel`. All requests for JSON form one batch, and so do other requests with the same limit."""
        replies: dict[int, ChatReply] = {}
        for limit in sorted({_shared_limit(request) for request in requests}):
            chosen = [i for i, request in enumerate(requests) if _shared_limit(request) == limit]
            made = self._batch([requests[i] for i in chosen], on_token)
            replies.update(zip(chosen, made, strict=True))
        return [replies[i] for i in range(len(requests))]

    def _batch(self, requests: Sequence[ChatRequest], on_token: Callable[[str], None] | None) -> list[ChatReply]:
        prompts = [self._base.chat_ids(request.messages, system=False) for request in requests]
        limits = [request.max_new_tokens for request in requests]
        for request, ids, limit in zip(requests, prompts, limits, strict=True):
            if request.schema is not None and len(ids) + limit > self.window:
                raise InputError(
                    f"a prompt of {len(ids)} tokens and a JSON reply of up to {limit}; expected at most the window of "
                    f"{self.window} together: shorten the prompt"
                )
        constraint = None
        if any(request.schema is not None for request in requests):
            constraint = JSONConstraint(self._base, [r.schema for r in requests], limits)
        # A base that never saw a chat continues a transcript: after its first line it makes up the next question.
        made = generate(self._base, prompts, max(limits), on_token, not self._base.chats, constraint)
        replies = []
        for request, ids, one in zip(requests, prompts, made, strict=True):
            room = min(request.max_new_tokens, self.window - len(ids))
            cut = request.schema is None and one.tokens >= room
            replies.append(ChatReply(one.text.strip(), len(ids), one.tokens, one.seconds, cut, one.probability))
        return replies


def _shared_limit(request: ChatRequest) -> int:
    """The limit that a request shares with its batch; 0 for JSON, which ends by itself within its own limit."""
    return request.max_new_tokens if request.schema is None else 0
