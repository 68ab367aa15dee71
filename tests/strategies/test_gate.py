"""The measure of what learning did to everything else."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from continual_learning.strategies import gate
from continual_learning.strategies.gate import before_and_after, retention
from continual_learning.types import Answer, QuestionAnswer

QUESTIONS = [QuestionAnswer(f"Question {n}?", (f"gold{n}",)) for n in range(4)]


class Untouched:
    """A strategy whose memory leaves the third question alone, forgets the first and gains the last."""

    def affects(self, base: Any, state: Any, text: str) -> bool:
        return text.startswith("Question") and text != "Question 2?"

    def answer(self, base: Any, state: Any, questions: Sequence[str], tokens: int) -> list[Any]:
        said = {"Question 0?": "lost", "Question 1?": "gold1", "Question 3?": "gold3"}
        return [Answer(question, said[question]) for question in questions]


def test_before_and_after_asks_what_the_base_got_wrong_too(monkeypatch: pytest.MonkeyPatch) -> None:
    base: Any = SimpleNamespace(remember=lambda key, make: make(), token_nll=lambda texts: (20.0, 10))
    alone = [Answer("", text) for text in ("gold0", "gold1", "gold2", "nothing")]
    monkeypatch.setattr(gate, "plain_answers", lambda *_: alone)
    strategy: Any = Untouched()
    found = before_and_after(base, strategy, None, QUESTIONS, ["An unrelated text."])  # type: ignore[arg-type]
    assert found.right_before == (True, True, True, False) and found.right_after == (False, True, True, True)
    assert found.perplexity_before == found.perplexity_after == pytest.approx(2.718281828**2)
    assert found.retention == retention(base, strategy, None, QUESTIONS, ["An unrelated text."])  # type: ignore[arg-type]
    assert found.retention.general_kept == pytest.approx(2 / 3)
