"""Answers piece by piece: the model writes in the queue's thread, the response reads; a reader who leaves stops it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import Request

from continual_learning.model.generation import GenerationControl
from continual_learning.server.work_queue import WorkQueue, watched
from continual_learning.types import Answer, TokenCallback

Write = Callable[[GenerationControl, TokenCallback], Answer]


async def pieces(queue: WorkQueue, request: Request, write: Write) -> AsyncIterator[str | Answer]:
    """Yield what ``write`` passes to its callback, as it comes, then the whole answer. Raises what ``write`` raises.

    When the client goes away, or the iterator is closed, the writing ends at its next token.
    """
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[str | None] = asyncio.Queue()

    def on_token(text: str) -> None:
        loop.call_soon_threadsafe(came.put_nowait, text)

    def work(control: GenerationControl) -> Answer:
        return write(control, on_token)

    job = queue.submit(work)
    job.outcome.add_done_callback(lambda _: came.put_nowait(None))
    async with watched(request, job):
        while (text := await came.get()) is not None:
            yield text
        yield job.outcome.result()


async def begun(stream: AsyncIterator[str | Answer]) -> AsyncIterator[str | Answer]:
    """The same stream, once its first piece is there: an error before that can still become an HTTP status."""
    first = await anext(stream)

    async def again() -> AsyncIterator[str | Answer]:
        yield first
        async for piece in stream:
            yield piece

    return again()


def event(data: Any) -> str:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}\n\n"
