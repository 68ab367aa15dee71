"""Generated text as an answer: the one place where the confidence of what a model wrote is decided."""

from __future__ import annotations

from continual_learning.model.generation import Generation
from continual_learning.types import Answer, Source


def generated_answer(
    question: str, generation: Generation, sources: tuple[Source, ...] = (), notes: tuple[str, ...] = ()
) -> Answer:
    """What the base wrote after a prompt, as an answer. Its origin is for the strategy to say (`strategies.base`)."""
    return Answer(
        question,
        generation.text.strip(),
        sources,
        generation.tokens,
        generation.seconds,
        notes,
        confidence=generated_confidence(generation.probability),
    )


def generated_confidence(probability: float | None) -> float | None:
    """The confidence of an answer whose tokens have ``probability`` as the geometric mean of theirs; None for None.

    Not calibrated: how often answers with such a mean are right depends on the base and on what is asked.
    """
    return probability
