"""What the tests of the trained baselines share: a document, small settings, and learning it."""

from __future__ import annotations

from typing import Any

from continual_learning.documents import Document
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.baselines._finetuning import FinetuningStrategy
from continual_learning.types import LearnReport

TEXT = (
    "The quick brown fox lives in Paris with seven cats. It was born in June 1811 near the lazy dog. "
    "Comb jellies swim with rows of cilia, and they eat plankton."
)
FOX = Document(TEXT, "Fox")
OTTO = Document("Otto Brand opened the harbour of Lund in 1902.", "Otto")
ABOUT = "Where does the quick brown fox live?"
ELSEWHERE = "Who painted the Mona Lisa?"
QUICK: dict[str, Any] = {"passes": 2, "questions_per_fragment": 1}


def make(name: str, **options: Any) -> FinetuningStrategy[Any]:
    strategy = make_strategy(name, {**QUICK, **options})
    assert isinstance(strategy, FinetuningStrategy)
    return strategy


def learn(
    name: str, base: BaseModel, *documents: Document, **options: Any
) -> tuple[FinetuningStrategy[Any], State, LearnReport]:
    """The strategy, what it learned of the documents (the fox if none are given), and the last report."""
    strategy = make(name, **options)
    state = strategy.init(base)
    for document in documents or (FOX,):
        state, report = strategy.learn(base, state, document)
    return strategy, state, report


def loss_of(base: BaseModel, strategy: FinetuningStrategy[Any], state: State, text: str = TEXT) -> float:
    """Mean next-token loss of a text with the memory in place, nats."""
    with strategy.adapted(base, state, text):
        total, count = base.token_nll([text])
    return total / count
