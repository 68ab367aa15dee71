"""Answers piece by piece: the model writes in a thread, the response reads, and a reader who leaves stops the model."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from continual_learning.types import Answer, TokenCallback


class _ReaderLeft(Exception):
    """Raised in the writing thread when nobody reads the answer any more."""


def pieces(write: Callable[[TokenCallback], Answer]) -> Iterator[str | Answer]:
    """Yield what ``write`` passes to its callback, as it comes, then the whole answer. Raises what ``write`` raises.

    Closing the iterator ends the writing at its next token, so that the next request gets its turn.
    """
    came: queue.SimpleQueue[str | Answer | BaseException] = queue.SimpleQueue()
    left = threading.Event()

    def on_token(text: str) -> None:
        if left.is_set():
            raise _ReaderLeft
        came.put(text)

    def work() -> None:
        try:
            came.put(write(on_token))
        except BaseException as error:  # passed to the reader, which raises it
            came.put(error)

    threading.Thread(target=work, daemon=True, name="answer").start()
    try:
        while True:
            item = came.get()
            if isinstance(item, BaseException):
                raise item
            yield item
            if isinstance(item, Answer):
                return
    finally:
        left.set()


def begun(stream: Iterator[str | Answer]) -> Iterator[str | Answer]:
    """The same stream, once its first piece is there: an error before that can still become an HTTP status."""
    first = next(stream)

    def again() -> Iterator[str | Answer]:
        yield first
        yield from stream

    return again()


def event(data: Any) -> str:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}\n\n"
