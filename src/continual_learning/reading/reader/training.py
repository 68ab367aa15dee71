"""Training of a reader, once per base model: texts with questions in, a low-rank adapter out.

The loss is the negative log-likelihood of an accepted answer and the end of its line. All questions about a text stand
in one row with it, each behind a mask (as when a reader reads, `reader`), so that a text costs one pass whatever the
number of its questions; the blocks below the adapter take no gradients. The learning rate rises, stays, and falls to
zero in the last part of the steps, so that a run may be looked at and continued before it falls (the schedule of Hu et
al. 2024, arXiv 2404.06395, section 4.2). At the end a calibration is fitted on articles that took no part.

Shapes: B = rows of a batch, T = tokens of a row, D = hidden size, N = tokens of answers.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from continual_learning.errors import DivergedError, InputError
from continual_learning.io.checkpointing import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from continual_learning.model.base_model import BaseModel
from continual_learning.options import StrategyConfig
from continual_learning.reading.reader.adapter import adapted, new_weights
from continual_learning.reading.reader.calibration import Calibration, Observed, fitted
from continual_learning.reading.reader.lesson_rows import LessonRow, batches, lesson_row, row_loss
from continual_learning.reading.reader.lessons import (
    Lesson,
    changed,
    names_asked_about,
    sha256,
    with_questions_of_others,
)
from continual_learning.reading.reader.reader import READER_FILE, Reader, save_reader
from continual_learning.text.scoring import contains_answer, token_f1
from continual_learning.training.weight_size import weight_share

_WARM_UP = 40  # steps
_POOL = 96  # rows that are sorted by length before they are cut into batches
_CLIP_NORM = 1.0
_BETAS = (0.9, 0.98)
_WEIGHT_DECAY = 0.01
_SAVED_EVERY = 60.0  # seconds
_LOOKED_EVERY = 100  # steps


class ReaderTraining(StrategyConfig):
    """Settings of the training."""

    rank: int = Field(16, ge=1)
    """Rank of the adapter."""
    adapted: float = Field(0.8, gt=0, le=1)
    """Share of the blocks, the upper ones, whose linear layers the adapter changes."""
    learning_rate: float = Field(6e-4, gt=0)
    """AdamW's peak learning rate for weights as large as SmolLM2-135M's. A base with smaller ones has a lower rate, by
    the square root: both factors of the adapter learn, so that their product grows with the square of the rate."""
    steps: int = Field(1_200, ge=1)
    falling: float = Field(0.35, ge=0, le=1)
    """Share of the steps, the last ones, in which the learning rate falls to zero."""
    batch_tokens: int = Field(1_500, ge=64)
    """Maximum tokens of a batch, with padding."""
    scale: float = Field(2.0, gt=0)
    """Factor on the adapter's product while it is trained, alpha / rank in the LoRA paper."""
    seed: int = 0


class Point(NamedTuple):
    """One look at the run."""

    step: int
    loss: float
    """Nats a question, over the steps since the last look or the last start."""


@dataclass(frozen=True)
class Trained:
    """The result of a training run."""

    reader: Reader
    path: Path
    curve: tuple[Point, ...]
    questions: int
    """Questions with an answer in the file, less those held out."""
    f1: float
    """On the questions held out."""
    exact: float
    seconds: float
    """Over all sessions of the run."""


