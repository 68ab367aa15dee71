"""Sequential training that learns earlier documents and ordinary text again."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from finetuned import FOX, OTTO, TEXT, learn, loss_of, make

from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.baselines.replay import Replay, ReplayConfig
from continual_learning.training.examples import text_item


def material(base: BaseModel, state: State | None = None, passes: int = 1, **options: Any) -> list[str]:
    """The texts of everything studied for Otto's document, in this many passes."""
    strategy = make("replay", signal="text", **options)
    assert isinstance(strategy, Replay)
    rng, state = random.Random(0), state or strategy.init(base)
    items = [i for _ in range(passes) for i in strategy.material(base, state, OTTO.text, OTTO.title, rng)]
    return [base.decode(item.ids) for item in items]


def test_earlier_documents_are_replayed_in_their_share(tiny_base: BaseModel) -> None:
    _, state, _ = learn("replay", tiny_base)
    fox, otto = f"Fox\n{TEXT}", f"Otto\n{OTTO.text}"
    assert material(tiny_base, replay_ratio=1.0, background_ratio=0.0) == [otto], "nothing earlier, nothing replayed"
    assert material(tiny_base, state, replay_ratio=1.0, background_ratio=0.0) == [otto, fox]
    assert material(tiny_base, state, replay_ratio=0.0, background_ratio=0.0) == [otto]
    often = material(tiny_base, state, 200, replay_ratio=0.25, background_ratio=0.0)
    assert often.count(otto) == 200 and 30 < often.count(fox) < 70


def test_background_texts_are_replayed_in_their_share(tiny_base: BaseModel, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("The sun rose.\n\nThe rain fell.", encoding="utf-8")
    drawn = material(tiny_base, None, 50, background=own, background_ratio=2.0)
    assert len(drawn) == 150
    assert drawn.count("The sun rose.") + drawn.count("The rain fell.") == 100
    assert 20 < drawn.count("The sun rose.") < 80


def test_a_replayed_document_is_cut_as_it_was_learned(tiny_base: BaseModel) -> None:
    _, state, _ = learn("replay", tiny_base)
    [_, fox] = material(tiny_base, state, replay_ratio=1.0, background_ratio=0.0, max_tokens=20)
    assert TEXT.startswith(fox.removeprefix("Fox\n")) and len(tiny_base.encode(fox)) < 30


def test_the_background_changes_what_is_learned(tiny_base: BaseModel, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("The sun rose.\n\nThe rain fell.", encoding="utf-8")
    _, default, _ = learn("replay", tiny_base, background_ratio=1.0)
    _, changed, _ = learn("replay", tiny_base, background_ratio=1.0, background=own)
    assert changed.digest() != default.digest()


def test_the_rate_is_that_of_what_is_trained() -> None:
    lora, full = ReplayConfig(), ReplayConfig(parameters="full")
    assert lora.schedule.learning_rate == make("lora").config.learning_rate
    assert full.schedule.learning_rate == make("full_finetune").config.learning_rate
    assert ReplayConfig(learning_rate=0.5).schedule.learning_rate == 0.5


def test_all_weights_are_kept_as_full_finetuning_keeps_them(tiny_base: BaseModel) -> None:
    strategy, state, _ = learn("replay", tiny_base, parameters="full")
    assert state.bytes == 2 * strategy.describe(tiny_base, state)["parameters"]


@pytest.mark.parametrize("parameters", ["lora", "full"])
def test_replay_forgets_less(parameters: str, tiny_base: BaseModel) -> None:
    options = {"parameters": parameters, "passes": 8, "learning_rate": 5e-3, "signal": "text", "background_ratio": 0.0}

    def fox_after_otto(ratio: float) -> float:
        strategy, state, _ = learn("replay", tiny_base, FOX, OTTO, **options, replay_ratio=ratio)
        return loss_of(tiny_base, strategy, state, TEXT)

    assert fox_after_otto(2.0) < fox_after_otto(0.0)


@pytest.mark.parametrize("parameters", ["lora", "full"])
def test_forgetting_is_exact(parameters: str, tiny_base: BaseModel) -> None:
    strategy, state, _ = learn("replay", tiny_base, OTTO, FOX, parameters=parameters)
    _, never, _ = learn("replay", tiny_base, FOX, parameters=parameters)
    forgotten = strategy.forget(tiny_base, state, OTTO.id)
    assert forgotten.digest() == never.digest() and forgotten.meta.extra == never.meta.extra


def test_background_items_are_plain_texts(tiny_base: BaseModel) -> None:
    strategy = make("replay", background_ratio=1.0, signal="text")
    assert isinstance(strategy, Replay)
    items = strategy.material(tiny_base, strategy.init(tiny_base), OTTO.text, "", random.Random(0))
    assert all(item == text_item(tiny_base, tiny_base.decode(item.ids)) for item in items)
