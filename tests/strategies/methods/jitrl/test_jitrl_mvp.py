"""JitRL without hidden states: what is found is read and quoted, and general questions are left alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from generations import watch_generations
from tiny_models import make_tiny

from continual_learning.documents import Document
from continual_learning.errors import ConfigError
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import Generation
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.gate import retention
from continual_learning.strategies.methods.jitrl_mvp import JitRLMVP
from continual_learning.types import UNAFFECTED, QuestionAnswer

JELLIES = Document(
    "Comb jellies swim with eight rows of cilia. Most of them eat plankton. Beroe eats other comb jellies instead.",
    "Ctenophora",
)
MILL = Document("The Harrow mill ground barley until 1887. Its millstones came from Lund by barge.", "The mill")
ORCHESTRA = Document("The Lund orchestra hired a bassoonist in 1902. Every rehearsal began with barley soup.", "Music")
ABOUT = "What did the Harrow mill grind until 1887?"
ELSEWHERE = "Who painted the Mona Lisa?"
QUICK: dict[str, Any] = {"shots": 0, "instruction": "Read.", "min_evidence": 6.0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny model with room for worked examples."""
    folder = make_tiny("llama", tmp_path_factory.mktemp("wide"), max_position_embeddings=1536)
    return BaseModel.load(str(folder), device="cpu")


def learned(base: BaseModel, *documents: Document, **options: Any) -> tuple[JitRLMVP, State]:
    strategy = make_strategy("jitrl_mvp", {**QUICK, **options})
    assert isinstance(strategy, JitRLMVP)
    state = strategy.init(base)
    for document in documents or (JELLIES, MILL, ORCHESTRA):
        state, report = strategy.learn(base, state, document)
        assert report.accepted
    return strategy, state


def answer(base: BaseModel, question: str = ABOUT, **options: Any) -> str:
    strategy, state = learned(base, **options)
    return strategy.answer(base, state, [question], 12)[0].text


def test_a_large_share_quotes_the_sentence_from_an_informative_word_on(base: BaseModel) -> None:
    assert answer(base, share=0.999) in "The Harrow mill ground barley until 1887."
    assert answer(base, share=0.999).startswith(("ground", "barley"))


def test_without_a_share_the_model_answers_from_the_prompt_alone(base: BaseModel) -> None:
    strategy, state = learned(base, share=0.0)
    assert "barley until" not in strategy.answer(base, state, [ABOUT], 12)[0].text
    assert strategy.answer(base, state, [ABOUT], 12)[0].text != answer(base, share=0.999)


def test_a_batch_gives_what_single_questions_give(base: BaseModel) -> None:
    strategy, state = learned(base)
    asked = [ABOUT, ELSEWHERE, "With how many rows of cilia do comb jellies swim?", "What is the capital of France?"]
    together = strategy.answer(base, state, asked, 10)
    assert [a.text for a in together] == [strategy.answer(base, state, [q], 10)[0].text for q in asked]


def test_the_answer_names_document_chunk_and_sentence(base: BaseModel) -> None:
    strategy, state = learned(base)
    [found] = strategy.answer(base, state, [ABOUT], 4)
    best = found.sources[0]
    assert (best.document_id, best.title, best.chunk) == (MILL.id, "The mill", 0)
    assert best.quote == "The Harrow mill ground barley until 1887." and 0 < best.score <= 1
    [other] = strategy.answer(base, state, [ELSEWHERE], 4)
    assert other.sources == ()


def prompts_of(base: BaseModel, monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    strategy, state = learned(base, **options)
    calls = watch_generations(monkeypatch, Generation("an answer", 2, 0.1, (1, 2)))
    strategy.answer(base, state, [ABOUT], 8)
    return calls.pop().texts[0]


def test_what_is_read(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    one = prompts_of(base, monkeypatch, sentences=1)
    assert "The mill\nThe Harrow mill ground barley until 1887." in one and "barge" not in one


def test_nothing_relevant_is_answered_as_the_base_does(base: BaseModel) -> None:
    strategy, state = learned(base)
    frozen = make_strategy("frozen")
    expected = frozen.answer(base, frozen.init(base), [ELSEWHERE], 8)[0].text
    assert strategy.answer(base, state, [ELSEWHERE], 8)[0].text == expected
    assert not strategy.affects(base, state, ELSEWHERE) and strategy.affects(base, state, ABOUT)
    assert strategy.answer_key(base, state, ELSEWHERE) == UNAFFECTED
    assert strategy.context(base, state, ELSEWHERE) == "" and "barley" in strategy.context(base, state, ABOUT)
    kept = retention(base, strategy, state, [QuestionAnswer(ELSEWHERE, ("Leonardo",))], ["A text of its own."])
    assert kept.general_kept == 1.0 and kept.perplexity_change == 0.0


@pytest.mark.parametrize("gate", [{"min_coverage": 1.0}, {"min_evidence": 99.0}])
def test_the_gate_can_be_closed(base: BaseModel, gate: dict[str, float]) -> None:
    strategy, state = learned(base, **gate)
    assert not strategy.affects(base, state, ABOUT)


@pytest.mark.parametrize("retriever", ["tfidf", "dense"])
def test_other_retrievers_find_it_too(base: BaseModel, retriever: str) -> None:
    strategy, state = learned(base, retriever=retriever)
    assert strategy.affects(base, state, MILL.text)
    assert strategy.describe(base, state)["retriever"] == retriever


def test_what_changed_nothing_has_the_same_key(base: BaseModel) -> None:
    strategy, before = learned(base, MILL)
    after, _ = strategy.learn(base, before, JELLIES)
    key = strategy.answer_key(base, after, "With how many rows of cilia do comb jellies swim?")
    assert key not in (None, UNAFFECTED)
    assert key == strategy.answer_key(base, after, "With how many rows of cilia do comb jellies swim?")


def test_a_document_costs_that_document(base: BaseModel) -> None:
    """200 documents, each asked about when it has come: a matrix that is made again would take minutes."""
    strategy, state = learned(base, MILL)
    started = time.perf_counter()
    for number in range(200):
        text = f"Otter {number} crossed the copper bridge at lantern {number * 7}."
        state, _ = strategy.learn(base, state, Document(text, f"Otter {number}"))
        assert strategy.affects(base, state, f"Which bridge did Otter {number} cross at lantern {number * 7}?")
    assert time.perf_counter() - started < 10


def test_bad_options() -> None:
    with pytest.raises(ConfigError, match="share"):
        make_strategy("jitrl_mvp", {"share": 1.0})


@pytest.mark.parametrize(("chat", "style"), [(True, "chat"), (False, "completion")])
def test_a_quotation_begins_as_the_answer_of_the_base_does(chat: bool, style: str, tmp_path: Path) -> None:
    """After the colon of a completion, the first word comes with its space."""
    base = BaseModel.load(str(make_tiny("llama", tmp_path, chat=chat, max_position_embeddings=1536)), device="cpu")
    said = []
    for given in ({}, {"style": style}):
        strategy, state = learned(base, MILL, reader=None, share=0.9, **given)
        said.append([a.text for a in strategy.answer(base, state, [ABOUT], 8)])
    assert said[0] == said[1]
