"""The reading benchmark on made-up passages: which questions are asked, what is right, and what is found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from continual_learning.datasets.base import Dataset, QADocument
from continual_learning.documents import Document
from continual_learning.evaluation.cache import ResultCache
from continual_learning.evaluation.reading import (
    ReadingProbe,
    calibration,
    first_token_entropies,
    seconds_one_by_one,
    told_apart,
    unanswered_questions,
)
from continual_learning.model.base_model import BaseModel
from continual_learning.reading.in_prompt import Excerpt, ReadingConfig, reading_prompt
from continual_learning.reading.reader.calibration import Calibration
from continual_learning.reading.reader.reader import Reader
from continual_learning.reading.spans import FoundSpan, Reading
from continual_learning.strategies.base import make_strategy
from continual_learning.types import QuestionAnswer


def passage(text: str, *pairs: tuple[str, str], article: str = "Lund") -> QADocument:
    return QADocument(Document(text, article), tuple(QuestionAnswer(q, (a,)) for q, a in pairs), article)


BRAND = passage("Otto Brand of Lund keeps seven cats.", ("Who keeps seven cats?", "Otto Brand"))
JELLIES = passage(
    "Comb jellies eat plankton near the harbour of Lund.",
    ("What do comb jellies eat?", "plankton"),
    ("Where do the jellies keep seven krill?", "the harbour"),
    ("How many cats does the man keep?", "seven"),
)
DOGS = passage("Dogs bark.", ("Which cats do dogs chase?", "small ones"), ("Why?", "hunger"))
DATA = Dataset("three", "three.jsonl", (BRAND, JELLIES, DOGS))


class Known(Reader):
    """Stands for a reader that knows one span, and is sure about questions with a word in them."""

    def read(self, base: BaseModel, title: str, text: str, questions: Any, *how: object) -> list[Reading]:
        span = FoundSpan("Otto Brand", 0, 0.6)
        return [Reading((span,), 0.1 if "Who" in one else 0.8, 0.7) for one in questions]


def known(base: BaseModel) -> Reader:
    return Known({}, base.fingerprint, Calibration())


def test_the_nearest_questions_that_a_passage_does_not_answer() -> None:
    # Two of the first question's words are Brand's, one of the second's; seven is an answer that he has.
    assert unanswered_questions(BRAND, DATA.documents, 5) == (
        "Where do the jellies keep seven krill?",
        "Which cats do dogs chase?",
    )
    assert unanswered_questions(BRAND, DATA.documents, 1) == ("Where do the jellies keep seven krill?",)
    again = passage("Brand again.", ("Who keeps seven cats?", "nobody"))
    assert unanswered_questions(BRAND, (again,), 5) == (), "a question that it answers"


def test_entropies_are_those_of_the_whole_prompt(tiny_base: BaseModel) -> None:
    asked = ["Who keeps cats?", "Who keeps cats and dogs in the house of Otto Brand?"]
    expected = []
    for question in asked:
        ids, _ = reading_prompt(tiny_base, ReadingConfig(), [Excerpt(BRAND.document.text, "Lund")], question, 1)
        with torch.no_grad():
            p_V = tiny_base.model(torch.tensor([ids])).logits[0, -1].softmax(-1)
        expected.append(float(-(p_V * p_V.log()).sum()))
    assert first_token_entropies(tiny_base, "Lund", BRAND.document.text, asked) == pytest.approx(expected, abs=1e-4)
    assert first_token_entropies(tiny_base, "Lund", BRAND.document.text, asked[:1]) == pytest.approx(expected[:1])
    assert first_token_entropies(tiny_base, "Lund", "text", []) == []


def test_right_is_the_answer_or_that_the_passage_does_not_say(tiny_base: BaseModel) -> None:
    own, foreign = ReadingProbe(tiny_base, known(tiny_base), make_strategy("quote")).ask(BRAND, DATA)
    assert (own["answerable"], own["text"], own["refused"], own["right"]) == (True, "Otto Brand", False, True)
    assert own["confidence"] == pytest.approx(0.7) and own["routed"]
    assert (foreign["answerable"], foreign["refused"], foreign["right"]) == (False, True, True)
    assert foreign["confidence"] == foreign["unknown"] == pytest.approx(0.8)


def test_a_refusal_that_quotes_the_answer_is_not_right(tiny_base: BaseModel) -> None:
    shy = replace(BRAND, questions=(QuestionAnswer("The cats of which man?", ("Otto Brand",)),))
    own, *_ = ReadingProbe(tiny_base, known(tiny_base)).ask(shy, DATA)
    assert "Otto Brand" in own["text"] and own["refused"] and not own["right"]


def test_what_was_asked_is_found_again(tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ResultCache(tmp_path)
    before = ReadingProbe(tiny_base, known(tiny_base), cache=cache).ask(BRAND, DATA)
    monkeypatch.setattr(Known, "read", None)
    assert ReadingProbe(tiny_base, known(tiny_base), cache=cache).ask(BRAND, DATA) == before
    other = Known({}, tiny_base.fingerprint, Calibration(right=(1.0, 0.0, 0.0, 0.0)))
    with pytest.raises(TypeError):
        ReadingProbe(tiny_base, other, cache=cache).ask(BRAND, DATA)


def row(document: str, answerable: bool, right: bool, entropy: float, confidence: float = 0.5) -> dict[str, Any]:
    refused = right != answerable
    return {"document": document, "answerable": answerable, "refused": refused, "right": right, "entropy": entropy,
            "confidence": confidence, "unknown": 0.9 if refused else 0.2, "routed": answerable}  # fmt: skip


ROWS = [
    row("a", True, True, 1.0, 0.9),
    row("a", False, True, 3.0, 0.8),
    row("b", True, False, 2.0, 0.3),
    row("b", False, False, 4.5, 0.6),
]


def test_calibration_of_all_questions_and_of_those_with_an_answer() -> None:
    found = calibration(ROWS)
    assert (found["all"]["questions"], found["answerable"]["questions"]) == (4, 2)
    assert found["all"]["right"] == 0.5 and found["all"]["confidence"] == pytest.approx(0.65)
    assert found["all"]["error"] == pytest.approx((0.1 + 0.2 + 0.3 + 0.6) / 4)
    assert found["answerable"]["error"] == pytest.approx((0.1 + 0.3) / 2)
    assert found["all"]["auroc"] == found["answerable"]["auroc"] == 1.0


def test_the_reader_and_the_gate_are_judged_on_the_same_questions() -> None:
    tuning = [row("t", True, True, 2.2), row("t", False, True, 2.8)]
    found = told_apart(ROWS, tuning)
    rules = found["rules"]
    assert [rules[name]["balanced_accuracy"] for name in rules] == [0.5, 0.75, 1.0, 0.5, 0.5]
    assert rules["reader"]["auroc"] == 0.5
    assert rules["gate_published"]["threshold"] == 4.0 and rules["gate_tuned"]["threshold"] == pytest.approx(2.5)
    assert rules["gate_tuned"]["auroc"] == 1.0 and rules["gate_published"]["unanswerable_refused"] == 0.5
    assert rules["always_answer"]["answerable_answered"] == rules["never_answer"]["unanswerable_refused"] == 1.0
    assert found["routed"] == {"answerable": 1.0, "unanswerable": 0.0} and found["tuning_questions"] == 2


def test_seconds_leave_out_the_first_question_of_all(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = make_strategy("quote")
    monkeypatch.setattr(type(strategy), "learn", lambda _, _base, state, _document: (state, None))
    monkeypatch.setattr(type(strategy), "answer", lambda *_: [])
    ticks = iter([0, 9, 10, 11, 20, 25, 30, 32, 40, 44])  # 9 for the very first, then 1 | 5, 2, 4
    monkeypatch.setattr("continual_learning.evaluation.reading.time.perf_counter", lambda: next(ticks))
    two = replace(BRAND, questions=BRAND.questions * 2)
    assert seconds_one_by_one(tiny_base, strategy, [two, JELLIES], 4) == {"first": 5, "warm": 2}