def train_reader(
    base: BaseModel,
    lessons: Sequence[Lesson],
    held_out: Sequence[Lesson],
    config: ReaderTraining,
    folder: Path,
    seconds: float = math.inf,
    on_progress: Callable[[str, int, int, str], None] | None = None,
    start: Reader | None = None,
) -> Trained | None:
    """Train for ``seconds``, or resume the run in ``folder``; write ``reader.safetensors`` there when it is done.

    Returns None if time ended before the last step: the next call continues. ``held_out`` takes no part in the
    training; the calibration is fitted on it. ``on_progress`` is called with the stage, how much of it is done, the
    total, and a note. With ``start``, the run begins with the weights of this reader. Raises InputError if the folder
    holds another run, if nothing is held out, or if ``start`` has another rank or other layers; MismatchError if it
    belongs to another base.
    """
    if not held_out:
        raise InputError("no text is held out to calibrate with; expected texts of at least two titles")
    started = time.monotonic()
    identity = {"settings": config.model_dump(mode="json"), "data": sha256(lessons), "base": base.fingerprint}
    if start:
        start.check(base)
        identity["start"] = _weights_sha256(start)
    run = _Run(base, with_questions_of_others(lessons), config, start)
    spent = _resumed(run, folder, identity)
    losses: list[float] = []
    saved = started

    def save() -> None:
        nonlocal saved
        saved = time.monotonic()
        facts = {"identity": identity, "step": run.step, "seconds": spent + saved - started}
        save_checkpoint(folder, run.tensors(), {**facts, "curve": run.curve})

    while run.step < config.steps:
        if time.monotonic() - started > seconds:
            save()
            return None
        losses.append(run.one_step())
        if on_progress:
            on_progress("train", run.step, config.steps, f"loss {losses[-1]:.2f}")
        last = run.step == config.steps
        if run.step % _LOOKED_EVERY == 0 or last:
            run.curve.append(Point(run.step, sum(losses) / len(losses)))
            losses = []
        if last or time.monotonic() - saved > _SAVED_EVERY:
            save()
    count = sum(len(one.questions) for one in lessons)
    facts = {
        "settings": config.model_dump(mode="json"),
        "questions": count,
        "data": identity["data"],
        "curve": [list(point) for point in run.curve],
    }
    reader = Reader(run.product_weights(), base.fingerprint, Calibration(), facts)
    observed, f1, exact = observe(base, reader, held_out, config.seed, on_progress)
    reader = replace(reader, calibration=fitted(observed), facts={**facts, "held_out": len(observed), "f1": f1})
    folder.mkdir(parents=True, exist_ok=True)
    save_reader(reader, folder / READER_FILE)
    taken = spent + time.monotonic() - started
    return Trained(reader, folder / READER_FILE, tuple(run.curve), count, f1, exact, taken)


def _resumed(run: _Run, folder: Path, identity: Mapping[str, Any]) -> float:
    """Continue the run whose checkpoint a folder holds; the seconds that it has taken, 0 without a checkpoint."""
    checkpoint = load_checkpoint(folder)
    if checkpoint is None:
        return 0.0
    if checkpoint.facts["identity"] != identity:
        raise InputError(
            f"{folder}: holds a run with other settings, data, base or start; give the same to resume it, another "
            "--out, or --overwrite"
        )
    run.restore(checkpoint.tensors, int(checkpoint.facts["step"]))
    run.curve = [Point(*point) for point in checkpoint.facts["curve"]]
    return float(checkpoint.facts["seconds"])


def observe(
    base: BaseModel,
    reader: Reader,
    lessons: Sequence[Lesson],
    seed: int,
    on_progress: Callable[[str, int, int, str], None] | None = None,
) -> tuple[list[Observed], float, float]:
    """What the reader says about texts and their own and foreign questions; F1 and exact match on their own."""
    rng = random.Random(seed)
    names = names_asked_about(lessons)
    observed: list[Observed] = []
    scores: list[tuple[float, float]] = []
    for number, lesson in enumerate(with_questions_of_others(lessons)):
        own = [q.question for q in lesson.questions]
        foreign = [*lesson.elsewhere[: math.ceil(len(own) / 2)]]
        foreign += [c for q in own if rng.random() < 0.3 and (c := changed(q, lesson.text, names, rng))]
        found = reader.read(base, lesson.title, lesson.text, [*own, *foreign], 3)
        for i, reading in enumerate(found):
            said = reading.spans[0].text if reading.spans else ""
            answers = lesson.questions[i].answers if i < len(own) else ()
            right = bool(answers) and contains_answer(said, answers)
            observed.append(Observed(reading.seen, right, i >= len(own)))
            if answers:
                f1 = token_f1(said, answers)
                scores.append((f1, float(f1 == 1.0)))
        if on_progress:
            on_progress("calibrate", number + 1, len(lessons), "reading articles held out")
    return observed, *(sum(column) / len(scores) for column in zip(*scores, strict=True))


