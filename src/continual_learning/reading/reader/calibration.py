"""From what a reader writes to how often it is right: logistic regressions on a few numbers about its search.

Shapes: N = questions, S = signals.

Platt 1999; for neural networks Guo et al. 2017 (arXiv 1706.04599), section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_LEAST = 1e-6
_NEWTON_STEPS, _RIDGE = 30, 0.1


def signals(probabilities: Sequence[float], unknown: float) -> tuple[float, ...]:
    """The numbers that the regressions see. ``probabilities``: of the spans, best first."""
    best = probabilities[0] if probabilities else 0.0
    second = probabilities[1] if len(probabilities) > 1 else 0.0
    return (1.0, _logit(best), math.log(max(best, _LEAST) / max(second, _LEAST * 10)), _logit(unknown))


@dataclass(frozen=True)
class Calibration:
    """Weights of the regressions, one for each of `signals`."""

    right: tuple[float, ...] = (0.0, 1.0, 0.0, 0.0)
    """Whether the best span is a right answer."""
    unknown: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0)
    """Whether the text does not say."""

    def of(self, seen: Sequence[float]) -> tuple[float, float]:
        """Probability that the text does not say, and that the best span is right, by `signals`."""
        return _sigmoid(self.unknown, seen), _sigmoid(self.right, seen)


class Observed(NamedTuple):
    """A question that a reader was asked."""

    seen: tuple[float, ...]
    """Its `signals`."""
    right: bool
    """Whether the best span was a right answer."""
    unknown: bool
    """Whether the text does not say."""


def fitted(observed: Sequence[Observed]) -> Calibration:
    """The regressions that fit what was observed.

    ``right`` is fitted on questions that the text answers; in ``unknown`` both kinds weigh the same, so that one half
    is the threshold between them. A regression with one outcome alone keeps its default.
    """

    def regression(
        rows: Sequence[tuple[tuple[float, ...], bool]], default: tuple[float, ...], even: bool
    ) -> tuple[float, ...]:
        outcomes_N = torch.tensor([float(outcome) for _, outcome in rows], dtype=torch.float64)
        share = float(outcomes_N.mean()) if rows else 0.0
        if share in (0.0, 1.0):
            return default
        weight_N = torch.where(outcomes_N == 1, 0.5 / share, 0.5 / (1 - share)) if even else torch.ones(len(rows))
        return _logistic(torch.tensor([seen for seen, _ in rows], dtype=torch.float64), outcomes_N, weight_N)

    start = Calibration()
    return Calibration(
        regression([(one.seen, one.right) for one in observed if not one.unknown], start.right, even=False),
        regression([(one.seen, one.unknown) for one in observed], start.unknown, even=True),
    )


def _logistic(seen_NS: Tensor, outcome_N: Tensor, weight_N: Tensor) -> tuple[float, ...]:
    """Weights of a logistic regression by Newton's method, with a slight ridge."""
    found_S = torch.zeros(seen_NS.shape[1], dtype=seen_NS.dtype)
    ridge_SS = _RIDGE * torch.eye(len(found_S), dtype=seen_NS.dtype)
    for _ in range(_NEWTON_STEPS):
        chance_N = torch.sigmoid(seen_NS @ found_S)
        slope_S = seen_NS.T @ (weight_N * (chance_N - outcome_N)) + _RIDGE * found_S
        curve_SS = seen_NS.T @ (seen_NS * (weight_N * chance_N * (1 - chance_N))[:, None])
        found_S = found_S - torch.linalg.solve(curve_SS + ridge_SS, slope_S)
    return tuple(round(value, 5) for value in found_S.tolist())


def _logit(p: float) -> float:
    p = min(max(p, _LEAST), 1 - _LEAST)
    return math.log(p / (1 - p))


def _sigmoid(weights: Sequence[float], seen: Sequence[float]) -> float:
    return 1 / (1 + math.exp(-math.fsum(w * s for w, s in zip(weights, seen, strict=True))))
