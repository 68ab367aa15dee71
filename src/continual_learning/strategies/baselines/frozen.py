"""The unchanged base model, which never learns: the reference for every other strategy."""

from __future__ import annotations

from collections.abc import Sequence

from continual_learning.documents import Document
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.options import StrategyConfig
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.base import Cost, Strategy
from continual_learning.types import Answer, LearnReport, ProgressCallback, QuestionAnswer, TokenCallback


class FrozenConfig(StrategyConfig):
    """The frozen strategy has no settings."""


class Frozen(Strategy[FrozenConfig]):
    """Refuses every document and answers from the base alone."""

    summary = "the base model as it is; never learns"
    Config = FrozenConfig
    role = "baseline"
    learns = False
    cost = Cost(f1={"smollm2-135m": 0.038, "gemma3-270m": 0.096})

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Refuse the document; the state is returned unchanged."""
        return state, LearnReport(
            accepted=False,
            reason="the frozen strategy never learns; choose another one, such as ttt, to learn documents",
            document_id=document.id,
            title=document.title,
            tokens=0,
            seconds=0.0,
            bytes=0,
        )

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """The base's own answers."""
        return plain_answers(base, questions, max_new_tokens, on_token, history)

    def affects(self, base: BaseModel, state: State, text: str) -> bool:
        """Always False: there is no memory."""
        return False