def first_block(base: BaseModel, config: ReaderTraining) -> int:
    """The first block whose linear layers get an adapter."""
    return base.block_count - math.ceil(config.adapted * base.block_count)


class _Run:
    """The adapter in training."""

    def __init__(self, base: BaseModel, lessons: Sequence[Lesson], config: ReaderTraining, start: Reader | None):
        self._base, self._lessons, self._config = base, lessons, config
        self._names = names_asked_about(lessons)
        self._scale = weight_share(base) ** 0.5
        self._first = first_block(base, config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            weights = new_weights(base, self._first, config.rank)
        if start:
            weights = _weights_of(start, weights, config.scale)
        self._weights = {name: nn.Parameter(weight) for name, weight in weights.items()}
        self._optimizer = torch.optim.AdamW(
            self._weights.values(), lr=config.learning_rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY
        )
        self.step = 0
        self.curve: list[Point] = []
        self._batches: Iterator[list[LessonRow]] = self._all_batches()

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs."""
        return {
            **{f"weights.{name}": weight for name, weight in self._weights.items()},
            **{f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(self._optimizer).items()},
        }

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Continue after ``step`` steps, with the batches that would have followed."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(tensors[f"weights.{name}"])
        moments = {n.removeprefix("optimizer."): t for n, t in tensors.items() if n.startswith("optimizer.")}
        restore_optimizer(self._optimizer, moments)
        self.step = step
        self._batches = islice(self._all_batches(), step, None)

    def product_weights(self) -> dict[str, Tensor]:
        """A and B, with the scale in B."""
        with torch.no_grad():
            return {n: w.detach() * (self._config.scale if n.endswith(".B") else 1.0) for n, w in self._weights.items()}

    def one_step(self) -> float:
        """Train on a batch; returns its loss. Raises DivergedError if it is not finite."""
        config = self._config
        batch = next(self._batches)
        for group in self._optimizer.param_groups:
            group["lr"] = config.learning_rate * self._scale * self._rate()
        scaled = {n: w * config.scale if n.endswith(".B") else w for n, w in self._weights.items()}
        with self._base.patched(adapted(self._base, scaled)):
            loss = row_loss(self._base, batch, self._first)
        if not torch.isfinite(loss):
            raise DivergedError(f"the loss is {loss.item()} at step {self.step + 1}; lower learning_rate")
        loss.backward()
        nn.utils.clip_grad_norm_(self._weights.values(), _CLIP_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    def _rate(self) -> float:
        steps = self._config.steps
        left = (steps - self.step) / max(1.0, self._config.falling * steps)
        return min(1.0, (self.step + 1) / _WARM_UP, left)

    def _all_batches(self) -> Iterator[list[LessonRow]]:
        rng = random.Random(self._config.seed)
        while True:
            order = list(self._lessons)
            rng.shuffle(order)
            for at in range(0, len(order), _POOL):
                rows = [
                    row
                    for one in order[at : at + _POOL]
                    if (row := lesson_row(self._base, one, self._names, rng)).questions
                ]
                yield from batches(rows, self._config.batch_tokens, rng)


def _weights_of(start: Reader, expected: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The weights of a reader as they are trained, with the scale apart from B."""
    shapes = {name: weight.shape for name, weight in expected.items()}
    if {name: weight.shape for name, weight in start.weights.items()} != shapes:
        raise InputError(
            "the reader to start from has another rank or other layers; give --set rank and --set adapted as it was "
            "trained with"
        )
    return {n: start.weights[n].float() / (scale if n.endswith(".B") else 1.0) for n in expected}


def _weights_sha256(reader: Reader) -> str:
    """Identity of a reader's weights."""
    digest = hashlib.sha256()
    for name, weight in sorted(reader.weights.items()):
        digest.update(name.encode() + weight.float().numpy().tobytes())
    return digest.hexdigest()
