"""Answers from what a reader finds: which span, from which passage, how sure, and what else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from generations import watch_generations
from tiny_models import make_tiny

from continual_learning.app.feedback import FeedbackMemory, FeedbackSteer
from continual_learning.documents import Document
from continual_learning.errors import ConfigError
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.answering import answers_from, answers_from_each
from continual_learning.reading.spans import FoundSpan, Reading, Turn
from continual_learning.strategies.base import make_strategy
from continual_learning.types import Answer, Source

TEXT = "Otto Brand lives in Lund. His seven cats sleep all day. Comb jellies eat plankton near the harbour in 1920."
ASKED = ("What do comb jellies eat near the harbour?", "Where does Otto Brand live?")


class Fixed:
    """Stands for a reader that found these spans."""

    def __init__(self, *spans: tuple[str, float], unknown: float = 0.0, confidence: float = 0.25):
        self.spans = spans
        self.unknown = unknown
        self.confidence = confidence

    def read(self, base: BaseModel, title: str, text: str, questions: Any, *how: object) -> list[Reading]:
        spans = tuple(FoundSpan(span, max(0, text.find(span)), chance) for span, chance in self.spans)
        return [Reading(spans, self.unknown, self.confidence) for _ in questions]


PASSAGES = (Source("a", "Lund", 0.5, chunk=0, text=TEXT), Source("b", "Seas", 0.4, chunk=2, text="Krill drift."))


def answered(base: BaseModel, reader: Any, room: int = 60) -> Answer:
    [answer] = answers_from(base, reader, PASSAGES, [ASKED[0]], room)
    return answer


def said(base: BaseModel, reader: Any) -> str:
    return answered(base, reader).text


def test_the_likeliest_span_is_the_answer_and_the_others_are_alternatives(tiny_base: BaseModel) -> None:
    answer = answered(tiny_base, Fixed(("plankton", 0.4), ("Lund", 0.3), ("day", 0.1)))
    assert answer.text == "plankton" and answer.origin == "memory" and answer.confidence == 0.25
    assert [a.text for a in answer.alternatives] == ["Lund", "day"]
    assert [a.probability for a in answer.alternatives] == pytest.approx([0.3, 0.1])
    assert answered(tiny_base, Fixed(("plankton", 0.4)), room=1).tokens == 1


def test_a_span_that_occurs_twice_has_the_probability_of_both(tiny_base: BaseModel) -> None:
    answer = answered(tiny_base, Fixed(("plankton", 0.4), ("Lund", 0.3), ("Lund", 0.2)))
    assert answer.text == "Lund" and answer.alternatives[0].text == "plankton"


def test_the_source_of_an_answer_is_the_passage_that_it_is_a_span_of(tiny_base: BaseModel) -> None:
    first, second = answered(tiny_base, Fixed(("Krill", 0.4), ("plankton", 0.3))).sources
    assert (first.document_id, first.chunk, first.quote, first.text) == ("b", 2, "Krill", "Krill drift.")
    assert (second.document_id, second.quote) == ("a", "")
    assert answered(tiny_base, Fixed(("plankton", 0.3))).sources[0].quote == "plankton"


def test_a_text_that_does_not_say_is_an_answer_of_one_sentence(tiny_base: BaseModel) -> None:
    answer = answered(tiny_base, Fixed(("plankton", 0.3), unknown=0.6, confidence=0.7))
    nearest = "Comb jellies eat plankton near the harbour in 1920."
    assert answer.text == f'"Lund" does not say. The nearest passage: "{nearest}"'
    assert answer.origin == "unknown" and answer.confidence == 0.6, (
        "that it does not say, and not that the span is right"
    )
    assert [a.text for a in answer.alternatives] == ["plankton"]
    assert answer.sources[0].document_id == "a" and answer.sources[0].quote == nearest
    assert answered(tiny_base, Fixed()).origin == "unknown", "nothing was found"
    assert answered(tiny_base, Fixed(("plankton", 0.5), unknown=0.2)).text == "plankton"


def test_feedback_moves_the_choice(tiny_base: BaseModel) -> None:
    reader = Fixed(("plankton", 0.6), ("Lund", 0.3))

    def after(answer: str, reward: float | None, correction: str | None = None) -> str:
        memory = FeedbackMemory().add(ASKED[0], answer, reward, correction)
        with tiny_base.steered(FeedbackSteer(tiny_base, memory.about(ASKED[0]))):
            return said(tiny_base, reader)

    assert after("plankton", -1.0) == "Lund"
    assert after("Lund", 1.0) == "Lund"
    assert after("plankton", None, "krill") == "krill"
    assert after("plankton / Lund", None, "krill") == "krill", "an answer of an earlier version"
    assert after("plankton", 1.0) == "plankton"
    assert said(tiny_base, reader) == "plankton"


def test_log_likelihoods_stay_normalised_under_feedback(tiny_base: BaseModel) -> None:
    memory = FeedbackMemory().add(ASKED[0], "plankton", None, "krill")
    steer = FeedbackSteer(tiny_base, memory.about(ASKED[0]))
    moved = steer.weigh({"plankton": math.log(0.6), "Lund": math.log(0.4)})
    assert sum(map(math.exp, moved.values())) == pytest.approx(1.0)
    assert moved["krill"] > moved["Lund"] > moved["plankton"]


def test_questions_about_the_same_passages_are_read_together(tiny_base: BaseModel) -> None:
    class Counting(Fixed):
        batches: list[tuple[str, ...]] = []  # noqa: RUF012 - of this one test

        def read(self, base: BaseModel, title: str, text: str, questions: Any, *how: object) -> list[Reading]:
            self.batches.append(tuple(questions))
            return super().read(base, title, text, questions)

    one, other = PASSAGES
    passages = [[one], [other], [Source("a", "Lund", 0.9, chunk=0, text=TEXT)]]
    heard: list[str] = []
    answers = answers_from_each(tiny_base, Counting(("Krill", 0.4)), passages, ["p", "q", "r"], 60)
    assert Counting.batches == [("p", "r"), ("q",)]
    assert [(a.question, a.sources[0].document_id, a.sources[0].score) for a in answers] == [
        ("p", "a", 0.5),
        ("q", "b", 0.4),
        ("r", "a", 0.9),
    ]
    answers_from_each(tiny_base, Fixed(("Krill", 0.4)), [[other]], ["q"], 60, heard.append)
    assert heard == ["Krill"]


QUICK: dict[str, dict[str, Any]] = {
    "ttt": {"guard": False, "passes": 1, "neurons": 8},
    "rag": {"shots": 0},
    "in_context": {"shots": 0},
    "jitrl_mvp": {"shots": 0},
    "quote": {},
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny model with a window of 1,536 tokens, in which a prompt with passages fits."""
    return BaseModel.load(
        str(make_tiny("llama", tmp_path_factory.mktemp("wide"), max_position_embeddings=1536)), device="cpu"
    )


