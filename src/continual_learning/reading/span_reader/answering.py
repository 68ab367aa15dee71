"""Answers that name spans of a text, for strategies that have a text to read: recited from weights, or kept.

The text need not be cut to the length of an answer, and an answer is as long as the span that was asked for. Feedback
shifts the choice: the base's logits processors adjust each span's log-likelihood (`logits_processors.ChoiceSteer`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from continual_learning.model.base_model import BaseModel
from continual_learning.options import StrategyConfig
from continual_learning.reading.span_reader.reader import SpanReader, load_reader, packaged_reader
from continual_learning.types import Answer

PACKAGED = "packaged"
BETWEEN = " / "
"""Separates two candidates."""
_LEAST = 1e-30
_CONSIDERED = 8  # at least this many spans are available for feedback to choose from


class SpanAnswerConfig(StrategyConfig):
    """Settings of strategies that answer with spans of a text."""

    reader: str | None = PACKAGED
    """The span reader that points at answers: `packaged` (the one that ships for the base, if any),
    a file written by `continual-learning train reader`, or none (quote the part that the question's words find)."""
    most_candidates: int = Field(3, ge=1)
    """An answer names at most this many spans."""
    candidate_mass: float = Field(0.7, ge=0, le=1)
    """It names the likeliest spans until their probabilities add up to this: one span if the reader is sure."""


def chosen_reader(base: BaseModel, config: SpanAnswerConfig) -> SpanReader | None:
    """The reader that the settings name, or None. Raises ConfigError, CorruptMemoryError or MismatchError."""
    if config.reader is None:
        return None
    if config.reader == PACKAGED:
        return packaged_reader(base)
    path = Path(config.reader).expanduser()
    found = base.remember(("span reader", str(path.absolute())), lambda: load_reader(path))
    found.check(base)
    return found


def span_answers(
    base: BaseModel,
    reader: SpanReader,
    title: str,
    text: str,
    questions: Sequence[str],
    config: SpanAnswerConfig,
    max_new_tokens: int,
) -> list[Answer]:
    """For each question the likeliest spans of ``text``, best first: more than one if none is likely enough."""
    started = time.perf_counter()
    answers = []
    considered = max(_CONSIDERED, config.most_candidates)
    for spans in reader.read(base, title, text, questions, considered):
        choices: dict[str, float] = {}
        for span in spans:
            choices.setdefault(span.text, math.log(max(span.probability, _LEAST)))
        named = _named(base.weighed(choices), config)
        ids = base.encode(BETWEEN.join(named))[:max_new_tokens]
        answers.append((base.decode(ids).rstrip("\ufffd").strip(BETWEEN), len(ids)))
    share = (time.perf_counter() - started) / max(1, len(questions))
    return [Answer(q, said, (), tokens, share) for q, (said, tokens) in zip(questions, answers, strict=True)]


def _named(choices: dict[str, float], config: SpanAnswerConfig) -> list[str]:
    """The likeliest of all choices (given log-likelihoods) until their probabilities add up to enough."""
    found: list[str] = []
    mass = 0.0
    for choice in sorted(choices, key=lambda choice: -choices[choice])[: config.most_candidates]:
        found.append(choice)
        mass += math.exp(choices[choice])
        if mass >= config.candidate_mass:
            break
    return found
