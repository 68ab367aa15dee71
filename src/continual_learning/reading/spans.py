"""What a reader finds in a text: spans with their probabilities, and how likely the text does not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel


@dataclass(frozen=True)
class FoundSpan:
    """A span that may answer a question."""

    text: str
    start: int
    """Character of the text at which it begins."""
    probability: float
    """Its probability among all spans of the text, by the reader."""


@dataclass(frozen=True)
class Reading:
    """What a text says about a question."""

    spans: tuple[FoundSpan, ...]
    """Best first; they do not overlap."""
    unknown: float = 0.0
    """Probability that the text does not say."""
    confidence: float = 0.0
    """Calibrated probability that the best answer is right, be it a span or that the text does not say."""

    @property
    def said(self) -> bool:
        """Whether the best answer is a span, and not that the text does not say."""
        return bool(self.spans) and self.spans[0].probability >= self.unknown


class Reader(Protocol):
    """Reads a text for the answers to questions."""

    def read(self, base: BaseModel, title: str, text: str, questions: Sequence[str], count: int = 3) -> list[Reading]:
        """One reading a question, in order, each with up to ``count`` spans. Raises MismatchError for another base."""
