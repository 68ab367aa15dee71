"""Seconds by part of the work."""

from __future__ import annotations

import time

import pytest

from continual_learning.training.stopwatch import Stopwatch


def test_it_adds_up_by_part_also_when_a_part_fails() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch("sleep"):
            time.sleep(0.02)
    with pytest.raises(ValueError), watch("failing"):
        raise ValueError
    assert set(watch.seconds) == {"sleep", "failing"}
    assert 0.04 <= watch.seconds["sleep"] < 1.0
