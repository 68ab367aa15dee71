"""Metrics of a stream of documents: accuracy, transfer, forgetting, plasticity, stability, retention.

R is the matrix of scores, T + 1 rows of T columns: ``R[i][j]`` is the score on document j after learning documents
1 to i, and row 0 is the base. In the equations i and j run from 1 to T, as in the papers; columns of the Python
matrix run from 0. Scores lie between 0 and 1, and more is better.

Lopez-Paz and Ranzato 2017, arXiv 1706.08840, section 3 (ACC, BWT, FWT); Chaudhry et al. 2018, arXiv 1801.10112,
section 3 (forgetting). A metric that is undefined for a single document is None, and so is one that needs a score
that was not measured (None in the matrix).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TypedDict

from continual_learning.errors import InputError

Matrix = Sequence[Sequence[float | None]]


class RetentionPoint(TypedDict):
    """A point of `retention_curve`."""

    distance: int
    recall: float
    questions: int


def accuracy(matrix: Matrix) -> float | None:
    """ACC = mean over j of R[T][j]: the mean score on all documents once all were learned."""
    _documents(matrix)
    return _mean(list(matrix[-1]))


def backward_transfer(matrix: Matrix) -> float | None:
    """BWT = mean over j < T of R[T][j] - R[j][j]: what learning did to earlier documents. None if T = 1."""
    count = _documents(matrix)
    return _mean([_less(matrix[-1][j], matrix[j + 1][j]) for j in range(count - 1)])


def forward_transfer(matrix: Matrix) -> float | None:
    """FWT = mean over j >= 2 of R[j-1][j] - R[0][j]: what learning did to later documents. None if T = 1."""
    count = _documents(matrix)
    return _mean([_less(matrix[j][j], matrix[0][j]) for j in range(1, count)])


def forgetting(matrix: Matrix) -> float | None:
    """F = mean over j < T of max over j <= l < T of R[l][j], less R[T][j]. None if T = 1.

    Never less than -BWT: it is measured from the best score that a document had at any time since it was learned.
    """
    count = _documents(matrix)
    lost: list[float | None] = []
    for j in range(count - 1):
        since = [row[j] for row in matrix[j + 1 : -1]]
        known = [score for score in since if score is not None]
        lost.append(_less(max(known), matrix[-1][j]) if len(known) == len(since) else None)
    return _mean(lost)


def plasticity(matrix: Matrix) -> float | None:
    """Mean over j of R[j][j] - R[0][j]: what learning a document adds immediately to the score on it."""
    count = _documents(matrix)
    return _mean([_less(matrix[j + 1][j], matrix[0][j]) for j in range(count)])


def stability(kept: float | None) -> float | None:
    """Mean change of the score on what the base knew: 0 keeps all of it, -1 loses all. None if it knew none.

    ``kept`` is the share of the questions answered right before that are still right after; each is 0 or 1, so the mean
    is kept - 1. Its other half, the change of the perplexity of unrelated text, is measured in `strategies.gate`.
    """
    return None if kept is None else kept - 1.0


FORGETTING_TARGET = 0.15
"""The highest forgetting ratio that the documented product allows itself."""


def forgetting_ratio(before: float, after: float) -> float | None:
    """(before - after) / before of the score on a fixed holdout. None, not 0, if there was nothing to forget."""
    return (before - after) / before if before else None


def retention_curve(matrix: Matrix, counts: Sequence[int]) -> list[RetentionPoint]:
    """Recall against distance, the number of documents learned since: 0 is right after the document itself.

    recall(d) = sum over j of n[j] R[j+d][j] / sum over j of n[j], j from 1 to T - d, where n[j], ``counts``, is the
    number of questions about document j. ``questions`` is the denominator. Scores that were not measured, and
    distances without any score, are left out.
    """
    count = _documents(matrix)
    if len(counts) != count or min(counts) < 1:
        raise InputError(
            f"counts = {list(counts)}; expected {count} numbers of questions, one a document, each above 0"
        )
    curve: list[RetentionPoint] = []
    for distance in range(count):
        cells = [(counts[j], matrix[j + 1 + distance][j]) for j in range(count - distance)]
        known = [(number, score) for number, score in cells if score is not None]
        if questions := sum(number for number, _ in known):
            right = sum(number * score for number, score in known)
            curve.append({"distance": distance, "recall": right / questions, "questions": questions})
    return curve


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if there are no values or one of them is unknown."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _documents(matrix: Matrix) -> int:
    """T, the number of documents. Raises InputError for a matrix that is not T + 1 rows of T."""
    count = len(matrix) - 1
    lengths = sorted({len(row) for row in matrix})
    if count < 1 or lengths != [count]:
        raise InputError(
            f"a matrix of {len(matrix)} rows with lengths {lengths}; expected T + 1 rows of T, row 0 the base"
        )
    return count
