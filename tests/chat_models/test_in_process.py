"""The base as a chat model: JSON that is valid by construction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from generations import watch_generations
from tiny_models import make_tiny

from continual_learning.chat_models import ChatRequest, InProcessModel
from continual_learning.chat_models.json_constraint import in_string, schema_tokens, skeleton_tokens
from continual_learning.errors import InputError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.chat_template import user

ITEM = {
    "type": "object",
    "properties": {"id": {"enum": ["a-1", "b-22"], "type": "string"}, "text": {"type": "string", "maxLength": 30}},
    "required": ["id", "text"],
    "additionalProperties": False,
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "say": {"type": "string", "minLength": 1, "maxLength": 60},
        "items": {"type": "array", "items": ITEM, "minItems": 1, "maxItems": 2},
        "kind": {"anyOf": [{"const": "x"}, {"type": "array", "items": {"const": "yy"}, "maxItems": 3}]},
    },
    "required": ["say", "items", "kind"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json")


@pytest.mark.parametrize(("family", "seed"), [("llama", 0), ("llama", 1), ("gpt2", 2)])
def test_every_limit_gives_whole_json_of_the_schema(family: str, seed: int, folder: Path) -> None:
    """Random weights want to write anything; whatever the limit, what comes out is of the schema."""
    base = BaseModel.load(str(make_tiny(family, folder / str(seed), seed)), device="cpu")
    model = InProcessModel(base)
    least = skeleton_tokens(SCHEMA) + 1
    for limit in (least, least + 7, least + 13):
        for reply in model.complete([ChatRequest((user(q),), limit, SCHEMA) for q in ("a", "Who? Why?")]):
            data = json.loads(reply.text)
            assert list(data) == ["say", "items", "kind"] and 1 <= len(data["say"]) <= 60
            assert 1 <= len(data["items"]) <= 2 and all(i["id"] in ("a-1", "b-22") for i in data["items"])
            assert reply.tokens <= limit and not reply.truncated


def test_rows_with_and_without_a_schema_do_not_mix(tiny_base: BaseModel) -> None:
    model = InProcessModel(tiny_base)
    schema = {"type": "object", "properties": {"n": {"enum": ["one", "two"]}}, "required": ["n"],
              "additionalProperties": False}  # fmt: skip
    free = ChatRequest((user("Who lives here?"),), 40)
    bound = ChatRequest((user("a much longer question about the quick brown fox"),), 40, schema)
    [alone] = model.complete([free])
    first, second, third = model.complete([bound, free, bound])
    assert second.text == alone.text and second.tokens == alone.tokens
    assert first.text == third.text and json.loads(first.text)["n"] in ("one", "two")


@pytest.mark.parametrize("chats", [True, False])
def test_a_base_that_never_saw_a_chat_replies_in_a_line(
    chats: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = watch_generations(monkeypatch)
    base = BaseModel.load(str(make_tiny("llama", folder / str(chats), chat=chats)), device="cpu")
    InProcessModel(base).complete([ChatRequest((user("Who?"),), 3)])
    assert [call.one_line for call in calls] == [not chats]


def test_json_of_different_limits_is_one_batch_and_each_keeps_to_its_own(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = watch_generations(monkeypatch)
    least = skeleton_tokens(SCHEMA) + 1
    limits = [least + 12, least, least + 5]
    replies = InProcessModel(tiny_base).complete([ChatRequest((user("Who?"),), n, SCHEMA) for n in limits])
    assert [len(call.prompts) for call in calls] == [3]
    assert all(r.tokens <= n and json.loads(r.text)["say"] for r, n in zip(replies, limits, strict=True))


def test_a_limit_below_the_skeleton_is_an_error(tiny_base: BaseModel) -> None:
    with pytest.raises(InputError, match=r"10 tokens for a JSON reply; expected more than the \d+"):
        InProcessModel(tiny_base).complete([ChatRequest((user("a"),), 10, SCHEMA)])


def test_a_prompt_that_leaves_no_room_for_the_json_is_an_error(tiny_base: BaseModel) -> None:
    with pytest.raises(InputError, match="the window of 256 together"):
        InProcessModel(tiny_base).complete([ChatRequest((user("word " * 60),), schema_tokens(SCHEMA), SCHEMA)])


def test_a_text_that_reaches_its_limit_is_called_truncated(tiny_base: BaseModel) -> None:
    [reply] = InProcessModel(tiny_base).complete([ChatRequest((user("Who?"),), 3)])
    assert reply.truncated == (reply.tokens == 3)
    assert reply.prompt_tokens == InProcessModel(tiny_base).count_tokens([user("Who?")])


def test_inside_a_string_or_not() -> None:
    assert [in_string(t) for t in ('{"', '{"a"', '{"a\\"', '{"a\\\\"', '{"a": "]')] == [True, False, True, False, True]
