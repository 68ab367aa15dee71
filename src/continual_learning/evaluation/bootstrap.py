"""Confidence intervals of means, from resampling documents, because questions about one document are correlated.

The percentile bootstrap over clusters (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13;
Cameron, Gelbach and Miller 2008, Review of Economics and Statistics 90(3), section III.A): documents are drawn with
replacement, each with all of its questions, and the mean over the questions is computed anew. With fewer than about
ten documents such an interval is too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from continual_learning.errors import InputError


def clustered_interval(
    values_by_document: Sequence[Sequence[float]], confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Interval of the mean over all values, drawing a document's values together. None for fewer than two documents.

    The estimate is a ratio of sums, sum of values / number of values over the documents drawn, so that every question
    counts the same, whatever its document. Documents without values are ignored. Values of several seeds or orders
    belong in the list of their document. The same seed gives the same interval.
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence = {confidence} is not valid; expected a share above 0 and below 1, such as 0.95")
    if resamples < 1:
        raise InputError(f"resamples = {resamples} is not valid; expected at least 1, better 2000")
    clusters = [values for values in values_by_document if len(values)]
    if len(clusters) < 2:
        return None
    sums = np.array([sum(values) for values in clusters], dtype=float)
    sizes = np.array([len(values) for values in clusters], dtype=float)
    # Row r: how often each document was drawn in resample r.
    drawn = np.random.default_rng(seed).multinomial(len(clusters), np.full(len(clusters), 1 / len(clusters)), resamples)
    means = (drawn @ sums) / (drawn @ sizes)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def paired_interval(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Interval of the mean of first - second, both for the same questions about the same documents in the same order.

    What makes a question hard for both cancels out, so this is narrower than comparing two separate intervals. Two
    strategies differ if it does not contain 0. Raises InputError if the two do not match.
    """
    sizes = [[len(values) for values in side] for side in (first, second)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"values by document: {_shown(sizes[0])} against {_shown(sizes[1])}; expected the same questions"
        )
    differences = [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(first, second, strict=True)]
    return clustered_interval(differences, confidence, resamples, seed)


def _shown(sizes: list[int]) -> str:
    return f"{len(sizes)} documents with {sum(sizes)} values"
