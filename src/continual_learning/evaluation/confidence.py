"""How far a stated confidence can be trusted, and how well questions without an answer are told from the others.

Reliability tables and the expected calibration error: Guo et al. 2017, arXiv 1706.04599, section 2. AUROC: the chance
that a case of the positive kind scores higher than one of the other kind, ties counting one half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import TypedDict

import numpy as np

from continual_learning.errors import InputError


class ReliabilityBin(TypedDict):
    """A row of a reliability table. ``low`` and ``high`` bound the confidences in it; the means are None if empty."""

    low: float
    high: float
    count: int
    confidence: float | None
    right: float | None


class Refusals(TypedDict):
    """How well questions are refused: both shares are None if there is no question of the kind."""

    balanced_accuracy: float | None
    unanswerable_refused: float | None
    answerable_answered: float | None


def reliability(confidences: Sequence[float], right: Sequence[bool], bins: int = 10) -> list[ReliabilityBin]:
    """Answers by their confidence, in bins of equal width; a confidence of 1 is in the last.

    Raises InputError for confidences outside of 0 to 1, and if there are not as many of them as of ``right``.
    """
    if len(confidences) != len(right):
        raise InputError(f"{len(confidences)} confidences of {len(right)} answers; expected one for each")
    if wrong := [c for c in confidences if not 0 <= c <= 1]:
        raise InputError(f"confidence = {wrong[0]}; expected a probability from 0 to 1")
    places = [min(int(confidence * bins), bins - 1) for confidence in confidences]
    table: list[ReliabilityBin] = []
    for number in range(bins):
        inside = [i for i, place in enumerate(places) if place == number]
        table.append(
            {
                "low": number / bins,
                "high": (number + 1) / bins,
                "count": len(inside),
                "confidence": fmean(confidences[i] for i in inside) if inside else None,
                "right": fmean(right[i] for i in inside) if inside else None,
            }
        )
    return table


def calibration_error(table: Sequence[ReliabilityBin]) -> float | None:
    """ECE = sum over bins of count / n · |mean confidence - share right|. None without answers."""
    total = sum(row["count"] for row in table)
    if not total:
        return None
    apart = (
        row["count"] * abs(row["confidence"] - row["right"])
        for row in table
        if row["confidence"] is not None and row["right"] is not None
    )
    return math.fsum(apart) / total


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """Area under the receiver operating characteristic; None unless both kinds occur."""
    if len(set(positive)) < 2:
        return None
    above = np.array([score for score, yes in zip(scores, positive, strict=True) if yes])
    below = np.sort([score for score, yes in zip(scores, positive, strict=True) if not yes])
    places = (np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")) / 2
    return float(places.mean() / len(below))


def refusals(refused: Sequence[bool], unanswerable: Sequence[bool]) -> Refusals:
    """The share of unanswerable questions refused, that of answerable ones answered, and the mean of the two."""
    pairs = list(zip(refused, unanswerable, strict=True))
    caught = [was for was, silent in pairs if silent]
    kept = [not was for was, silent in pairs if not silent]
    shares = (fmean(caught) if caught else None, fmean(kept) if kept else None)
    return {
        "balanced_accuracy": None if shares[0] is None or shares[1] is None else fmean((shares[0], shares[1])),
        "unanswerable_refused": shares[0],
        "answerable_answered": shares[1],
    }


def best_threshold(scores: Sequence[float], unanswerable: Sequence[bool]) -> float:
    """The threshold with the best balanced accuracy if what scores at least as high is refused; of ties, the lowest.

    Raises InputError unless both kinds of question occur.
    """
    if len(set(unanswerable)) < 2:
        raise InputError(f"{len(scores)} questions of one kind; expected some with an answer and some without")

    def accuracy(threshold: float) -> float:
        return refusals([score >= threshold for score in scores], unanswerable)["balanced_accuracy"] or 0.0

    ranked = sorted(set(scores))
    # Half way between neighbours, so that the next set of questions is not judged by a score of this one.
    places = [ranked[0], *((a + b) / 2 for a, b in pairwise(ranked)), ranked[-1] + 1.0]
    return max(places, key=lambda threshold: (accuracy(threshold), -threshold))
