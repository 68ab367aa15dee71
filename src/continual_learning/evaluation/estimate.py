"""Estimates how long a run will take, from earlier runs on this machine or else from a reference machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from continual_learning.strategies.base import strategy_class

# The machine and the model for which `Strategy.cost` was measured.
_REFERENCE_GFLOPS, _REFERENCE_PARAMETERS = 60.0, 134.5e6
_RETENTION_QUESTIONS = 55
"""Number of general questions, plus the unrelated texts, counted as questions."""


@dataclass
class Speed:
    """The measurements of one strategy, as sums, so that a mean can be taken at any time."""

    learn_seconds: float = 0.0
    learn_tokens: int = 0
    answer_seconds: float = 0.0
    answers: int = 0


@dataclass
class Estimate:
    """Estimates in seconds. ``gflops`` is the machine's matmul speed, ``parameters`` the base's size."""

    gflops: float
    parameters: int
    speeds: dict[str, Speed] = field(default_factory=dict)
    """Measured speeds by strategy; filled by `learned` and `answered`."""

    def learned(self, strategy: str, tokens: int, seconds: float) -> None:
        """Record a document that was learned."""
        speed = self.speeds.setdefault(strategy, Speed())
        speed.learn_seconds += seconds
        speed.learn_tokens += tokens

    def answered(self, strategy: str, questions: int, seconds: float) -> None:
        """Record questions that were answered."""
        speed = self.speeds.setdefault(strategy, Speed())
        speed.answer_seconds += seconds
        speed.answers += questions

    def learn(self, strategy: str, tokens: int) -> float:
        """Estimated seconds to learn ``tokens`` tokens."""
        speed = self.speeds.get(strategy, Speed())
        if speed.learn_tokens:
            return tokens * speed.learn_seconds / speed.learn_tokens
        return tokens * strategy_class(strategy).cost.learn_token * self._scale

    def answer(self, strategy: str, questions: int) -> float:
        """Estimated seconds to answer ``questions`` questions."""
        speed = self.speeds.get(strategy, Speed())
        if speed.answers:
            return questions * speed.answer_seconds / speed.answers
        return questions * strategy_class(strategy).cost.answer * self._scale

    def retention(self, strategy: str) -> float:
        """Estimated seconds to measure retention: an upper bound, as a memory that affects few questions asks few."""
        return self.answer(strategy, _RETENTION_QUESTIONS)

    @property
    def _scale(self) -> float:
        return (_REFERENCE_GFLOPS / self.gflops) * (self.parameters / _REFERENCE_PARAMETERS)


def duration(seconds: float) -> str:
    """Seconds in human-readable form: ``40 s``, ``12 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
