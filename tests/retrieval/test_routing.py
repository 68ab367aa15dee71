"""Which passage a question is about: by rare shared words, and none rather than a wrong one."""

from __future__ import annotations

import math

import torch

from continual_learning.memory.state import DocumentRecord, State, StateMeta
from continual_learning.retrieval.routing import (
    Passage,
    Rarity,
    Router,
    answer_by_route,
    key_tensors,
    passage_key,
    passage_keys,
    routed_sources,
    term_hash,
)
from continual_learning.types import Answer

BACKGROUND = ["The capital of Japan is Tokyo.", "A capital city is where a government sits.", "Rain fell on the city."]
FOX = "The brown fox lives near the harbour of Lund."
JELLIES = "Comb jellies eat plankton in Japan."


def keys() -> dict[Passage, frozenset[int]]:
    tensors = {**key_tensors("doc-fox", "Fox", [FOX]), **key_tensors("doc-jellies", "Jellies", ["Cilia.", JELLIES])}
    documents = tuple(DocumentRecord(i, i[4:], "text", "0", 1, "") for i in ("doc-fox", "doc-jellies"))
    return passage_keys(State({**tensors, "doc-fox/other": torch.zeros(1)}, StateMeta("ttt", {}, "", "", documents)))


def router(threshold: float = 0.25, evidence: float = 1.5) -> Router:
    return Router(Rarity.of(BACKGROUND), threshold, evidence)


def test_a_key_holds_hashes_of_content_words_in_order() -> None:
    key = passage_key("Fox", "The fox is in the harbour, and the fox is brown.")
    assert key.tolist() == sorted(key.tolist()) and key.dtype == torch.int64
    assert len(key) == 3 and term_hash("fox") in key.tolist()


def test_keys_are_found_by_document_and_number() -> None:
    found = keys()
    assert list(found) == [("doc-fox", 0), ("doc-jellies", 0), ("doc-jellies", 1)]
    assert found["doc-jellies", 1] == frozenset(passage_key("Jellies", JELLIES).tolist())


def test_rare_words_weigh_more() -> None:
    rarity = Rarity.of(BACKGROUND)
    assert rarity.idf(term_hash("plankton")) == math.log(4)
    assert rarity.idf(term_hash("capital")) == math.log(4 / 3)


def test_coverage_and_evidence_are_what_they_say() -> None:
    rarity = Rarity.of(BACKGROUND)
    [(coverage, evidence)] = rarity.match("capital plankton", [frozenset({term_hash("plankton")})])
    assert evidence == math.log(4)
    assert coverage == math.log(4) / (math.log(4) + math.log(4 / 3))
    assert rarity.match("of the", [frozenset({1})]) == [(0.0, 0.0)], "no content word, no coverage"


def test_a_question_opens_the_passage_that_covers_most_of_it() -> None:
    passage, coverage = router().route(keys(), "What plankton do comb jellies eat?") or (None, 0.0)
    assert passage == ("doc-jellies", 1) and coverage > 0.9
    assert (router().route(keys(), "Where does the brown fox live?") or [None])[0] == ("doc-fox", 0)


def test_a_question_about_something_else_opens_none() -> None:
    assert router().route(keys(), "Who painted the Mona Lisa?") is None
    assert router().route(keys(), "What is the capital of Japan?") is None, "one shared word is not enough"
    assert router(evidence=0.0).route(keys(), "What is the capital of Japan?") is not None
    assert router(threshold=1.0).route(keys(), "Where does the purple fox live?") is None
    assert router().route({}, "Where does the brown fox live?") is None


def test_a_follow_up_is_read_with_the_turn_before() -> None:
    history = [{"role": "user", "content": "Where does the brown fox live?"}, {"role": "assistant", "content": "Lund"}]
    assert router().route(keys(), "And since when?") is None
    assert router().route(keys(), "And since when?", history) is not None  # type: ignore[arg-type]


def test_a_question_that_names_a_rare_title_needs_no_other_evidence() -> None:
    rarity = Rarity.of(BACKGROUND * 40)
    strict = Router(rarity, 0.25, 6.0)
    titles = {"doc-fox": "Fox", "doc-jellies": "Comb jellies"}
    asked = "Who likes comb jellies?"
    two = Router(rarity, 0.25, 99.0)
    assert two.route(keys(), asked) is None
    assert two.route(keys(), asked, titles=titles)[0] == ("doc-jellies", 1)  # type: ignore[index]
    assert two.route(keys(), "Who likes jellies?", titles=titles) is None  # half of a title
    assert strict.route(keys(), "Who lives in Tokyo?", titles={"doc-fox": "Tokyo"}) is None  # the text has no such word
    common = {"doc-jellies": "Japan"}  # no rare word
    assert two.route(keys(), "What is eaten in Japan?", titles=common) is None


def test_sources_carry_title_and_coverage() -> None:
    documents = (DocumentRecord("doc-fox", "Fox", "text", "0", 1, ""),)
    state = State({}, StateMeta("ttt", {}, "", "", documents))
    [source] = routed_sources(state, [(("doc-fox", 3), 0.5)])
    assert (source.document_id, source.title, source.score) == ("doc-fox", "Fox", 0.5)


def test_one_batch_a_route_and_the_order_of_the_questions() -> None:
    batches: list[tuple[str | None, list[str]]] = []

    def answer(route: str | None, asked: list[str]) -> list[Answer]:
        batches.append((route, asked))
        return [Answer(q, f"{route}: {q}") for q in asked]

    answers = answer_by_route(["a", "b", "c"], ["x", None, "x"], answer)
    assert [a.text for a in answers] == ["x: a", "None: b", "x: c"]
    assert batches == [("x", ["a", "c"]), (None, ["b"])]


def test_the_keys_of_a_passage_are_made_into_a_set_once():
    meta = StateMeta("ttt", {}, "tiny", "0" * 64)
    first = State(key_tensors("doc-a", "Eels", ["Eels swim."]), meta)
    known = passage_keys(first)
    assert passage_keys(first) is known
    later = State({**first.tensors, **key_tensors("doc-b", "Larks", ["Larks sing."])}, meta)
    after = passage_keys(later)
    assert after["doc-a", 0] is known["doc-a", 0] and set(after) == {("doc-a", 0), ("doc-b", 0)}
