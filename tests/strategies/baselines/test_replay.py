"""Sequential training that learns earlier documents and ordinary text again."""

from __future__ import annotations

import random
from typing import Any

import pytest
from finetuned import FOX, OTTO, TEXT, learn, loss_of, make

from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.baselines import replay
from continual_learning.strategies.baselines.replay import Replay, ReplayConfig
from continual_learning.training.examples import text_item

pytestmark = pytest.mark.slow


def material(base: BaseModel, state: State | None = None, passes: int = 1, **options: Any) -> list[str]:
    """The texts of everything studied for Otto's document, in this many passes."""
    strategy = make("replay", signal="text", **options)
    assert isinstance(strategy, Replay)
    rng, state = random.Random(0), state or strategy.init(base)
    items = [i for _ in range(passes) for i in strategy.material(base, state, OTTO.text, OTTO.title, rng)]
    return [base.decode(item.ids) for item in items]


@pytest.fixture
def no_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier documents alone are replayed."""
    monkeypatch.setattr(replay, "_BACKGROUND_RATIO", 0.0)


@pytest.mark.usefixtures("no_background")
def test_earlier_documents_are_replayed_in_their_share(tiny_base: BaseModel) -> None:
    _, state, _ = learn("replay", tiny_base)
    fox, otto = f"Fox\n{TEXT}", f"Otto\n{OTTO.text}"
    assert material(tiny_base, replay_ratio=1.0) == [otto], "nothing earlier, nothing replayed"
    assert material(tiny_base, state, replay_ratio=1.0) == [otto, fox]
    assert material(tiny_base, state, replay_ratio=0.0) == [otto]
    often = material(tiny_base, state, 200, replay_ratio=0.25)
    assert often.count(otto) == 200 and 30 < often.count(fox) < 70


def test_background_texts_are_replayed_in_their_share(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "background_texts", lambda: ["The sun rose.", "The rain fell."])
    monkeypatch.setattr(replay, "_BACKGROUND_RATIO", 2.0)
    drawn = material(tiny_base, None, 50)
    assert len(drawn) == 150
    assert drawn.count("The sun rose.") + drawn.count("The rain fell.") == 100
    assert 20 < drawn.count("The sun rose.") < 80


@pytest.mark.usefixtures("no_background")
def test_a_replayed_document_is_cut_as_it_was_learned(tiny_base: BaseModel) -> None:
    _, state, _ = learn("replay", tiny_base)
    [_, fox] = material(tiny_base, state, replay_ratio=1.0, max_tokens=20)
    assert TEXT.startswith(fox.removeprefix("Fox\n")) and len(tiny_base.encode(fox)) < 30


@pytest.mark.usefixtures("no_background")
def test_replay_forgets_less(tiny_base: BaseModel) -> None:
    options = {"passes": 8, "learning_rate": 5e-3, "signal": "text"}

    def fox_after_otto(ratio: float) -> float:
        strategy, state, _ = learn("replay", tiny_base, FOX, OTTO, **options, replay_ratio=ratio)
        return loss_of(tiny_base, strategy, state, TEXT)

    assert fox_after_otto(2.0) < fox_after_otto(0.0)


def test_forgetting_is_exact(tiny_base: BaseModel) -> None:
    strategy, state, _ = learn("replay", tiny_base, OTTO, FOX)
    _, never, _ = learn("replay", tiny_base, FOX)
    forgotten = strategy.forget(tiny_base, state, OTTO.id)
    assert forgotten.digest() == never.digest() and forgotten.meta.extra == never.meta.extra


def test_background_items_are_plain_texts(tiny_base: BaseModel) -> None:
    strategy = make("replay", signal="text")
    assert isinstance(strategy, Replay)
    items = strategy.material(tiny_base, strategy.init(tiny_base), OTTO.text, "", random.Random(0))
    assert all(item == text_item(tiny_base, tiny_base.decode(item.ids)) for item in items)


def test_a_memory_that_stored_no_rate_has_the_default() -> None:
    assert ReplayConfig(learning_rate=None).learning_rate == make("lora").config.learning_rate  # type: ignore[arg-type]
