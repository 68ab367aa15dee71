"""What learning documents will take, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from continual_learning.app.estimate import Estimate
from continual_learning.documents import Document
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import Strategy, Workload


@dataclass(frozen=True, kw_only=True)
class LearningEstimate(Workload):
    """What learning some documents takes."""

    seconds: float
    """Estimated from the strategy's cost and this machine's speed."""


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
    return LearningEstimate(**asdict(work), seconds=seconds)
