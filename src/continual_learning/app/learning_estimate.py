"""What learning documents will take, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from continual_learning.app.estimate import Estimate
from continual_learning.documents import Document
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import Strategy


@dataclass(frozen=True)
class LearningEstimate:
    """What learning some documents takes, without those that the memory holds already."""

    documents: int
    tokens: int
    passages: int | None
    """Passages that are learned one by one; None if the strategy does not cut documents into passages."""
    passages_kept: int
    """Those of them that were learned before an interruption, and are not learned again."""
    seconds: float
    """Estimated from the strategy's cost and this machine's speed."""
    bytes: int
    """Estimated growth of the memory."""


def estimate_learning(
    base: BaseModel, strategy: Strategy[Any], state: State, documents: Sequence[Document]
) -> LearningEstimate:
    """Estimate what learning the documents takes on this machine, whose speed is measured if that matters."""
    work = strategy.workload(base, state, documents)
    seconds = 0.0
    if work.tokens and strategy.cost.learn_token:
        seconds = Estimate.here(base).learn(strategy.name, work.tokens)
    if work.passages:
        seconds *= 1 - work.passages_kept / work.passages
    return LearningEstimate(work.documents, work.tokens, work.passages, work.passages_kept, seconds, work.bytes)
