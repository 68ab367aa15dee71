"""Confidence intervals over documents."""

from __future__ import annotations

import numpy as np
import pytest

from continual_learning.errors import InputError
from continual_learning.evaluation.bootstrap import clustered_interval, paired_interval

pytestmark = pytest.mark.slow


def answers(random: np.random.Generator, documents: int, spread: float) -> list[list[float]]:
    """Right and wrong answers: each document has its own chance, 0.4 plus or minus ``spread``."""
    chances = 0.4 + spread * random.choice([-1.0, 1.0], documents)
    return [list((random.random(random.integers(2, 9)) < chance).astype(float)) for chance in chances]


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = {0.95: 0, 0.5: 0}
    trials = 400
    for trial in range(trials):
        values = answers(random, 40, 0.3)
        for confidence in held:
            low, high = clustered_interval(values, confidence, resamples=400, seed=trial) or (1.0, 0.0)
            held[confidence] += low <= 0.4 <= high
    assert 0.90 <= held[0.95] / trials <= 0.985
    assert 0.42 <= held[0.5] / trials <= 0.58


def test_ignoring_the_documents_would_be_too_sure() -> None:
    random = np.random.default_rng(1)
    values = [[float(random.random() < 0.5)] * 6 for _ in range(30)]  # a document is all right or all wrong
    alone = [[value] for document in values for value in document]
    clustered, naive = clustered_interval(values), clustered_interval(alone)
    assert clustered and naive
    # Six answers that agree are one: the interval is wider by the square root of 6.
    assert (clustered[1] - clustered[0]) / (naive[1] - naive[0]) == pytest.approx(6**0.5, rel=0.15)


def test_questions_count_the_same_whatever_their_document() -> None:
    values = [[1.0] * 90, [0.0] * 10, [1.0] * 90, [0.0] * 10]
    low, high = clustered_interval(values, confidence=0.02) or (0.0, 0.0)
    assert low <= 0.9 <= high  # not 0.5, the mean of the documents


def test_documents_that_agree_leave_no_doubt() -> None:
    assert clustered_interval([[0.5, 0.5], [0.5], [0.5] * 5]) == (0.5, 0.5)


def test_the_seed_decides() -> None:
    values = answers(np.random.default_rng(2), 12, 0.2)
    assert clustered_interval(values, seed=1) == clustered_interval(values, seed=1)
    assert clustered_interval(values, seed=1, resamples=50) != clustered_interval(values, seed=2, resamples=50)


def test_more_confidence_is_a_wider_interval_inside_the_values() -> None:
    values = answers(np.random.default_rng(3), 12, 0.2)
    wide, narrow = clustered_interval(values, 0.99), clustered_interval(values, 0.5)
    assert wide and narrow
    assert 0.0 <= wide[0] < narrow[0] < narrow[1] < wide[1] <= 1.0


@pytest.mark.parametrize("values", [[], [[1.0, 0.0]], [[1.0], [], []]])
def test_fewer_than_two_documents_have_no_interval(values: list[list[float]]) -> None:
    assert clustered_interval(values) is None


def test_documents_without_questions_take_no_part() -> None:
    values = answers(np.random.default_rng(4), 6, 0.2)
    assert clustered_interval([[], *values, []]) == clustered_interval(values)


def test_a_paired_interval_sees_what_two_intervals_do_not() -> None:
    random = np.random.default_rng(5)
    easy = [list(random.random(5) + 3 * random.random()) for _ in range(25)]
    better = [[value + 0.1 + 0.02 * random.standard_normal() for value in document] for document in easy]
    first, second, paired = clustered_interval(better), clustered_interval(easy), paired_interval(better, easy)
    assert first and second and paired
    assert first[0] < second[1]  # side by side they overlap
    assert 0.08 < paired[0] < 0.1 < paired[1] < 0.12
    turned = paired_interval(easy, better)
    assert turned == pytest.approx((-paired[1], -paired[0]))


def test_pairs_must_match() -> None:
    with pytest.raises(InputError, match="2 documents with 3 values against 2 documents with 2 values"):
        paired_interval([[1.0, 0.0], [1.0]], [[1.0], [1.0]])
    with pytest.raises(InputError, match="expected the same questions"):
        paired_interval([[1.0]], [[1.0], [0.0]])


@pytest.mark.parametrize("arguments", [{"confidence": 0.0}, {"confidence": 1.0}, {"confidence": 95}, {"resamples": 0}])
def test_arguments_out_of_range_are_refused(arguments: dict) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        clustered_interval([[1.0], [0.0]], **arguments)
