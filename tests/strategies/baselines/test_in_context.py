"""The documents in the prompt: which, in what words, and what of them is dropped first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from generations import watch_generations
from tiny_models import make_tiny

from continual_learning.documents import Document
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import Generation
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.baselines.in_context import InContext

DOG = Document("My dog is called Biko.", "The dog")
CAT = Document("The cat is called Otto.")
QUESTION = "What is the dog called?"

Ask = Callable[..., str]


def learned(base: BaseModel, *documents: Document, **options: Any) -> tuple[InContext, State]:
    strategy = make_strategy("in_context", {"shots": 0, "instruction": "Read.", **options})
    assert isinstance(strategy, InContext)
    state = strategy.init(base)
    for document in documents:
        state, report = strategy.learn(base, state, document)
        assert report.accepted and report.bytes == len(document.text)
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

    def asked(*documents: Document, **options: Any) -> str:
        strategy, state = learned(base, *documents, **options)
        [answer] = strategy.answer(base, state, [QUESTION], 8)
        assert answer.text == "an answer"
        return calls.pop().texts[0]

    return asked


def test_the_documents_stand_before_the_question_the_newest_last(ask: Ask) -> None:
    prompt = ask(DOG, CAT)
    places = [prompt.index(words) for words in ("Read.", "The dog\nMy dog", "The cat", QUESTION)]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("knob", "value"), [("style", "completion"), ("shots", 1), ("instruction", "Look it up."), ("system", True)]
)
def test_every_knob_changes_the_prompt(ask: Ask, knob: str, value: Any) -> None:
    usual = {"style": "chat", "system": False}
    assert ask(CAT, **usual) != ask(CAT, **{**usual, knob: value})


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_the_newest_documents_are_kept_when_not_all_fit(ask: Ask, style: str) -> None:
    prompt = ask(Document("The fox. " * 999), DOG, Document("One two. " * 20), style=style)
    assert prompt.count("One two.") == 20 and "Biko" in prompt and 20 < prompt.count("The fox.") < 400


def test_a_memory_without_documents_is_the_base(base: BaseModel) -> None:
    strategy, state = learned(base)
    frozen = make_strategy("frozen")
    [expected] = frozen.answer(base, frozen.init(base), [QUESTION], 6)
    [found] = strategy.answer(base, state, [QUESTION], 6)
    assert (found.text, found.sources) == (expected.text, ())


def test_every_document_is_a_source(base: BaseModel) -> None:
    strategy, state = learned(base, DOG, CAT)
    [answer] = strategy.answer(base, state, [QUESTION], 4)
    assert [(s.document_id, s.title) for s in answer.sources] == [(DOG.id, "The dog"), (CAT.id, "")]


def test_the_context_of_any_text_is_every_document(base: BaseModel) -> None:
    strategy, state = learned(base, DOG, CAT)
    assert strategy.context(base, state, "any") == "The dog\nMy dog is called Biko.\n\nThe cat is called Otto."
    assert strategy.context(base, strategy.forget(base, state, DOG.id), "any") == "The cat is called Otto."
