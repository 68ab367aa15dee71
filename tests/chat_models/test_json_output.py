"""JSON from replies: repair, one retry, and failures that say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from continual_learning.chat_models import ChatReply, ChatRequest, JSONRequest, ask_json
from continual_learning.chat_models.json_output import parse_json
from continual_learning.chat_models.servers import estimated_tokens
from continual_learning.model.chat_template import user


class Scripted:
    """Gives these replies in turn; a text that ends in … was cut off."""

    name, window = "scripted", 2000

    def __init__(self, *texts: str):
        self.texts, self.asked = list(texts), []

    def count_tokens(self, messages: Sequence[Any]) -> int:
        return estimated_tokens(messages)

    def complete(self, requests: Sequence[ChatRequest], on_token: Callable[[str], None] | None = None) -> Any:
        self.asked += requests
        texts = [self.texts.pop(0) for _ in requests]
        return [ChatReply(t.removesuffix("…"), 5, 2, 0.1, t.endswith("…")) for t in texts]


def number(data: Any) -> int:
    if not isinstance(data.get("n"), int):
        raise ValueError("field 'n' is missing")
    return data["n"]


REQUEST = JSONRequest((user("a number"),), 20, {"type": "object", "properties": {}}, number)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('Sure!\n```json\n{"n": 1}\n```\nDone.', {"n": 1}),
        ('<think>{"n": 9}</think> {"n": 1}', {"n": 1}),
        ('{"n": 1, "m": [1, 2,],}', {"n": 1, "m": [1, 2]}),
        ('{"n": 1, "text": "two\nlines"}', {"n": 1, "text": "two\nlines"}),
        ('{"n": 1, "m": ["a", "b', {"n": 1, "m": ["a", "b"]}),
        ('{"text": "a } in \\" it"} and more }', {"text": 'a } in " it'}),
    ],
)
def test_what_can_be_repaired(text: str, value: Any) -> None:
    assert parse_json(text) == (value, True)


def test_sound_json_is_not_called_repaired() -> None:
    assert parse_json('{"n": 1}') == ({"n": 1}, False)


@pytest.mark.parametrize("text", ["", "no object", '{"n": }', '{"n": 1]'])
def test_what_cannot_be_repaired(text: str) -> None:
    with pytest.raises(ValueError, match="JSON"):
        parse_json(text)


def test_one_retry_with_the_error() -> None:
    model = Scripted("nothing", '{"n": 3}')
    [result] = ask_json(model, [REQUEST])
    assert (result.value, result.error, len(result.replies)) == (3, "", 2)
    assert "no JSON object in 'nothing'" in model.asked[1].messages[-1]["content"]


def test_two_failures_are_reported_and_others_are_not_touched() -> None:
    model = Scripted('{"m": 1}', '{"n": 2}', '{"m": 1}')
    bad, good = ask_json(model, [REQUEST, REQUEST])
    assert bad.value is None and bad.error == "field 'n' is missing" and len(bad.replies) == 2
    assert good.value == 2 and len(good.replies) == 1


def test_a_reply_that_was_cut_off_is_not_mended() -> None:
    model = Scripted('{"n": 12…', '{"n": 123}')
    [result] = ask_json(model, [REQUEST])
    assert result.value == 123 and "cut off after 2 tokens" in model.asked[1].messages[-1]["content"]
