"""Time foretold from what was measured, or from a machine that is known."""

from __future__ import annotations

import pytest

from continual_learning.app.estimate import Estimate, Speed, duration, record_speeds, recorded_speeds
from continual_learning.io.paths import data_home
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import strategy_class


def test_measured_speed_goes_before_the_reference() -> None:
    estimate = Estimate(gflops=60.0, parameters=134_500_000)
    seconds = 100 * strategy_class("ttt").cost.learn_token
    assert estimate.learn("ttt", 100) == pytest.approx(seconds)
    assert Estimate(gflops=120.0, parameters=134_500_000).learn("ttt", 100) == pytest.approx(seconds / 2)
    assert estimate.learn("frozen", 100) == 0.0
    assert estimate.answer("in_context", 4) > estimate.answer("quote", 4) > estimate.answer("frozen", 4) > 0
    assert estimate.answer("quote", 1, tokens=10_000) == estimate.answer("quote", 1)
    assert estimate.answer("in_context", 1, tokens=10_000) > 2 * estimate.answer("in_context", 1)
    estimate.learned("ttt", 50, 100.0)
    estimate.answered("ttt", 10, 5.0)
    assert estimate.learn("ttt", 100) == pytest.approx(200)
    assert estimate.answer("ttt", 4) == pytest.approx(2)


def test_speeds_are_recorded_for_a_base_on_this_machine(tiny_base: BaseModel) -> None:
    assert recorded_speeds(tiny_base) == {}
    record_speeds(tiny_base, {"rag": Speed(2.0, 10, 3.0, 2)})
    here = Estimate.here(tiny_base)
    assert here.learn("rag", 5) == pytest.approx(1.0) and here.answer("rag", 2) == pytest.approx(3.0)
    other = BaseModel("other", tiny_base.model, tiny_base.tokenizer, fingerprint="another")
    assert recorded_speeds(other) == {}
    [file] = (data_home() / "speeds").iterdir()
    file.write_text("{")
    assert recorded_speeds(tiny_base) == {}, "a damaged file is measured anew"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (40, "40 s"), (89, "89 s"), (120, "2 min"), (3600, "60 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
