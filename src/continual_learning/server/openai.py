"""The part of OpenAI's API that chat clients use: ``/v1/models`` and ``/v1/chat/completions``, streaming too."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response, StreamingResponse

from continual_learning.app.learner import Learner
from continual_learning.errors import ContinualLearningError, InputError, UnknownNameError
from continual_learning.server import problems
from continual_learning.server.schemas import ChatCompletion
from continual_learning.server.streaming import begun, event, pieces
from continual_learning.types import Answer, TokenCallback

DEFAULT_NEW_TOKENS = 256


def model_id(learner: Learner) -> str:
    """The name by which clients ask for this learner: its memory's, else its base model's."""
    return learner.store.name if learner.store is not None else learner.base.name


def router(learner: Learner) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1")
    started = int(time.time())

    @routes.get("/models")
    def models() -> dict[str, Any]:
        one = {"id": model_id(learner), "object": "model", "created": started, "owned_by": learner.base.name}
        return {"object": "list", "data": [one]}

    @routes.post("/chat/completions")
    def complete(request: ChatCompletion) -> Response:
        name = model_id(learner)
        if request.model != name:
            raise UnknownNameError(f"no model {request.model!r}; this server has {name!r}")
        *earlier, last = request.messages
        if last.role != "user":
            raise InputError(f"the last message is the {last.role}'s; expected the user's")
        limit = request.max_completion_tokens or request.max_tokens or DEFAULT_NEW_TOKENS

        def answer(on_token: TokenCallback | None = None) -> Answer:
            chat = learner.chat(limit)
            chat.history = [message.plain() for message in earlier]
            return chat.say(last.words, on_token)

        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}
        if request.stream:
            return StreamingResponse(_events(answer, head, limit), media_type="text/event-stream")
        answered = answer()
        prompt = len(learner.base.chat_ids([message.plain() for message in request.messages]))
        usage = {"prompt_tokens": prompt, "completion_tokens": answered.tokens}
        message = {"role": "assistant", "content": answered.text}
        choice = {"index": 0, "message": message, "finish_reason": _finish(answered, limit)}
        whole = usage | {"total_tokens": prompt + answered.tokens}
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": whole})

    return routes


def _events(write: Callable[[TokenCallback], Answer], head: dict[str, Any], limit: int) -> Iterator[str]:
    stream = begun(pieces(write))

    def chunk(delta: dict[str, str], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return event({**head, "object": "chat.completion.chunk", "choices": [choice]})

    def events() -> Iterator[str]:
        yield chunk({"role": "assistant", "content": ""})
        try:
            for piece in stream:
                yield chunk({"content": piece}) if isinstance(piece, str) else chunk({}, _finish(piece, limit))
        except ContinualLearningError as error:
            yield event(problems.body(type(error).__name__, str(error), problems.status_of(error)))
        yield event("[DONE]")

    return events()


def _finish(answer: Answer, limit: int) -> str:
    return "length" if answer.tokens >= limit else "stop"
