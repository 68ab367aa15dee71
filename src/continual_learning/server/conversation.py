"""From OpenAI's request to a conversation that a strategy takes, and what of the request is not supported."""

from __future__ import annotations

from collections.abc import Sequence

from continual_learning.errors import InputError, RequestFieldError
from continual_learning.model.chat_template import Message
from continual_learning.server.schemas import ChatCompletion, ChatMessage
from continual_learning.text.checks import check_text


def refuse(request: ChatCompletion) -> None:
    """Raise RequestFieldError for a field that asks for what this server cannot do."""
    form = (request.response_format or {}).get("type", "text")
    tools = "tools" if request.tools else "functions"
    unsupported = {
        "n": (request.n not in (None, 1), f"{request.n} answers; answers are greedy, so all would be one: expected 1"),
        tools: (
            bool(request.tools or request.functions) and request.tool_choice != "none",
            "this server calls none; leave them out, or send tool_choice 'none'",
        ),
        "logprobs": (bool(request.logprobs), "not supported; expected false"),
        "logit_bias": (bool(request.logit_bias), "not supported; leave it out"),
        "response_format": (form != "text", f"type {form!r} is not supported; expected 'text'"),
        "modalities": (
            any(kind != "text" for kind in request.modalities or ()),
            f"{request.modalities} is not supported; expected ['text']",
        ),
        "stream_options": (
            request.stream_options is not None and not request.stream,
            "expected only with stream true; leave it out",
        ),
    }
    for field, (is_asked, message) in unsupported.items():
        if is_asked:
            raise RequestFieldError(field, message)


def conversation(messages: Sequence[ChatMessage]) -> tuple[list[Message], str]:
    """The earlier turns, and the user's words to answer.

    A tool's result is part of the assistant's turn that called it. Where it comes last, the user's question before it
    is asked again, with the result in the conversation.
    """
    last = messages[-1]
    if last.role == "user":
        return _turns(messages[:-1]), _words(len(messages) - 1, last)
    if last.role not in ("tool", "function"):
        raise InputError(f"the last message is the {last.role}'s; expected the user's")
    questions = [number for number, message in enumerate(messages) if message.role == "user"]
    if not questions:
        raise InputError("no message is the user's; expected one with a question")
    return _turns(messages), _words(questions[-1], messages[questions[-1]])


def _turns(messages: Sequence[ChatMessage]) -> list[Message]:
    turns: list[Message] = []
    called: dict[str, str] = {}  # names of functions by the id of their call
    tools = False  # whether the last turn tells of a tool, and the assistant may go on in it
    for number, message in enumerate(messages):
        text = _words(number, message)
        role = {"developer": "system", "tool": "assistant", "function": "assistant"}.get(message.role, message.role)
        if message.role in ("tool", "function"):
            name = message.name or called.get(message.tool_call_id or "", "the tool")
            text = f"{name} returned: {text}"
        for call in message.tool_calls or ():
            called[call.id] = call.function.name
            text += f"{chr(10) if text else ''}{call.function.name}({call.function.arguments})"
        if tools and role == "assistant":
            turns[-1] = {"role": role, "content": f"{turns[-1]['content']}\n{text}".rstrip("\n")}
        elif text or role != "assistant":
            turns.append({"role": role, "content": text})
        tools = role == "assistant" and (tools or message.role != "assistant" or bool(message.tool_calls))
    return turns


def _words(number: int, message: ChatMessage) -> str:
    """The content of a message as one text. Raises RequestFieldError for what is no text."""
    field = f"messages.{number}.content"
    if isinstance(message.content, str):
        return check_text(message.content, field)
    texts = []
    for part in message.content or ():
        text = part.text if part.type == "text" else part.refusal if part.type == "refusal" else None
        if text is None:
            raise RequestFieldError(field, f"a part of type {part.type!r}; this server reads parts of type 'text'")
        texts.append(check_text(text, field))
    return "".join(texts)
