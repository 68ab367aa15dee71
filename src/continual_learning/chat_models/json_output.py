"""JSON from any chat model: parsed, else repaired, else requested again, else reported as a failure.

A failure is never replaced by an empty value: `JSONResult` holds a value or an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from continual_learning.chat_models.protocol import ChatModel, ChatReply, ChatRequest, Schema
from continual_learning.model.chat_template import Message

T = TypeVar("T")

_FENCE = re.compile(r"```(?:json)?(.*?)```", re.DOTALL | re.IGNORECASE)
_THINKING = ("<think>", "</think>")
_QUOTED_ERROR = 300


@dataclass(frozen=True)
class JSONRequest(Generic[T]):
    """A conversation whose reply must be JSON of a schema, and how to read it."""

    messages: tuple[Message, ...]
    max_new_tokens: int
    schema: Schema
    read: Callable[[Any], T]
    """Converts the parsed JSON to a value. Raises ValueError with one line that says what is wrong with it."""


@dataclass(frozen=True)
class JSONResult(Generic[T]):
    """A value, or why there is none."""

    value: T | None
    error: str
    """Empty if there is a value."""
    replies: tuple[ChatReply, ...]
    """All attempts, to account for their cost."""
    repaired: bool = False
    """Whether the text had to be repaired first."""


def ask_json(model: ChatModel, requests: Sequence[JSONRequest[T]]) -> list[JSONResult[T]]:
    """Ask, parse, and repeat once the requests whose reply could not be parsed. One result per request, in order.

    Raises ChatModelError if the model itself cannot be used.
    """
    first = model.complete([ChatRequest(r.messages, r.max_new_tokens, r.schema) for r in requests])
    results = [_read(request, reply) for request, reply in zip(requests, first, strict=True)]
    failed = [i for i, result in enumerate(results) if result.error]
    if not failed:
        return results
    # The malformed reply itself is left out: a small model would copy it, and it may fill the window.
    again = [_with_error(requests[i], results[i].error) for i in failed]
    fits = [model.count_tokens(r.messages) + r.max_new_tokens <= model.window for r in again]
    retried = [ChatRequest(r.messages, r.max_new_tokens, r.schema) for r, fit in zip(again, fits, strict=True) if fit]
    second = iter(model.complete(retried) if retried else ())
    for i, fit in zip(failed, fits, strict=True):
        if fit:
            result = _read(requests[i], next(second))
            results[i] = replace(result, replies=results[i].replies + result.replies)
    return results


def parse_json(text: str) -> tuple[Any, bool]:
    """The JSON value in a reply, and whether the text had to be repaired. Raises ValueError if there is none.

    Repairs: words, code fences and thinking around the value, commas before a closing bracket, raw line breaks in
    strings, and unclosed brackets and strings.
    """
    try:
        return json.loads(text), False
    except (json.JSONDecodeError, RecursionError):
        pass
    text = _without_thinking(text)
    fenced = _FENCE.search(text)
    body = fenced[1] if fenced else text
    start = body.find("{")
    if start < 0:
        raise ValueError(f"no JSON object in {_shown(text)}")
    try:
        return json.loads(_mended(body[start:]), strict=False), True
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON ({error}): {_shown(text)}") from None


def _without_thinking(text: str) -> str:
    kept, at = [], 0
    opening, closing = _THINKING
    while (start := text.find(opening, at)) >= 0 and (end := text.find(closing, start)) >= 0:
        kept.append(text[at:start])
        at = end + len(closing)
    return "".join([*kept, text[at:]])


def _mended(text: str) -> str:
    """The object at the beginning of ``text``, without trailing commas, and closed if it was left open."""
    written: list[str] = []
    open_: list[str] = []
    inside = escaped = False
    for character in text:
        if inside:
            written.append(character)
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
            continue
        if character in "{[":
            open_.append("}" if character == "{" else "]")
        elif character in "}]":
            _drop_comma(written)
            if not open_ or open_.pop() != character:
                break  # brackets that do not match: for the parser to refuse
        elif character == '"':
            inside = True
        written.append(character)
        if not open_:
            break
    if inside:
        written.append('"' if not escaped else '\\"')
    _drop_comma(written)
    return "".join([*written, *reversed(open_)])


def _drop_comma(written: list[str]) -> None:
    while written and written[-1].isspace():
        written.pop()
    if written and written[-1] == ",":
        written.pop()


def _read(request: JSONRequest[T], reply: ChatReply) -> JSONResult[T]:
    if reply.truncated:  # what is missing cannot be known, even where the rest could be closed
        return JSONResult(None, f"the reply was cut off after {reply.tokens} tokens", (reply,))
    try:
        data, repaired = parse_json(reply.text)
        return JSONResult(request.read(data), "", (reply,), repaired)
    except ValueError as error:
        return JSONResult(None, " ".join(str(error).split()), (reply,))


def _with_error(request: JSONRequest[T], error: str) -> JSONRequest[T]:
    last = request.messages[-1]
    note = f"Your last reply could not be used: {error[:_QUOTED_ERROR]}. Reply with the JSON object alone."
    asked: Message = {"role": last["role"], "content": f"{last['content']}\n\n{note}"}
    return replace(request, messages=(*request.messages[:-1], asked))


def _shown(text: str) -> str:
    short = " ".join(text.split())
    return repr(short if len(short) <= 80 else short[:79] + "…")