@pytest.mark.parametrize("name", QUICK)
def test_a_strategy_answers_with_the_reader_that_is_set(
    name: str, wide: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "continual_learning.strategies.methods.ttt.recite.recite_all", lambda *_: TEXT
    )  # as if learned by heart
    fixed = Fixed(("plankton", 0.6), ("Lund", 0.3), confidence=0.8)
    monkeypatch.setattr("continual_learning.reading.answering.packaged_reader", lambda _: fixed)
    strategy = make_strategy(name, QUICK[name])
    state, report = strategy.learn(wide, strategy.init(wide), Document(TEXT, "Lund"))
    assert report.accepted
    heard: list[str] = []
    [answer] = strategy.answer(wide, state, [ASKED[0]], 30, heard.append)
    assert (answer.text, answer.origin, answer.confidence) == ("plankton", "memory", 0.8) and heard == ["plankton"]
    assert [a.text for a in answer.alternatives] == ["Lund"]
    [source] = answer.sources
    assert (source.text, source.quote, source.recited) == (TEXT, "plankton", name == "ttt")
    assert source.chunk == (None if name == "in_context" else 0) and source.score > 0
    [elsewhere] = strategy.answer(wide, state, ["Who painted the Mona Lisa?"], 5)
    assert (elsewhere.origin, elsewhere.sources) == ("model", ())
    assert not strategy.affects(wide, state, elsewhere.question) and strategy.affects(wide, state, ASKED[0])
    fixed.unknown = 0.7
    [unknown] = strategy.answer(wide, state, [ASKED[0]], 30)
    assert unknown.origin == "unknown" and unknown.text.startswith('"Lund" does not say.')
    own = make_strategy(name, {"reader": None, **QUICK[name]})
    [answer] = own.answer(wide, state, [ASKED[0]], 5)
    assert answer.origin == "memory" and answer.alternatives == () and answer.text != "plankton"
    with pytest.raises(ConfigError, match="no such file"):
        make_strategy(name, {"reader": "/nowhere/reader", **QUICK[name]}).answer(wide, state, [ASKED[0]], 30)


OTHERS = tuple(Document(f"Tower {n} of Tidewick has {n} bells.", f"Tidewick {n}") for n in (11, 12, 13))
ACCIDENT = "Which painter drew comb jellies and plankton for the museum of Vienna?"
YES_NO = "Did a painter draw comb jellies and plankton for the museum of Vienna?"


def memory_of(strategy: Any, base: BaseModel, documents: Sequence[Document]) -> Any:
    state = strategy.init(base)
    for document in documents:
        state, report = strategy.learn(base, state, document)
        assert report.accepted
    return state


