"""Which sentences of a memory are relevant to a question, and what may be quoted from them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from continual_learning.memory.state import DocumentRecord, State, StateMeta
from continual_learning.model.base_model import BaseModel
from continual_learning.retrieval import BM25Index
from continual_learning.retrieval.passages import PassageFinder
from continual_learning.retrieval.quoting import Quotations

CHUNKS = {
    "doc-a": ["The Harrow mill ground barley until 1887. Its millstones came from Lund by barge.", "Rye was rare."],
    "doc-b": ["The Lund orchestra hired a bassoonist in 1902. Every rehearsal began with barley soup."],
}
TITLES = {"doc-a": "The mill", "doc-b": "Music"}
ABOUT = "What did the Harrow mill grind?"


def state() -> State:
    records = tuple(DocumentRecord(d, TITLES[d], "text", d, 1, "2026-01-01T00:00:00+00:00") for d in CHUNKS)
    return State({}, replace(StateMeta("jitrl_mvp", {}, "tiny", "f"), documents=records, extra={"chunks": CHUNKS}))


def finder(min_coverage: float = 0.4, min_evidence: float = 6.0) -> PassageFinder:
    return PassageFinder(BM25Index, 2, min_coverage, min_evidence)


def test_the_sentence_that_is_asked_about_is_found() -> None:
    found = finder().find(state(), ABOUT)
    assert found is not None
    best = found.sentences[0]
    assert best.text == "The Harrow mill ground barley until 1887." and best.title == "The mill"
    assert best.chunk == ("doc-a", 0) and best.number == 0 and 0.4 <= best.coverage <= 1
    [source, *_] = found.sources()
    assert (source.document_id, source.chunk, source.quote) == ("doc-a", 0, best.text)
    weights = [weight for weight, _ in found.weighted(3)]
    assert weights[0] == 1.0 and all(0 < w <= 1 for w in weights)


def test_what_is_not_about_the_memory_finds_nothing() -> None:
    assert finder().find(state(), "Who painted the Mona Lisa?") is None
    assert finder().find(state(), "Is barley healthy for horses in winter?") is None, "one shared word is not enough"
    assert finder(min_coverage=0.0, min_evidence=0.0).find(state(), "Is barley healthy for horses?") is not None


def test_a_follow_up_is_looked_up_with_the_turn_before() -> None:
    history = [{"role": "user", "content": ABOUT}, {"role": "assistant", "content": "barley"}]
    assert finder().find(state(), "And until when?") is None
    found = finder().find(state(), "And until when?", history)  # type: ignore[arg-type]
    assert found is not None and found.query.startswith(ABOUT)


def quotations(base: BaseModel, sentences: int = 1) -> Quotations:
    found = finder().find(state(), ABOUT)
    assert found is not None
    return Quotations(base, found, sentences, 24, after_space=False)


def test_a_quotation_begins_at_an_informative_word_and_ends_with_the_sentence(tiny_base: BaseModel) -> None:
    quote = quotations(tiny_base)
    begins = {tiny_base.encode(word)[0] for word in ("ground", "barley", "until", "1887")}
    assert set(quote.outcomes([])) == begins and max(quote.outcomes([]).values()) <= 1
    written = tiny_base.encode("barley until 1887.")
    for length in range(1, len(written)):
        assert written[length] in quote.outcomes(written[:length])
    assert set(quote.outcomes(written)) <= tiny_base.stop_ids


def test_words_before_a_quotation_lead_to_its_beginnings(tiny_base: BaseModel) -> None:
    quote = quotations(tiny_base)
    spaced = {tiny_base.encode(f" {word}")[0] for word in ("ground", "barley", "until", "1887")}
    said = tiny_base.encode("It was")
    assert set(quote.outcomes(said)) == spaced
    longer = tiny_base.encode("It was barley until")
    assert set(quote.outcomes(longer)) == {tiny_base.encode(" 1887.")[0]}


@pytest.mark.parametrize("sentences", [1, 3])
def test_only_the_best_sentences_are_quoted(tiny_base: BaseModel, sentences: int) -> None:
    outcomes = quotations(tiny_base, sentences).outcomes([])
    other = tiny_base.encode("millstones")[0]
    assert (other in outcomes) == (sentences == 3)
