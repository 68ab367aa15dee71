"""The measure of what learning did to everything else."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from continual_learning.strategies import gate
from continual_learning.strategies.gate import before_and_after, retention
from continual_learning.types import Answer, LearnReport, QuestionAnswer

QUESTIONS = [QuestionAnswer(f"Question {n}?", (f"gold{n}",)) for n in range(4)]


class Untouched:
    """A strategy whose memory leaves the third question alone, forgets the first and gains the last."""

    def affects(self, base: Any, state: Any, text: str) -> bool:
        return text.startswith("Question") and text != "Question 2?"

    def answer_key(self, base: Any, state: Any, question: str) -> None:
        return None

    def answer(self, base: Any, state: Any, questions: Sequence[str], tokens: int) -> list[Any]:
        said = {"Question 0?": "lost", "Question 1?": "gold1", "Question 3?": "gold3"}
        return [Answer(question, said[question]) for question in questions]


def test_before_and_after_asks_what_the_base_got_wrong_too(monkeypatch: pytest.MonkeyPatch) -> None:
    base: Any = SimpleNamespace(fingerprint="f", remember=lambda key, make: make(), token_nll=lambda texts: (20.0, 10))
    alone = [Answer("", text) for text in ("gold0", "gold1", "gold2", "nothing")]
    monkeypatch.setattr(gate, "kept_answers", lambda *_: alone)
    strategy: Any = Untouched()
    found = before_and_after(base, strategy, None, QUESTIONS, ["An unrelated text."])  # type: ignore[arg-type]
    assert found.right_before == (True, True, True, False) and found.right_after == (False, True, True, True)
    assert found.perplexity_before == found.perplexity_after == pytest.approx(2.718281828**2)
    assert found.retention == retention(base, strategy, None, QUESTIONS, ["An unrelated text."])  # type: ignore[arg-type]
    assert found.retention.general_kept == pytest.approx(2 / 3)


def test_only_what_a_document_changed_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    class Keyed(Untouched):
        """Question 0 depends on the number of documents, question 1 on nothing that changes, 3 on what is unknown."""

        def answer_key(self, base: Any, state: int, question: str) -> Any:
            return {"Question 0?": ("documents", state), "Question 1?": "fixed"}.get(question)

        def answer(self, base: Any, state: int, questions: Sequence[str], tokens: int) -> list[Any]:
            asked.append(list(questions))
            said = {"Question 0?": "gold0" if state == 2 else "lost", "Question 1?": "gold1", "Question 3?": "gold3"}
            return [Answer(question, said[question]) for question in questions]

    base: Any = SimpleNamespace(fingerprint="f", remember=lambda key, make: make(), token_nll=lambda texts: (20.0, 10))
    monkeypatch.setattr(gate, "kept_answers", lambda *_: [Answer("", f"gold{n}") for n in range(4)])
    strategy: Any = Keyed()
    states: list[Any] = [1, 1, 2]
    kept = [retention(base, strategy, state, QUESTIONS, []).general_kept for state in states]
    assert asked == [["Question 0?", "Question 1?", "Question 3?"], ["Question 3?"], ["Question 0?", "Question 3?"]]
    assert kept == [0.75, 0.75, 1.0]


@pytest.mark.parametrize(("harmful", "looks"), [(None, 1), (0, 1 + 3), (1, 1 + 3)])
def test_documents_are_checked_together_and_one_by_one_if_that_finds_harm(
    harmful: int | None, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[int, ...]] = []

    def kept(base: Any, strategy: Any, state: tuple[int, ...], questions: Any, texts: Any) -> gate.Retention:
        looked.append(state)
        return gate.Retention(0.5 if harmful in state else 1.0, 0.0)

    def adding(number: int) -> Any:
        return lambda state: ((*state, number), LearnReport(True, "", f"doc{number}", "", 1, 1.0, 1))

    clock = itertools.count()  # a second between two looks at it
    monkeypatch.setattr(gate.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(gate, "retention", kept)
    nothing: Any = None
    state: Any = ()
    found = gate.check_all(nothing, nothing, state, [adding(n) for n in range(3)], (), gate.LIMITS)
    accepted = [n for n in range(3) if n != harmful]
    assert [report.accepted for _, report in found] == [n in accepted for n in range(3)]
    assert list(found[-1][0]) == accepted and len(looked) == looks
    # a third of the look at all, and of those that were refused together also their own
    spent = 1 / 3 if harmful is None else 1 / 3 + 1
    assert [report.seconds for _, report in found] == pytest.approx([1.0 + spent] * 3)
    assert [report.timings["retention"] for _, report in found] == pytest.approx([spent] * 3)


def test_a_document_that_was_not_learned_sends_no_others_through_the_check_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[Any] = []

    def kept(base: Any, strategy: Any, state: Any, questions: Any, texts: Any) -> gate.Retention:
        looked.append(state)
        return gate.Retention(1.0, 0.0)

    def adding(number: int) -> Any:
        after = 0.0 if number == 0 else 1.0
        report = LearnReport(True, "", f"doc{number}", "", 1, 1.0, 1, recall_before=0.0, recall_after=after)
        return lambda state: ((*state, number), report)

    monkeypatch.setattr(gate, "retention", kept)
    nothing: Any = None
    state: Any = ()
    found = gate.check_all(nothing, nothing, state, [adding(n) for n in range(3)], (), gate.LIMITS)
    assert [report.accepted for _, report in found] == [False, True, True]
    assert [held for held, _ in found] == [(), (1,), (1, 2)] and looked == [(0,), (1,), (1, 2)]