@pytest.mark.parametrize("name", QUICK)
def test_among_many_documents_words_shared_by_accident_leave_a_question_to_the_base(
    name: str, wide: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("continual_learning.strategies.methods.ttt.recite.recite_all", lambda *_: TEXT)
    fixed = Fixed(("plankton", 0.3), unknown=0.9)
    monkeypatch.setattr("continual_learning.reading.answering.packaged_reader", lambda _: fixed)
    strategy = make_strategy(name, QUICK[name])
    few = memory_of(strategy, wide, [*OTHERS[1:], Document(TEXT, "Lund")])
    many = memory_of(strategy, wide, [*OTHERS, Document(TEXT, "Lund")])
    frozen = make_strategy("frozen")
    own = frozen.answer(wide, frozen.init(wide), [ACCIDENT, YES_NO], 6)
    heard: list[str] = []
    [answer] = strategy.answer(wide, many, [ACCIDENT], 6, heard.append)
    assert (answer.text, answer.origin, answer.sources, answer.notes) == (own[0].text, "model", (), ())
    assert "".join(heard).strip() == own[0].text
    [answer] = strategy.answer(wide, many, [YES_NO], 6)
    assert (answer.text, answer.origin, answer.sources) == (own[1].text, "model", ())

    def origins(state: Any, *questions: str) -> list[str]:
        return [answer.origin for answer in strategy.answer(wide, state, questions, 30)]

    assert origins(few, ACCIDENT, YES_NO) == ["unknown", "unknown"], "among few documents it is about one"
    named = ACCIDENT.replace("painter", "painter of Lund")
    assert origins(many, ASKED[0], named) == ["unknown", "unknown"], "most of its words, or the title"
    turn = [{"role": "user", "content": "What do comb jellies of Lund eat?"}]
    assert strategy.answer(wide, many, [ACCIDENT], 6, None, turn)[0].origin == "unknown", "it follows one that names it"
    fixed.unknown = 0.3
    assert origins(many, ACCIDENT, ASKED[0]) == ["model", "memory"]
    fixed.unknown = 0.1
    assert origins(many, ACCIDENT) == ["memory"], "the reader is sure that the text answers"
    assert strategy.affects(wide, many, ACCIDENT)
    key = strategy.answer_key(wide, many, ACCIDENT)
    assert key is None or key != strategy.answer_key(wide, few, ACCIDENT), "the answers differ"


def test_documents_that_do_not_all_fit_are_read_from_the_newest(
    wide: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    class Noting(Fixed):
        def read(self, base: BaseModel, title: str, text: str, questions: Any, *how: object) -> list[Reading]:
            read.append(text)
            return super().read(base, title, text, questions)

    monkeypatch.setattr("continual_learning.reading.answering.packaged_reader", lambda _: Noting(("plankton", 0.6)))
    strategy = make_strategy("in_context")
    state = strategy.init(wide)
    for text in ("The fox. " * 999, "One two. " * 20, TEXT):
        state, _ = strategy.learn(wide, state, Document(text))
    [answer] = strategy.answer(wide, state, [ASKED[0]], 30)
    [text] = read
    assert text.endswith(TEXT) and text.count("One two.") == 20 and 20 < text.count("The fox.") < 600
    assert len(wide.encode(text)) <= wide.window - 30 - 200
    assert answer.notes and f"window of {wide.window}" in answer.notes[0]


def test_a_passage_is_recited_once_for_all_questions(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("continual_learning.reading.answering.packaged_reader", lambda _: Fixed(("plankton", 0.9)))
    strategy = make_strategy("ttt", {"guard": False, "passes": 1, "neurons": 8})
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), Document(TEXT, "Lund"))
    calls = watch_generations(monkeypatch)
    for _ in range(2):
        assert [a.text for a in strategy.answer(tiny_base, state, [ASKED[0]] * 2, 30)] == ["plankton"] * 2
    assert len(calls) == 1
    other, _ = strategy.learn(tiny_base, strategy.init(tiny_base), Document(TEXT, "Lund"))
    strategy.answer(tiny_base, other, [ASKED[0]], 30)
    assert len(calls) == 2  # other weights, though they are of the same document


@pytest.mark.parametrize(
    "question", ["And when was that?", "Since when?", "What do they eat there in the year after it?"]
)
def test_a_question_that_refers_to_the_turn_before_is_read_after_it(tiny_base: BaseModel, question: str) -> None:
    turns: list[object] = []

    class Noting(Fixed):
        def read(self, base: BaseModel, title: str, text: str, questions: Any, *how: object) -> list[Reading]:
            turns.append(how[1])
            return super().read(base, title, text, questions)

    history: list[Message] = [{"role": "user", "content": ASKED[0]}, {"role": "assistant", "content": "plankton"}]
    for asked, before in ((question, history), (ASKED[1], history), (question, history[:1])):
        answers_from(tiny_base, Noting(("1920", 0.5)), PASSAGES, [asked], 8, before)  # type: ignore[arg-type]
    assert turns == [Turn(ASKED[0], "plankton"), None, None]
