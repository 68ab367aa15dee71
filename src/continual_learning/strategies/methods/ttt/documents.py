"""Documents cut into passages, which are learned several at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from continual_learning.documents import Document
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.learning import LearnedPassage, Lesson, Passage, learn_passages
from continual_learning.strategies.methods.ttt.unfinished import Unfinished
from continual_learning.text.chunking import passages
from continual_learning.training.examples import cut_to_tokens
from continual_learning.training.gradient_descent import StepCallback
from continual_learning.types import Progress, ProgressCallback


@dataclass(frozen=True)
class Cut:
    """A document cut into the passages to learn."""

    parts: list[str]
    tokens: int
    left_out: int
    alpha: float


@dataclass(frozen=True)
class Todo:
    """What remains to be learned of some documents."""

    texts: dict[str, Cut]
    """The documents that the memory does not hold yet, by id."""
    passages: list[Passage]
    """All of their passages, in order."""

    @classmethod
    def of(cls, base: BaseModel, state: State, documents: Sequence[Document], config: TTTConfig) -> Todo:
        """Cut those of the documents that the state does not hold yet."""
        texts: dict[str, Cut] = {}
        found: list[Passage] = []
        for document in documents:
            if state.meta.document(document.id) or document.id in texts:
                continue
            text, tokens, left_out = cut_to_tokens(base, document.text, config.max_tokens)
            parts = passages(text, lambda t: len(base.encode(t)), config.passage_tokens)
            alpha = config.alpha(len(state.meta.documents) + len(texts) + 1)
            texts[document.id] = Cut(parts, tokens, left_out, alpha)
            for number, part in enumerate(parts):
                found.append(Passage(part, document.title, alpha, f"{config.seed}:{document.sha256}:{number}"))
        return cls(texts, found)


def learn_all(
    lesson: Lesson, todo: Todo, unfinished: Unfinished | None, progress: ProgressCallback | None
) -> list[LearnedPassage]:
    """Learn all passages, in order; what an earlier call left in ``unfinished`` is not learned again."""
    config = lesson.config
    started = time.perf_counter()
    limit = math.inf if config.max_seconds is None else config.max_seconds * len(todo.texts)
    learned: list[LearnedPassage] = []
    total, size = len(todo.passages), config.passages_together
    for first in range(0, total, size):
        chosen = todo.passages[first : first + size]
        known = [unfinished.get(passage) for passage in chosen] if unfinished else [None]
        if all(known):
            learned += [passage for passage in known if passage]
            continue
        done = first + len(chosen)
        deadline = started + limit * done / total
        on_step = _step_reporter(progress, first, done, total)
        try:
            learned += learn_passages(lesson, chosen, deadline, on_step)
        except KeyboardInterrupt:
            if not unfinished or not first:
                raise
            kept = f"{first} of {total} passages are kept for a week; learn the same again to resume"
            raise KeyboardInterrupt(f"the memory is as it was; {kept}") from None
        if unfinished:
            for passage, found in zip(chosen, learned[first:], strict=True):
                unfinished.keep(passage, found)
    return learned


def _step_reporter(progress: ProgressCallback | None, first: int, done: int, total: int) -> StepCallback | None:
    """Return a callback that reports the progress of the passages from ``first`` to before ``done``."""
    if progress is None:
        return None
    which = f"passage {done}/{total}" if done == first + 1 else f"passages {first + 1} to {done} of {total}"

    def report(step: int, steps: int, loss: float) -> None:
        each = steps // (done - first)
        progress(Progress("learn", first * each + step, total * each, f"{which}, loss {loss:.2f}"))

    return report
