"""Confidence and refusals, on made-up answers with values computed by hand."""

from __future__ import annotations

import math

import pytest

from continual_learning.errors import InputError
from continual_learning.evaluation.confidence import auroc, best_threshold, calibration_error, refusals, reliability


def test_reliability_and_its_error_by_hand() -> None:
    table = reliability([0.05, 0.15, 0.1, 0.85, 0.9, 1.0], [False, True, False, True, True, False])
    assert [row["count"] for row in table] == [1, 2, 0, 0, 0, 0, 0, 0, 1, 2]
    assert table[1] == {
        "low": 0.1,
        "high": 0.2,
        "count": 2,
        "confidence": pytest.approx(0.125),
        "right": pytest.approx(0.5),
    }
    assert table[2]["confidence"] is None and table[2]["right"] is None
    # (1 · |0.05 - 0| + 2 · |0.125 - 0.5| + 1 · |0.85 - 1| + 2 · |0.95 - 0.5|) / 6
    assert calibration_error(table) == pytest.approx((0.05 + 0.75 + 0.15 + 0.9) / 6)
    assert calibration_error(reliability([], [])) is None


@pytest.mark.parametrize(
    ("confidences", "says"), [([0.5, 1.2], r"confidence = 1\.2"), ([0.5], "1 confidences of 2 answers")]
)
def test_what_is_no_confidence_is_refused(confidences: list[float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        reliability(confidences, [True, False])


def test_auroc_by_hand() -> None:
    # of 2 · 3 pairs: 0.9 above all three; 0.4 above 0.1, equal to 0.4, below 0.6
    assert auroc([0.9, 0.4, 0.1, 0.4, 0.6], [True, True, False, False, False]) == pytest.approx((3 + 1 + 0.5) / 6)
    assert auroc([0.9, 0.4], [True, True]) is None


def test_refusals_by_hand() -> None:
    found = refusals([True, False, True, False, False], [True, True, False, False, False])
    assert found["unanswerable_refused"] == 0.5
    assert found["answerable_answered"] == pytest.approx(2 / 3)
    assert found["balanced_accuracy"] == pytest.approx(7 / 12)
    assert refusals([True], [True]) == {
        "balanced_accuracy": None,
        "unanswerable_refused": 1.0,
        "answerable_answered": None,
    }
    for every in (True, False):
        assert refusals([every] * 4, [True, False, False, False])["balanced_accuracy"] == 0.5


def test_the_best_threshold_lies_between_the_kinds() -> None:
    scores, silent = [1.0, 2.0, 3.0, 5.0, 6.0], [False, True, False, True, True]
    # From 4: both answerable ones are kept, and 2 of 3 unanswerable ones are refused: 5 in 6. From 1.5: 1 of 2, 3 of 3.
    assert best_threshold(scores, silent) == pytest.approx(4.0)
    assert best_threshold([1.0, 2.0], [True, False]) == 1.0, "refusing all is as good as refusing none"
    with pytest.raises(InputError, match="2 questions of one kind"):
        best_threshold([1.0, math.e], [True, True])
