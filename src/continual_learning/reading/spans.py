"""What a reader is given in addition to a text, and what it finds: spans, or how likely the text does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Turn(NamedTuple):
    """A question of a conversation and the reply to it."""

    question: str
    reply: str


@dataclass(frozen=True)
class FoundSpan:
    """A span that may answer a question."""

    text: str
    start: int
    """Character of the text at which it begins."""
    probability: float
    """The probability that the model writes it; spans that were weighed by the question have shared theirs out anew."""


@dataclass(frozen=True)
class Reading:
    """What a text says about a question."""

    spans: tuple[FoundSpan, ...]
    """Likeliest first; they do not overlap."""
    unknown: float = 0.0
    """Calibrated probability that the text does not say, where it is as likely as not that a text does."""
    right: float = 0.0
    """Calibrated probability that the first span is a right answer."""
    seen: tuple[float, ...] = ()
    """The numbers that the calibrated probabilities are computed from (`reader.calibration.signals`)."""

    @property
    def said(self) -> bool:
        """Whether the best answer is a span, and not that the text does not say."""
        return bool(self.spans) and self.unknown < 0.5

    @property
    def confidence(self) -> float:
        """Calibrated probability that the best answer is right, be it a span or that the text does not say."""
        return self.right if self.said else self.unknown
