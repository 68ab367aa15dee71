"""From what a reader writes to how often it is right: logistic regressions on a few numbers about its search.

Platt 1999; for neural networks Guo et al. 2017 (arXiv 1706.04599), section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

_LEAST = 1e-6


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
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    def regression(
        rows: Sequence[tuple[tuple[float, ...], bool]], default: tuple[float, ...], even: bool
    ) -> tuple[float, ...]:
        if len({outcome for _, outcome in rows}) < 2:
            return default
        model = LogisticRegression(
            fit_intercept=False, C=10.0, class_weight="balanced" if even else None, max_iter=1_000
        )
        model.fit(np.array([seen for seen, _ in rows]), np.array([outcome for _, outcome in rows]))
        return tuple(round(float(weight), 5) for weight in model.coef_[0])

    start = Calibration()
    return Calibration(
        regression([(one.seen, one.right) for one in observed if not one.unknown], start.right, even=False),
        regression([(one.seen, one.unknown) for one in observed], start.unknown, even=True),
    )


def _logit(p: float) -> float:
    p = min(max(p, _LEAST), 1 - _LEAST)
    return math.log(p / (1 - p))


def _sigmoid(weights: Sequence[float], seen: Sequence[float]) -> float:
    return 1 / (1 + math.exp(-math.fsum(w * s for w, s in zip(weights, seen, strict=True))))
