"""Retrieval: what is found stands in the prompt, and where nothing is found nothing does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from generations import watch_generations
from tiny_models import make_tiny

from continual_learning.documents import Document
from continual_learning.errors import ConfigError
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import Generation
from continual_learning.retrieval import BM25Index
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.baselines.rag import RAG
from continual_learning.types import UNAFFECTED

JELLIES = Document(
    "Comb jellies swim with eight rows of cilia. Most of them eat plankton. Beroe eats other comb jellies instead.",
    "Ctenophora",
)
MILL = Document("The Harrow mill ground barley until 1887. Its millstones came from Lund by barge.", "The mill")
ORCHESTRA = Document("The Lund orchestra hired a bassoonist in 1902. Every rehearsal began with barley soup.", "Music")
DOCUMENTS = (JELLIES, MILL, ORCHESTRA)
ABOUT = "What do comb jellies eat?"
ELSEWHERE = "Who painted the Mona Lisa?"

Ask = Callable[..., str]
QUICK: dict[str, Any] = {"shots": 0, "instruction": "Read."}


def rag(**options: Any) -> RAG:
    strategy = make_strategy("rag", {**QUICK, **options})
    assert isinstance(strategy, RAG)
    return strategy


def learned(base: BaseModel, *documents: Document, **options: Any) -> tuple[RAG, State]:
    strategy = rag(**options)
    state = strategy.init(base)
    for document in documents or DOCUMENTS:
        state, report = strategy.learn(base, state, document)
        assert report.accepted
    return strategy, state


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny model with room for worked examples: a window of 1,536 tokens."""
    folder = make_tiny("llama", tmp_path_factory.mktemp("wide"), max_position_embeddings=1536)
    return BaseModel.load(str(folder), device="cpu")


