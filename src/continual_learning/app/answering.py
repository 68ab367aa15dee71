"""Answers of a strategy, moved by the feedback that is about the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from continual_learning.app.feedback import Feedback, FeedbackMemory, FeedbackSteer
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.base import Strategy
from continual_learning.text.characters import normalised
from continual_learning.types import Answer, TokenCallback


class Asked(NamedTuple):
    """How questions are to be answered."""

    max_new_tokens: int
    on_token: TokenCallback | None = None
    history: Sequence[Message] = ()


def answers_with_feedback(
    base: BaseModel, strategy: Strategy[Any], state: State, questions: Sequence[str], asked: Asked
) -> list[Answer]:
    """The strategy's answers; those to questions that feedback is about are changed by it."""
    questions = [normalised(question) for question in questions]
    memory = FeedbackMemory.of(state)
    about = [memory.about(question) if memory.items else [] for question in questions]
    plain = [question for question, items in zip(questions, about, strict=True) if not items]
    unmoved = iter(strategy.answer(base, state, plain, *asked) if plain else ())
    return [
        _moved(base, strategy, state, question, items, asked) if items else next(unmoved)
        for question, items in zip(questions, about, strict=True)
    ]


def _moved(
    base: BaseModel,
    strategy: Strategy[Any],
    state: State,
    question: str,
    feedback: Sequence[tuple[Feedback, float]],
    asked: Asked,
) -> Answer:
    """An answer to a question that feedback is about. Streamed as one piece: it may be written twice."""
    steer = FeedbackSteer(base, feedback)
    silent = asked._replace(on_token=None)
    with base.steered(steer):  # alone: the steering is for this question only
        [answer] = strategy.answer(base, state, [question], *silent)
        # The base did not write it in one piece: it is quoted, joined from several generations, or from a server.
        apart = steer.begun != 1
        if apart and any(item.positive for item, _ in feedback):
            [answer] = plain_answers(base, [question], *silent)
            apart = False
    if asked.on_token is not None:
        asked.on_token(answer.text)
    ids = ", ".join(item.id for item, _ in feedback)
    said = "was taken into account"
    if apart and not steer.begun:
        said = "could not be taken into account: the base model did not write this answer"
    origin = "memory" if answer.origin == "model" and steer.begun else answer.origin  # feedback is part of a memory
    return replace(answer, notes=(*answer.notes, f"feedback {ids} {said}"), origin=origin)
