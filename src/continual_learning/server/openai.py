"""The part of OpenAI's API that chat clients use: ``/v1/models`` and ``/v1/chat/completions``, streaming too."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse, Response, StreamingResponse

from continual_learning.app.learner import Learner
from continual_learning.errors import ContinualLearningError, UnknownNameError
from continual_learning.model.chat_template import Message
from continual_learning.model.generation import GenerationControl
from continual_learning.server import problems
from continual_learning.server.conversation import conversation, refuse
from continual_learning.server.schemas import ChatCompletion
from continual_learning.server.stop_strings import StopStrings
from continual_learning.server.streaming import begun, event, pieces
from continual_learning.server.work_queue import WorkQueue
from continual_learning.types import Answer, TokenCallback

DEFAULT_NEW_TOKENS = 256


def model_id(learner: Learner) -> str:
    """The name by which clients ask for this learner: its memory's, else its base model's."""
    return learner.store.name if learner.store is not None else learner.base.name


def router(learner: Learner, work: WorkQueue) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1")
    started = int(time.time())

    @routes.get("/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [model(model_id(learner))]}

    @routes.get("/models/{name:path}")
    def model(name: str) -> dict[str, Any]:
        _check_model(learner, name)
        return {"id": name, "object": "model", "created": started, "owned_by": learner.base.name}

    @routes.post("/chat/completions")
    async def complete(body: ChatCompletion, request: Request) -> Response:
        _check_model(learner, body.model)
        refuse(body)
        completion = _Completion(learner, body)
        if not body.stream:
            return JSONResponse(await work.result(request, completion.whole))
        stream = await begun(pieces(work, request, completion.write))
        return StreamingResponse(completion.events(stream), media_type="text/event-stream")

    return routes


def extension(answer: Answer) -> dict[str, Any]:
    """What OpenAI's API has no field for, under this product's name; clients that do not know it pass over it."""
    fields = ("origin", "confidence", "alternatives", "sources")
    return {"continual_learning": jsonable_encoder({name: getattr(answer, name) for name in fields})}


def _check_model(learner: Learner, name: str) -> None:
    if name != model_id(learner):
        raise UnknownNameError(f"no model {name!r}; this server has {model_id(learner)!r}")


@dataclass(frozen=True)
class _Usage:
    prompt: int
    completion: int

    def json(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }


class _Completion:
    """One answer to a conversation, and the objects in which OpenAI's clients expect it."""

    def __init__(self, learner: Learner, body: ChatCompletion):
        self._learner = learner
        self._earlier, self._question = conversation(body.messages)
        # A client's limit may be as large as its own model's window, and the prompt needs room in ours.
        asked = body.max_completion_tokens or body.max_tokens or DEFAULT_NEW_TOKENS
        self._limit = min(asked, max(1, learner.base.window // 2))
        stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
        self._stops = StopStrings(text for text in stop if text)
        self._with_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": body.model}

    def whole(self, control: GenerationControl) -> dict[str, Any]:
        """The answer in one object."""
        answer = self.write(control, None)
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "finish_reason": self._finish(answer)}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": self._usage(answer).json(),
            **extension(answer),
        }

    def write(self, control: GenerationControl, on_token: TokenCallback | None) -> Answer:
        """The answer, up to the first stop string."""
        chat = self._learner.chat(self._limit)
        chat.history = list(self._earlier)
        return self._stops.cut(lambda passed: chat.say(self._question, passed), control, on_token)

    async def events(self, stream: AsyncIterator[str | Answer]) -> AsyncIterator[str]:
        """The answer in chunks, as server-sent events."""
        yield self._chunk({"role": "assistant", "content": ""})
        try:
            async for piece in stream:
                if isinstance(piece, str):
                    yield self._chunk({"content": piece})
                    continue
                yield self._chunk({}, self._finish(piece), extension(piece))
                if self._with_usage:
                    yield event({**self._chunk_head(), "choices": [], "usage": self._usage(piece).json()})
        except ContinualLearningError as error:
            yield event(problems.body_of(problems.OPENAI, error))
        yield event("[DONE]")

    def _chunk(self, delta: dict[str, str], finish: str | None = None, more: Mapping[str, Any] | None = None) -> str:
        usage = {"usage": None} if self._with_usage else {}
        return event(
            {
                **self._chunk_head(),
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
                **usage,
                **(more or {}),
            }
        )

    def _chunk_head(self) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk"}

    def _finish(self, answer: Answer) -> str:
        return "length" if answer.tokens >= self._limit and not self._stops.reached else "stop"

    def _usage(self, answer: Answer) -> _Usage:
        turns: list[Message] = [*self._earlier, {"role": "user", "content": self._question}]
        return _Usage(len(self._learner.base.chat_ids(turns)), answer.tokens)
