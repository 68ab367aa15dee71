"""The outer loop: steps on phi_0, validation on held-out articles, resuming.

Shapes: I = neurons of an MLP.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from continual_learning.datasets.base import Dataset
from continual_learning.documents.shipped import background_texts
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.strategies.methods.ttt.calibration import neuron_accesses
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.dual_mlp import NeuronBranch
from continual_learning.strategies.methods.ttt.inner_loop import learned_weights, prefix_activations
from continual_learning.strategies.methods.ttt.learning import blocks_with_branches, inner_loop
from continual_learning.strategies.methods.ttt.neuron_gate import top_neurons
from continual_learning.strategies.methods.ttt.outer_loop.config import StartConfig
from continual_learning.strategies.methods.ttt.outer_loop.gradients import adapt, judge, task_gradient
from continual_learning.strategies.methods.ttt.outer_loop.processes import Processes
from continual_learning.strategies.methods.ttt.outer_loop.run_folder import (
    START,
    Checkpoint,
    Point,
    load_checkpoint,
    save_checkpoint,
)
from continual_learning.strategies.methods.ttt.outer_loop.tasks import (
    StudyPassage,
    Task,
    make_task,
    passage_item,
    training_passages,
)
from continual_learning.strategies.methods.ttt.start import Start, save_start
from continual_learning.training.gradient_descent import adamw

# Texts on which the neurons of a start are chosen: those that they access most.
_CHOOSING_TEXTS = 64
_SAVE_SECONDS = 30.0

StepReport = Callable[[int, int, float], None]
"""Called after each step with its number from 1, the number of steps there will be, and its outer loss."""
PointReport = Callable[[Point], None]

CLIP_NORM = 1.0
"""Global norm to which the gradient is clipped, as in the inner loop; mode reptile does not clip."""
VALIDATION_SHARE = 0.2
"""Share of the articles that are held out."""


@dataclass(frozen=True)
class Outcome:
    """The result of a training session."""

    start: Start
    """The best one by validation loss after the inner loop."""
    steps: int
    """Number of steps in all sessions."""
    planned_steps: int
    curve: tuple[Point, ...]
    seconds: float
    """Duration of all sessions."""
    passages: int
    validation_passages: int


def train_start(
    base: BaseModel,
    dataset: Dataset,
    config: StartConfig,
    ttt: TTTConfig,
    folder: Path,
    steps: int,
    processes: Processes,
    max_seconds: float = math.inf,
    on_step: StepReport | None = None,
    on_point: PointReport | None = None,
) -> Outcome:
    """Train up to ``steps`` steps in all, resuming the run in ``folder`` if there is one.

    ``max_seconds`` ends a session after the current step; the next one resumes there, and both together give the same
    bits as a single one. Raises InputError for data without a usable question or a folder with another run,
    DivergedError if a loss is NaN or infinite.
    """
    run = _Run(base, dataset, config, ttt, folder, processes)
    return run.go(steps, max_seconds, on_step, on_point)


class _Run:
    def __init__(
        self,
        base: BaseModel,
        dataset: Dataset,
        config: StartConfig,
        ttt: TTTConfig,
        folder: Path,
        processes: Processes,
    ):
        self.base, self.config, self.ttt, self.folder, self.processes = base, config, ttt, folder, processes
        self.background = background_texts()
        self.train, held = training_passages(base, dataset, ttt.passage_tokens, VALIDATION_SHARE, config.seed)
        self.held = random.Random(f"{config.seed}:held").sample(held, min(config.validation_passages, len(held)))
        self.loop = inner_loop(base, ttt, config.inner_passes)
        self.identity: dict[str, Any] = {
            "base": base.fingerprint,
            "data": dataset.sha256(),
            **config.model_dump(mode="json"),
            **{f"ttt.{name}": value for name, value in ttt.model_dump(mode="json").items()},
        }
        self.branches = first_branches(base, ttt, self.train, config.seed)
        self.first_block = min(self.branches)
        self.weights = learned_weights(self.branches)
        self.optimizer = (
            torch.optim.SGD(self.weights, lr=config.rate)
            if config.mode == "reptile"
            else adamw(self.weights, config.rate)
        )
        self.facts = {"mode": config.mode, "data": dataset.name, "data_sha256": dataset.sha256(), "seed": config.seed}

    def go(self, steps: int, max_seconds: float, on_step: StepReport | None, on_point: PointReport | None) -> Outcome:
        started = saved = time.perf_counter()
        earlier = load_checkpoint(self.folder, self.identity)
        at, curve, before = 0, list[Point](), 0.0
        best = [w.detach().clone() for w in self.weights]
        if earlier is not None:
            at, curve, best, before = earlier.step, earlier.curve, earlier.best, earlier.seconds
            self._restore(earlier)

        def keep() -> None:
            seconds = before + time.perf_counter() - started
            self._save(Checkpoint(self.identity, at, list(self.weights), self._moments(), best, curve, seconds), steps)

        while True:
            # Only at these steps, wherever a session ends: the best start must not depend on that.
            if at % self.config.validate_every == 0 and not any(p.step == at for p in curve):
                point = self.validate(at)
                if all(point.loss_on < p.loss_on for p in curve):
                    best = [w.detach().clone() for w in self.weights]
                curve.append(point)
                keep()
                if on_point:
                    on_point(point)
            if at >= steps or self._late(started, max_seconds):
                break
            loss = self.step(at)
            at += 1
            if on_step:
                on_step(at, steps, loss)
            if time.perf_counter() - saved > _SAVE_SECONDS:
                saved = time.perf_counter()
                keep()
        keep()
        seconds = before + time.perf_counter() - started
        start = self._start(best, curve, at)
        return Outcome(start, at, steps, tuple(curve), seconds, len(self.train), len(self.held))

    def _late(self, started: float, max_seconds: float) -> bool:
        """Whether any process's time is up: all of them stop after the same step."""
        mine = torch.tensor(float(time.perf_counter() - started > max_seconds), device=self.base.device)
        return bool(self.processes.total([mine])[0] > 0)

    def step(self, number: int) -> float:
        """One update of phi_0; returns the mean outer loss. ``number`` counts from 0."""
        chosen = self._passages(number)
        gradient = [torch.zeros_like(w) for w in self.weights]
        loss = torch.zeros((), device=self.base.device)
        for i in self.processes.share(len(chosen)):
            rng = random.Random(f"{self.config.seed}:{number}:{i}")
            task = self._task(chosen[i], self.config.mode == "instruction", rng)
            found = task_gradient(
                self.base,
                self.branches,
                self.ttt.alpha(1),
                task,
                self.config.mode,
                self.loop,
                self.config.truncate,
                rng,
            )
            for total, part in zip(gradient, found.gradient, strict=True):
                total += part / len(chosen)
            loss += found.loss / len(chosen)
        *gradient, loss = self.processes.total([*gradient, loss])
        for weight, total in zip(self.weights, gradient, strict=True):
            weight.grad = total
        if self.config.mode != "reptile":
            torch.nn.utils.clip_grad_norm_(self.weights, CLIP_NORM)
        warm = min(1.0, (number + 1) / (self.config.warmup_steps + 1))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate * warm
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss)

    def validate(self, step: int) -> Point:
        """Learn the held-out passages from phi_0, each the same way at every validation."""
        sums = torch.zeros(5, device=self.base.device, dtype=torch.float64)
        for i in self.processes.share(len(self.held)):
            rng = random.Random(f"{self.config.seed}:validation:{i}")
            task = self._task(self.held[i], False, rng)
            alpha = self.ttt.alpha(1)
            off, tokens, right_off = judge(self.base, self.branches, alpha, task)
            learned = adapt(self.base, self.branches, alpha, task, self.loop, rng)
            on, _, right_on = judge(self.base, learned, alpha, task)
            sums += torch.tensor([off, on, right_off, right_on, tokens], device=sums.device, dtype=torch.float64)
        off, on, right_off, right_on, tokens = self.processes.total([sums])[0].tolist()
        count = len(self.held)
        return Point(step, off / count, on / count, right_off / tokens, right_on / tokens)

    def _task(self, passage: StudyPassage, instruction: bool, rng: random.Random) -> Task:
        inner = 0 if instruction else self.config.inner_tokens
        given = (self.base, passage, self.ttt, self.background, self.first_block, inner, self.config.questions, rng)
        task = make_task(*given)
        if instruction:
            task.study.append(passage_item(self.base, passage))
            task.study_prefix.extend(prefix_activations(self.base, task.study, self.first_block))
        return task

    def _passages(self, step: int) -> list[StudyPassage]:
        """Return the passages of a step: every one once in each round, in an order given by the seed and the round."""
        found = []
        for i in range(step * self.config.passages_per_step, (step + 1) * self.config.passages_per_step):
            rounds, place = divmod(i, len(self.train))
            order = list(range(len(self.train)))
            random.Random(f"{self.config.seed}:order:{rounds}").shuffle(order)
            found.append(self.train[order[place]])
        return found

    # -- on disk -----------------------------------------------------------------------------------

    def _moments(self) -> list[dict[str, Tensor]]:
        return [dict(self.optimizer.state[w]) for w in self.weights if self.optimizer.state.get(w)]

    def _restore(self, checkpoint: Checkpoint) -> None:
        with torch.no_grad():
            for weight, kept in zip(self.weights, checkpoint.weights, strict=True):
                weight.copy_(kept)
        for weight, moments in zip(self.weights, checkpoint.moments, strict=False):  # none before the first step
            self.optimizer.state[weight] = {
                # The count of steps stays where the optimizer keeps it: with fused updates, on the weight's device.
                name: tensor.to(weight.device)
                for name, tensor in moments.items()
            }

    def _save(self, checkpoint: Checkpoint, steps: int) -> None:
        if self.processes.main:
            save_start(self._start(checkpoint.best, checkpoint.curve, checkpoint.step), self.folder / START)
            save_checkpoint(self.folder, checkpoint)

    def _start(self, weights: list[Tensor], curve: list[Point], steps: int) -> Start:
        now = [w.detach().clone() for w in self.weights]
        best = min(curve, key=lambda p: p.loss_on) if curve else None
        facts = {**self.facts, "steps": steps, "best": asdict(best) if best else None, "settings": self.identity}
        with torch.no_grad():
            try:
                for weight, kept in zip(self.weights, weights, strict=True):
                    weight.copy_(kept)
                return Start.of(self.base, self.branches, facts)
            finally:
                for weight, kept in zip(self.weights, now, strict=True):
                    weight.copy_(kept)


def first_branches(base: BaseModel, ttt: TTTConfig, train: list[StudyPassage], seed: int) -> dict[int, NeuronBranch]:
    """Return branches as ttt initialises them without a start, in the neurons the training passages access most."""
    blocks = blocks_with_branches(base, ttt)
    texts = random.Random(f"{seed}:neurons").sample(train, min(_CHOOSING_TEXTS, len(train)))
    counts: dict[int, Tensor] = {}
    for passage in texts:
        for block, count_I in neuron_accesses(base, base.encode(passage.text), blocks).items():
            counts[block] = counts[block] + count_I if block in counts else count_I
    branches = {}
    for block in blocks:
        parts = mlp_parts(base.mlp(block))
        wanted = min(ttt.neurons or parts.intermediate_size, parts.intermediate_size)
        branches[block] = NeuronBranch(parts, top_neurons(counts[block].double(), wanted), ttt.train)
    return branches
