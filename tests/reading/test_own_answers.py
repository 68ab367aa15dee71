"""What the base says by itself, kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from continual_learning.io.paths import data_home
from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import GenerationControl, controlled
from continual_learning.reading import own_answers as module
from continual_learning.reading.own_answers import kept_answers, own_answers
from continual_learning.reading.plain import plain_answers

QUESTIONS = ["Who was Homer?", "Where is the ferry?"]


@pytest.fixture
def asked(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the base is asked, from a process that knows nothing yet."""
    monkeypatch.setattr(tiny_base, "_remembered", {})
    found: list[list[str]] = []

    def counted(base: BaseModel, questions: Sequence[str], *others: Any) -> Any:
        found.append(list(questions))
        return plain_answers(base, questions, *others)

    monkeypatch.setattr(module, "plain_answers", counted)
    return found


def test_the_same_questions_are_asked_once(
    tiny_base: BaseModel, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kept_answers(tiny_base, QUESTIONS, 4)
    assert kept_answers(tiny_base, QUESTIONS, 4) == first and asked == [QUESTIONS]
    monkeypatch.setattr(tiny_base, "_remembered", {})  # another process reads the file
    assert kept_answers(tiny_base, QUESTIONS, 4) == first and asked == [QUESTIONS]
    assert [a.text for a in kept_answers(tiny_base, QUESTIONS, 2)] != [a.text for a in first]  # other answers


def test_a_damaged_file_is_written_anew(
    tiny_base: BaseModel, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kept_answers(tiny_base, QUESTIONS, 4)
    [path] = (data_home() / "own_answers").iterdir()
    wrong = json.loads(path.read_text("utf-8"))
    wrong[0]["text"] = None
    for damaged in ("{", '[{"text": 1}]', "[]", json.dumps(wrong)):
        path.write_text(damaged, "utf-8")
        monkeypatch.setattr(tiny_base, "_remembered", {})
        found = kept_answers(tiny_base, QUESTIONS, 4)
        assert [a.text for a in found] == [a.text for a in first]
    assert len(asked) == 5


def test_what_is_known_is_not_generated_again_unless_something_moves_it(
    tiny_base: BaseModel, asked: list[list[str]]
) -> None:
    first, _ = kept_answers(tiny_base, QUESTIONS, 4)
    new = own_answers(tiny_base, ["What is new?", QUESTIONS[0]], 4)
    assert new[1] == first and new[0].question == "What is new?" and asked == [QUESTIONS, ["What is new?"]]
    history: Any = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello."}]
    own_answers(tiny_base, QUESTIONS[:1], 4, None, history)
    with tiny_base.steered(lambda step: step.logits_BV):
        own_answers(tiny_base, QUESTIONS[:1], 4)
    streamed: list[str] = []
    own_answers(tiny_base, QUESTIONS[:1], 4, streamed.append)
    assert asked[2:] == [QUESTIONS[:1]] * 3 and "".join(streamed).strip() == first.text


def test_what_is_steered_or_ended_early_is_not_kept(tiny_base: BaseModel, asked: list[list[str]]) -> None:
    control = GenerationControl()
    control.end()
    with controlled(control):
        short = kept_answers(tiny_base, QUESTIONS, 4)
    with tiny_base.steered(lambda step: torch.zeros_like(step.logits_BV)):
        other = kept_answers(tiny_base, QUESTIONS, 4)
    whole = kept_answers(tiny_base, QUESTIONS, 4)
    assert len(asked) == 3 and whole[0].tokens > short[0].tokens and whole[0].text != other[0].text


def test_another_precision_has_its_own_answers(
    tiny_base: BaseModel, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_answers(tiny_base, QUESTIONS, 4)
    monkeypatch.setattr(tiny_base.linears, "precision", "int4")
    monkeypatch.setattr(tiny_base, "_remembered", {})
    kept_answers(tiny_base, QUESTIONS, 4)
    assert len(asked) == 2 and len(list((data_home() / "own_answers").iterdir())) == 2


def test_answers_that_cannot_be_written_are_given_all_the_same(
    tiny_base: BaseModel, asked: list[list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    data_home().mkdir(parents=True, exist_ok=True)
    (data_home() / "own_answers").write_text("a file where the folder would be")
    assert [a.question for a in kept_answers(tiny_base, QUESTIONS, 4)] == QUESTIONS
    assert "are not kept" in caplog.text and kept_answers(tiny_base, QUESTIONS, 4) and len(asked) == 1
