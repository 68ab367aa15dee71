"""Time foretold from what was measured, or from a machine that is known."""

from __future__ import annotations

import pytest

from continual_learning.app.estimate import Estimate, duration


def test_measured_speed_goes_before_the_reference() -> None:
    estimate = Estimate(gflops=60.0, parameters=134_500_000)
    assert estimate.learn("ttt", 100) == pytest.approx(8)
    assert Estimate(gflops=120.0, parameters=134_500_000).learn("ttt", 100) == pytest.approx(4)
    assert estimate.learn("frozen", 100) == 0.0
    assert estimate.answer("in_context", 4) > estimate.answer("frozen", 4) > estimate.answer("quote", 4) > 0
    estimate.learned("ttt", 50, 100.0)
    estimate.answered("ttt", 10, 5.0)
    assert estimate.learn("ttt", 100) == pytest.approx(200)
    assert estimate.answer("ttt", 4) == pytest.approx(2)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (40, "40 s"), (89, "89 s"), (120, "2 min"), (3600, "60 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
