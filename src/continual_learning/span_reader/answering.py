"""Answers that name spans of a text, for strategies that have one to read: recited from weights, or kept.

The text need not be cut to what an answer may hold, and an answer is as long as what was asked for. Feedback moves the
choice: each span's log-likelihood takes what the base's steers know of it (`steering.ChoiceSteer`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from continual_learning.base import BaseModel
from continual_learning.span_reader.reader import SpanReader, load_reader, packaged_reader
from continual_learning.strategy import Answer, StrategyConfig

PACKAGED = "packaged"
BETWEEN = " / "
"""Stands between two candidates."""
_CONSIDERED = 8  # spans that feedback may choose among


class SpanAnswerConfig(StrategyConfig):
    """Settings of strategies that answer with spans of a text."""

    reader: str | None = PACKAGED
    """The span reader that points at answers: `packaged`, the one that ships for the base, if there is one; a file
    that `continual-learning train reader` wrote; none: quote the part that the question's words find."""
    second_below: float = Field(0.5, ge=0, le=1)
    """A second candidate is named where the reader finds the first one less likely than this."""


def chosen_reader(base: BaseModel, config: SpanAnswerConfig) -> SpanReader | None:
    """The reader that the settings name, None for none. Raises ConfigError, CorruptMemoryError or MismatchError."""
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
    """For each question the likeliest span of ``text``, and the second where the first is not likely enough."""
    started = time.perf_counter()
    answers = []
    for spans in reader.read(base, title, text, questions, _CONSIDERED):
        choices: dict[str, float] = {}
        for span in spans:
            choices.setdefault(span.text, math.log(max(span.probability, 1e-30)))
        choices = base.weighed(choices)
        ranked = sorted(choices, key=lambda choice: -choices[choice])
        sure = bool(ranked) and choices[ranked[0]] >= math.log(max(config.second_below, 1e-30))
        ids = base.encode(BETWEEN.join(ranked[: 1 if sure else 2]))[:max_new_tokens]
        answers.append((base.decode(ids).rstrip("\ufffd").strip(" /"), len(ids)))
    share = (time.perf_counter() - started) / max(1, len(questions))
    return [Answer(q, said, (), tokens, share) for q, (said, tokens) in zip(questions, answers, strict=True)]
