"""Route, recall, read: one pipeline, whatever the recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from continual_learning.documents import Document
from continual_learning.model.base_model import BaseModel
from continual_learning.reading import pipeline
from continual_learning.reading.in_prompt import Excerpt, ReadingConfig, read_answers
from continual_learning.reading.pipeline import Opened, Pipeline, Recalled
from continual_learning.reading.spans import FoundSpan, Reading
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.baselines.quote import KeptText, Quote
from continual_learning.strategies.methods.ttt import TTT
from continual_learning.strategies.methods.ttt.recite import Recitation
from continual_learning.types import TokenCallback

TEXT = "Otto Brand lives in Lund. His seven cats sleep all day. Comb jellies eat plankton near the harbour of Lund."
ASKED = ["What do comb jellies eat near the harbour of Lund?", "Where does Otto Brand of Lund live?", "Who was Homer?"]
QUICK: dict[str, dict[str, Any]] = {"quote": {}, "ttt": {"guard": False, "passes": 1, "neurons": 4}}


def pipeline_of(name: str) -> Pipeline:
    strategy = make_strategy(name, {"reader": None, **QUICK[name]})
    assert isinstance(strategy, Quote | TTT)
    return strategy._pipeline


def test_quote_and_ttt_differ_in_their_recall_alone() -> None:
    quote, ttt = pipeline_of("quote"), pipeline_of("ttt")
    assert type(quote) is type(ttt) is Pipeline and quote.router == ttt.router
    shared = set(pipeline.PassageConfig.model_fields)
    assert quote.config.model_dump(include=shared) == ttt.config.model_dump(include=shared)
    assert isinstance(quote.recall, KeptText) and isinstance(ttt.recall, Recitation)


class LastWord:
    """A reader that finds the last word of a text likeliest."""

    def read(self, base: BaseModel, title: str, text: str, questions: Sequence[str], *how: object) -> list[Reading]:
        last = text.split()[-1]
        return [Reading((FoundSpan(last, text.index(last), 1.0),), 0.0, 1.0) for _ in questions]


class Perfect:
    """Recites as weights would that learned every part by heart."""

    verbatim = False

    def whole(self, opened: Opened) -> str:
        return KeptText().whole(opened)

    def windows(
        self, opened: Opened, windows: Sequence[range], max_new_tokens: int, on_token: TokenCallback | None
    ) -> list[Recalled]:
        return KeptText().windows(opened, windows, max_new_tokens, on_token)


@pytest.mark.parametrize("with_reader", [False, True])
def test_the_same_text_gives_the_same_answers(
    with_reader: bool, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_reader:
        monkeypatch.setattr(pipeline, "chosen_reader", lambda *_: LastWord())
    strategy = make_strategy("quote", {})
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), Document(TEXT, "Lund"))
    ttt = pipeline_of("ttt")
    recited = Pipeline(ttt.router, ttt.config, Perfect()).answer(tiny_base, state, ASKED, 12)
    quoted = pipeline_of("quote").answer(tiny_base, state, ASKED, 12)
    assert [a.text for a in recited] == [a.text for a in quoted]
    assert [bool(a.sources) for a in recited] == [True, True, False]
    assert [a.origin for a in recited] == ["memory", "memory", "model"] == [a.origin for a in quoted]
    assert recited[0].sources[0].recited and not quoted[0].sources[0].recited
    assert all(a.sources[0].quote == a.text and a.text in a.sources[0].text for a in (recited[0], quoted[0]))


@pytest.mark.parametrize("name", ["quote", "ttt"])
def test_a_base_that_no_reader_was_trained_for_reads_the_passage_in_its_prompt(name: str, tiny_base: BaseModel) -> None:
    strategy = make_strategy("quote", {})
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), Document(TEXT, "Lund"))
    unaided = make_strategy(name, QUICK[name])
    assert isinstance(unaided, Quote | TTT)
    given = Pipeline(unaided._pipeline.router, unaided.config, Perfect() if name == "ttt" else KeptText())
    found = given.answer(tiny_base, state, ASKED, 12)
    read = read_answers(tiny_base, ReadingConfig(), [[Excerpt(TEXT, "Lund")]] * 2, ASKED[:2], 12)
    assert [a.text for a in found[:2]] == [a.text for a in read]
    assert [a.origin for a in found] == ["memory", "memory", "model"]
    assert found[0].sources[0].text == TEXT and found[0].sources[0].recited == (name == "ttt")


class Knows:
    """A reader that finds a year if the text has it, with this confidence."""

    def __init__(self, confidence: float):
        self.confidence = confidence

    def read(self, base: BaseModel, title: str, text: str, questions: Sequence[str], *how: object) -> list[Reading]:
        spans = (FoundSpan("1874", text.index("1874"), 1.0),) if "1874" in text else ()
        return [Reading(spans, 0.0 if spans else 0.9, self.confidence) for _ in questions]


@pytest.mark.parametrize(("confidence", "origin"), [(0.6, "memory"), (0.2, "unknown")])
def test_a_document_does_not_say_only_what_none_of_its_passages_says(
    confidence: float, origin: str, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "chosen_reader", lambda *_: Knows(confidence))
    strategy = make_strategy("quote", {"passage_tokens": 40})
    text = "The comb jellies of Lund eat plankton near the harbour. " * 3 + "Otto Brand saw them first in 1874."
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), Document(text, "Lund"))
    said: list[str] = []
    [answer] = strategy.answer(tiny_base, state, ["When did comb jellies of Lund eat plankton?"], 12, said.append)
    assert answer.origin == origin
    assert said == [answer.text]
    if origin == "memory":
        assert (answer.text, answer.confidence) == ("1874", 0.6)
        assert "1874" in answer.sources[0].text


@pytest.mark.parametrize(("unknown", "documents", "origin"), [(0.1, 1, "memory"), (0.3, 1, "model"), (0.1, 4, "model")])
def test_what_a_few_words_find_counts_in_a_small_memory_if_the_reader_is_sure(
    unknown: float, documents: int, origin: str, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Says:
        def read(self, base: BaseModel, title: str, text: str, asked: Sequence[str], *how: object) -> list[Reading]:
            return [Reading((FoundSpan("Lund", text.index("Lund"), 0.8),), unknown, 0.7) for _ in asked]

    monkeypatch.setattr(pipeline, "chosen_reader", lambda *_: Says())
    quote = make_strategy("quote", {})
    state = quote.init(tiny_base)
    for number in range(documents):
        text = TEXT if number == 0 else f"Part {number}: a barge carries gravel."
        state, _ = quote.learn(tiny_base, state, Document(text, f"Page {number}"))
    question = "Where is the harbour of the old village?"
    [answer] = quote.answer(tiny_base, state, [question], 8)
    assert answer.origin == origin
    if origin == "memory":
        assert answer.text == "Lund"
    else:
        frozen = make_strategy("frozen", {})
        [own] = frozen.answer(tiny_base, frozen.init(tiny_base), [question], 8)
        assert answer.text == own.text and not answer.sources
    assert quote.affects(tiny_base, state, question) == (documents == 1)
