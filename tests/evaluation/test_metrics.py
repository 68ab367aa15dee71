"""Metrics of a stream, by hand and by property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continual_learning.errors import InputError
from continual_learning.evaluation.metrics import (
    accuracy,
    backward_transfer,
    forgetting,
    forgetting_ratio,
    forward_transfer,
    plasticity,
    retention_curve,
    stability,
)

# Three documents. Row 0 is the base, row i after document i.
MATRIX = [
    [0.1, 0.0, 0.2],
    [0.8, 0.1, 0.2],
    [0.9, 0.6, 0.5],
    [0.5, 0.4, 0.7],
]


def test_by_hand() -> None:
    assert accuracy(MATRIX) == pytest.approx((0.5 + 0.4 + 0.7) / 3)
    assert backward_transfer(MATRIX) == pytest.approx(((0.5 - 0.8) + (0.4 - 0.6)) / 2)
    assert forward_transfer(MATRIX) == pytest.approx(((0.1 - 0.0) + (0.5 - 0.2)) / 2)
    # Document 1 was at its best after document 2.
    assert forgetting(MATRIX) == pytest.approx(((0.9 - 0.5) + (0.6 - 0.4)) / 2)
    assert plasticity(MATRIX) == pytest.approx(((0.8 - 0.1) + (0.6 - 0.0) + (0.7 - 0.2)) / 3)


def test_forgetting_does_not_count_the_base_or_the_end() -> None:
    assert forgetting([[1.0, 0.0], [0.25, 0.0], [0.5, 0.0]]) == pytest.approx(-0.25)


def test_retention_by_hand_is_weighted_by_questions() -> None:
    curve = retention_curve(MATRIX, [1, 3, 4])
    assert [(p["distance"], p["questions"]) for p in curve] == [(0, 8), (1, 4), (2, 1)]
    assert [p["recall"] for p in curve] == pytest.approx([(0.8 + 3 * 0.6 + 4 * 0.7) / 8, (0.9 + 3 * 0.4) / 4, 0.5])


def test_one_document_has_no_transfer_and_nothing_to_forget() -> None:
    one = [[0.25], [0.75]]
    assert (accuracy(one), plasticity(one)) == (0.75, 0.5)
    assert backward_transfer(one) is forward_transfer(one) is forgetting(one) is None
    assert retention_curve(one, [4]) == [{"distance": 0, "recall": 0.75, "questions": 4}]


def test_forgetting_ratio() -> None:
    assert forgetting_ratio(0.5, 0.4) == pytest.approx(0.2)
    assert forgetting_ratio(0.4, 0.5) == pytest.approx(-0.25)
    assert forgetting_ratio(0.0, 0.5) is None


def test_stability_is_the_change_on_what_the_base_knew() -> None:
    known = [1.0, 0.0, 1.0, 1.0]  # after learning, of the four questions that were right before
    assert stability(sum(known) / 4) == pytest.approx(sum(after - 1 for after in known) / 4) == -0.25
    assert stability(1.0) == 0.0
    assert stability(None) is None


@pytest.mark.parametrize("matrix", [[], [[]], [[0.1, 0.2]], [[0.1], [0.1], [0.1]], [[0.1, 0.2], [0.1], [0.1, 0.2]]])
def test_a_matrix_of_another_shape_is_refused(matrix: list[list[float]]) -> None:
    measures = [
        accuracy,
        backward_transfer,
        forward_transfer,
        forgetting,
        plasticity,
        lambda m: retention_curve(m, [1]),
    ]
    for measure in measures:
        with pytest.raises(InputError, match=r"expected T \+ 1 rows of T"):
            measure(matrix)


@pytest.mark.parametrize("counts", [[1, 2], [1, 0, 2], [1, 1, 1, 1]])
def test_counts_are_one_a_document_and_above_0(counts: list[int]) -> None:
    with pytest.raises(InputError, match="counts ="):
        retention_curve(MATRIX, counts)


def test_what_was_not_measured_is_not_made_up() -> None:
    ends = [[0.1, 0.2, 0.0], [0.5, None, None], [None, 0.6, None], [0.4, 0.6, 1.0]]
    assert accuracy(ends) == pytest.approx(2 / 3) and backward_transfer(ends) == pytest.approx(-0.05)
    assert plasticity(ends) == pytest.approx((0.4 + 0.4 + 1.0) / 3)
    assert forward_transfer(ends) is None and forgetting(ends) is None
    assert retention_curve(ends, [1, 1, 2]) == [
        {"distance": 0, "recall": pytest.approx((0.5 + 0.6 + 2.0) / 4), "questions": 4},
        {"distance": 1, "recall": pytest.approx(0.6), "questions": 1},
        {"distance": 2, "recall": pytest.approx(0.4), "questions": 1},
    ]
    assert accuracy([[0.0], [None]]) is None


SCORES = st.floats(0, 1)
SIZES = st.integers(2, 6)


@st.composite
def matrices(draw: st.DrawFn) -> list[list[float]]:
    count = draw(SIZES)
    row = st.lists(SCORES, min_size=count, max_size=count)
    return draw(st.lists(row, min_size=count + 1, max_size=count + 1))


@given(SIZES)
def test_a_perfect_learner(count: int) -> None:
    matrix = [[float(j < i) for j in range(count)] for i in range(count + 1)]
    assert accuracy(matrix) == plasticity(matrix) == 1.0
    assert backward_transfer(matrix) == forward_transfer(matrix) == forgetting(matrix) == 0.0
    assert [p["recall"] for p in retention_curve(matrix, [2] * count)] == [1.0] * count


@given(SIZES)
def test_a_learner_that_forgets_all_but_the_last(count: int) -> None:
    matrix = [[float(j == i - 1) for j in range(count)] for i in range(count + 1)]
    assert accuracy(matrix) == pytest.approx(1 / count)
    assert (plasticity(matrix), backward_transfer(matrix), forgetting(matrix)) == (1.0, -1.0, 1.0)
    assert forward_transfer(matrix) == 0.0
    assert [p["recall"] for p in retention_curve(matrix, [2] * count)] == [1.0] + [0.0] * (count - 1)


@given(st.lists(st.tuples(SCORES, SCORES, st.integers(1, 9)), min_size=2, max_size=6), st.randoms())
def test_where_documents_do_not_touch_their_order_does_not_matter(
    documents: list[tuple[float, float, int]], random: object
) -> None:
    """Each document has a score before and after it is learned, whatever the others do."""

    def measured(order: list[tuple[float, float, int]]) -> list[float | None]:
        matrix = [[new if j < i else old for j, (old, new, _) in enumerate(order)] for i in range(len(order) + 1)]
        curve = retention_curve(matrix, [n for _, _, n in order])
        return [
            accuracy(matrix),
            plasticity(matrix),
            backward_transfer(matrix),
            forward_transfer(matrix),
            forgetting(matrix),
            curve[0]["recall"],
        ]

    shuffled = list(documents)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert measured(shuffled) == pytest.approx(measured(documents))
    assert measured(documents)[2:5] == [0.0, 0.0, 0.0]


@given(matrices())
def test_forgetting_counts_from_the_best(matrix: list[list[float]]) -> None:
    backward, lost = backward_transfer(matrix), forgetting(matrix)
    assert backward is not None and lost is not None
    assert lost >= -backward - 1e-12


@given(matrices(), st.integers(1, 9))
def test_with_equal_counts_retention_at_0_is_the_mean_of_the_diagonal(
    matrix: list[list[float]], questions: int
) -> None:
    count = len(matrix) - 1
    curve = retention_curve(matrix, [questions] * count)
    assert curve[0]["recall"] == pytest.approx(plasticity(matrix) + accuracy([*matrix[1:], matrix[0]]))
    assert curve[-1]["recall"] == pytest.approx(matrix[-1][0])
    assert sum(p["questions"] for p in curve) == questions * count * (count + 1) // 2
