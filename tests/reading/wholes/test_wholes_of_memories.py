"""Memories that have texts answer questions about whole documents from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from continual_learning.app.learner import Learner
from continual_learning.documents import Document
from continual_learning.model.base_model import BaseModel
from continual_learning.reading import answering, pipeline
from continual_learning.reading.pipeline import Opened, Pipeline
from continual_learning.reading.spans import FoundSpan, Reading
from continual_learning.reading.wholes.answering import takes
from continual_learning.retrieval.chunk_store import whole_text
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.baselines.quote import KeptText, Quote
from continual_learning.types import UNAFFECTED

NOTES = """# Larkspur handover

The staging cluster of Larkspur moved to eu-west-3 on 4 March. Priya Nair moved the Larkspur cluster.

## Open tasks
- renew the certificate
- close the old account
- ask about the slow query

The certificate is not renewed yet.
"""
OTHER = "Tidewick is a harbour town. Its brinehorn is blown at dusk by the harbour master of Tidewick."
READING = ["quote", "rag", "in_context", "jitrl_mvp"]


class Finds:
    """A reader that finds a date for "when", else a name."""

    def read(self, base: BaseModel, title: str, text: str, questions: Sequence[str], *how: object) -> list[Reading]:
        spans = ["4 March" if q.lower().startswith("when") else "Priya Nair" for q in questions]
        return [Reading((FoundSpan(span, text.index(span), 0.8),) if span in text else (), 0.2, 0.8) for span in spans]


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "packaged_reader", lambda base: Finds())


def learner(base: BaseModel, strategy: str, *texts: tuple[str, str], **options: Any) -> Learner:
    made = Learner.open(base, strategy, **options)
    for text, title in texts:
        assert made.learn(Document(text, title)).accepted
    return made


@pytest.mark.parametrize("strategy", READING)
def test_whole_documents_are_answered_from_the_text(tiny_base: BaseModel, reader: None, strategy: str) -> None:
    memory = learner(tiny_base, strategy, (NOTES, "Larkspur handover"))
    about, tasks, count, renewed, facts = memory.ask(
        [
            "What is this about?",
            "List all open tasks of Larkspur.",
            "How many open tasks are there?",
            "Is the certificate renewed?",
            "Who moved the Larkspur cluster, and when was it moved?",
        ],
        max_new_tokens=100,
    )
    assert about.text.startswith("Larkspur handover: The staging cluster")
    assert tasks.text == "renew the certificate, close the old account, ask about the slow query"
    assert count.text == "3"
    assert renewed.text == "No. The certificate is not renewed yet."
    if strategy != "in_context":  # the window of the tiny base holds the end of the text only
        assert facts.text == "Priya Nair, on 4 March"
    assert (tasks.confidence, count.confidence, renewed.confidence) == (0.85, 0.9, 0.8)
    assert about.confidence is None
    for answer in (about, tasks, count, renewed):
        assert answer.origin == "memory"
        assert answer.sources[0].title == "Larkspur handover"


@pytest.mark.parametrize("strategy", READING)
def test_without_a_reader_nothing_changes(tiny_base: BaseModel, reader: None, strategy: str) -> None:
    made = make_strategy(strategy, {"reader": None})
    assert made.library(tiny_base, made.init(tiny_base)) is None


def test_which_document_is_meant(tiny_base: BaseModel, reader: None) -> None:
    memory = learner(tiny_base, "quote", (NOTES, "Larkspur handover"), (OTHER, "Tidewick"))
    named, either = memory.ask(["Summarise the Larkspur handover.", "Summarise the document."], max_new_tokens=100)
    assert "eu-west-3" in named.text
    assert either.origin == "unknown"
    assert either.text == 'Which document? This memory can be asked about "Larkspur handover", "Tidewick".'


def test_what_affects_an_answer_is_known(tiny_base: BaseModel, reader: None) -> None:
    memory = learner(tiny_base, "quote", (NOTES, "Larkspur handover"))
    quote, state = memory.strategy, memory.state
    assert quote.affects(tiny_base, state, "What is this about?")
    assert quote.answer_key(tiny_base, state, "What is this about?") is None
    for other in ("List all planets.", "Is Paris in France?", "How many legs has a spider?", "Who was Homer?"):
        assert not quote.affects(tiny_base, state, other)
        assert quote.answer_key(tiny_base, state, other) == UNAFFECTED
        assert memory.ask(other, max_new_tokens=4).origin == "model"


def test_the_only_document_is_found_by_fewer_words(tiny_base: BaseModel, reader: None) -> None:
    question = "Who has the certificate?"
    alone = learner(tiny_base, "quote", (NOTES, "Larkspur handover"))
    assert alone.ask(question).text == "Priya Nair"
    assert alone.strategy.affects(tiny_base, alone.state, question)
    among = learner(tiny_base, "quote", (NOTES, "Larkspur handover"), (OTHER, "Tidewick"))
    assert among.ask(question, max_new_tokens=4).origin == "model"


@pytest.mark.parametrize("question", ["What is her notice period?", "What does it weigh?"])
def test_what_a_question_does_not_name_is_in_the_only_document(
    tiny_base: BaseModel, reader: None, question: str
) -> None:
    memory = learner(tiny_base, "quote", (OTHER, "Tidewick"))
    assert memory.ask(question, max_new_tokens=4).origin == "unknown"
    assert memory.ask("When did it rain in Paris?", max_new_tokens=4).origin == "model"


def test_one_name_of_two_becomes_both(tiny_base: BaseModel, reader: None) -> None:
    text = "The Larkspur review was last week. Priya Nair and Tomasz Wren look for Larkspur sponsors."
    memory = learner(tiny_base, "quote", (text, "Larkspur"))
    pieces: list[str] = []
    answer = memory.ask("Who is looking for Larkspur sponsors?", on_token=pieces.append)
    assert answer.text == "Priya Nair, Tomasz Wren"
    assert "".join(pieces) == answer.text


def test_an_unclear_question_for_yes_or_no_is_refused(tiny_base: BaseModel, reader: None) -> None:
    memory = learner(tiny_base, "quote", (NOTES, "Larkspur handover"))
    answer = memory.ask("Does the Larkspur handover mention penguins, icebergs and glaciers?")
    assert answer.origin == "unknown"
    assert answer.text.startswith('"Larkspur handover" does not say yes or no.')


def test_an_answer_can_be_a_sentence(tiny_base: BaseModel, reader: None) -> None:
    memory = learner(tiny_base, "quote", (NOTES, "Larkspur handover"))
    question = "When was the staging cluster of Larkspur moved?"
    assert memory.ask(question).text == "4 March"
    pieces: list[str] = []
    assert memory.ask(question, on_token=pieces.append, sentence=True).text == "".join(pieces)
    assert "".join(pieces) == "The staging cluster of Larkspur was moved on 4 March."
    assert memory.chat().say(question).text == "The staging cluster of Larkspur was moved on 4 March."


def test_chunks_join_to_the_text(tiny_base: BaseModel, reader: None) -> None:
    text = " ".join(f"Sentence number {n} says that {n} is followed by {n + 1}." for n in range(60))
    memory = learner(tiny_base, "rag", (text, "Numbers"), chunk_tokens=64, overlap_tokens=24)
    assert whole_text(memory.state, memory.documents[0].id) == text


class Recites(KeptText):
    """Text that is recited, at a cost: which passages were."""

    verbatim = False

    def __init__(self) -> None:
        self.recited: list[tuple[str, int]] = []

    def whole(self, opened: Opened) -> str:
        self.recited.append(opened.passage)
        return super().whole(opened)


@pytest.mark.parametrize("listed", [5, 5_000])
def test_a_long_document_is_recited_whole_for_a_question_about_the_whole_alone(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch, listed: int
) -> None:
    monkeypatch.setattr(pipeline, "_SHORT", 5)
    monkeypatch.setattr(pipeline, "_LISTED", listed)
    quote = make_strategy("quote", {})
    assert isinstance(quote, Quote)
    state, _ = quote.learn(tiny_base, quote.init(tiny_base), Document(NOTES, "Larkspur handover"))
    for question in ("List all open tasks of Larkspur.", "Is the certificate of Larkspur renewed?"):
        recall = Recites()
        library = Pipeline(quote._pipeline.router, quote.config, recall).library(tiny_base, state)
        assert library is not None
        assert takes(library, question) == bool(recall.recited) == (listed == 5_000), question
    assert takes(library, "Summarise the Larkspur handover.")