@pytest.fixture
def ask(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Ask and return the prompt that the model was given."""
    calls = watch_generations(monkeypatch, Generation("an answer", 2, 0.1, (1, 2)))

    def asked(question: str, history: Any = (), **options: Any) -> str:
        strategy, state = learned(base, **options)
        strategy.answer(base, state, [question], 8, history=history)
        return calls.pop().texts[0]

    return asked


def test_the_passages_of_the_question_are_read_and_no_others(ask: Ask) -> None:
    prompt = ask(ABOUT)
    assert "Ctenophora\nComb jellies swim" in prompt and ABOUT in prompt
    assert "barley" not in prompt and "Harrow" not in prompt


def test_the_best_passage_is_next_to_the_question(ask: Ask) -> None:
    prompt = ask("In which year did the Lund orchestra hire a bassoonist?", min_score=0.0, top_k=3)
    assert prompt.index("millstones came from Lund") < prompt.index("hired a bassoonist")


@pytest.mark.parametrize(("knob", "value"), [("style", "completion"), ("shots", 1), ("instruction", "Look it up.")])
def test_every_knob_of_reading_changes_the_prompt(ask: Ask, knob: str, value: Any) -> None:
    usual = {"style": "chat", "top_k": 1, "chunk_tokens": 40, "overlap_tokens": 0}
    assert ask(ABOUT, **usual) != ask(ABOUT, **{**usual, knob: value})


def test_top_k_is_the_most_passages_in_the_prompt(base: BaseModel) -> None:
    question = "Did barley from Lund reach the mill or the orchestra?"
    for k, titles in ((1, 1), (2, 2), (3, 2)):
        strategy, state = learned(base, top_k=k, min_score=0.0)
        assert len(strategy.answer(base, state, [question], 1)[0].sources) == titles


def test_chunks_and_their_overlap_are_as_long_as_set(base: BaseModel) -> None:
    def chunks(**options: Any) -> list[str]:
        _, state = learned(base, JELLIES, **options)
        found: list[str] = state.meta.extra["chunks"][JELLIES.id]
        return found

    first, second, third = JELLIES.text.replace(". ", ".|").split("|")
    longest = max(len(base.encode(sentence)) for sentence in (first, second, third))
    assert chunks(chunk_tokens=500) == [JELLIES.text]
    assert chunks(chunk_tokens=longest, overlap_tokens=0) == [first, second, third]
    two = max(len(base.encode(f"{first} {second}")), len(base.encode(f"{second} {third}")))
    assert chunks(chunk_tokens=two, overlap_tokens=longest) == [f"{first} {second}", f"{second} {third}"]


def test_below_min_score_nothing_is_read(base: BaseModel, ask: Ask) -> None:
    assert "The mill" in ask("Was barley ground at Harrow?", min_score=0.5)
    assert "The mill" not in ask("Was barley ground at Harrow?", min_score=1.0)
    for least, affected in ((0.0, True), (0.5, False)):  # one shared word
        strategy, state = learned(base, min_score=least)
        assert strategy.affects(base, state, "Which city has barley markets and a cathedral?") == affected


def test_a_question_about_something_else_is_the_base_alone(base: BaseModel) -> None:
    strategy, state = learned(base)
    frozen = make_strategy("frozen")
    questions = [ELSEWHERE, "What is the capital of France?"]
    expected = frozen.answer(base, frozen.init(base), questions, 6)
    found = strategy.answer(base, state, questions, 6)
    assert [(a.text, a.sources, a.notes) for a in found] == [(a.text, (), ()) for a in expected]
    assert not strategy.affects(base, state, ELSEWHERE) and strategy.affects(base, state, ABOUT)


def test_answers_keep_their_order_where_only_some_are_read(base: BaseModel) -> None:
    strategy, state = learned(base)
    answers = strategy.answer(
        base, state, [ELSEWHERE, ABOUT, "Where did the Harrow millstones come from?", ELSEWHERE], 3
    )
    assert [bool(a.sources) for a in answers] == [False, True, True, False]
    assert answers[2].sources[0].title == "The mill"


def test_answers_carry_their_sources(base: BaseModel) -> None:
    strategy, state = learned(base)
    [answer] = strategy.answer(base, state, [ABOUT], 3)
    source = answer.sources[0]
    assert (source.document_id, source.title) == (JELLIES.id, "Ctenophora")
    assert strategy.config.min_score <= source.score < 1
    assert len(source.quote) > 20 and JELLIES.text.startswith(source.quote)


def test_a_follow_up_is_looked_up_with_the_question_before_it(ask: Ask) -> None:
    talk = [{"role": "user", "content": ABOUT}, {"role": "assistant", "content": "Plankton."}]
    follow_up = "And Beroe?"
    assert "Ctenophora" not in ask(follow_up)
    prompt = ask(follow_up, history=talk)
    assert "Ctenophora" in prompt and prompt.rindex(follow_up) > prompt.index("Plankton.")


def test_the_context_of_a_text_is_what_is_found_for_it(base: BaseModel) -> None:
    strategy, state = learned(base, top_k=1)
    assert strategy.context(base, state, JELLIES.text).startswith("Ctenophora\nComb jellies")
    assert strategy.context(base, state, "Numbers 0 1 2 3 4 and words such as naïve.") == ""


def test_the_answer_key_is_what_the_answer_is_read_from(base: BaseModel) -> None:
    strategy, state = learned(base, JELLIES)
    more, _ = strategy.learn(base, state, MILL)
    key = strategy.answer_key(base, state, ABOUT)
    assert key == strategy.answer_key(base, more, ABOUT) != UNAFFECTED
    assert strategy.answer_key(base, state, ELSEWHERE) == UNAFFECTED
    hash(key)


def test_the_index_is_made_once_and_extended(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[str] = []
    add = BM25Index.add

    def counting(self: BM25Index, key: Any, text: str) -> None:
        added.append(key[0])
        add(self, key, text)

    monkeypatch.setattr(BM25Index, "add", counting)
    strategy, state = learned(base, JELLIES, MILL, chunk_tokens=500)
    for _ in range(3):
        strategy.affects(base, state, ABOUT)
    more, _ = strategy.learn(base, state, ORCHESTRA)
    strategy.affects(base, more, ABOUT)
    assert added == [JELLIES.id, MILL.id, ORCHESTRA.id]


def test_states_do_not_leak_into_each_other(base: BaseModel) -> None:
    strategy, first = learned(base, MILL)
    second, _ = strategy.learn(base, first, JELLIES)
    assert strategy.affects(base, second, ABOUT)
    assert not strategy.affects(base, first, ABOUT), "an earlier version has not learned it"
    assert strategy.affects(base, second, ABOUT)
    assert not strategy.affects(base, strategy.forget(base, second, JELLIES.id), ABOUT)
    assert not strategy.affects(base, strategy.init(base), ABOUT)


def test_an_overlap_as_long_as_a_chunk_is_an_error() -> None:
    with pytest.raises(ConfigError, match="overlap_tokens 160 must be below chunk_tokens 160"):
        rag(chunk_tokens=160, overlap_tokens=160)


def test_describe_counts_the_chunks(base: BaseModel) -> None:
    strategy, state = learned(base, chunk_tokens=500)
    assert strategy.describe(base, state) == {"chunks": 3}


def test_a_text_without_words_is_learned_with_a_warning(base: BaseModel) -> None:
    def warnings(text: str, title: str = "") -> tuple[str, ...]:
        strategy = rag()
        return strategy.learn(base, strategy.init(base), Document(text, title))[1].warnings

    assert warnings("??? ... 🙂") == ("no question can find this text: it has no words that say what it is about",)
    assert warnings("??? ... 🙂", "Faces") == warnings("灯塔") == warnings("The\nmill") == ()
