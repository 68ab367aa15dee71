"""The outer loop: steps on the initial values, validation on held-out articles, resuming."""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from continual_learning.datasets.base import Dataset
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.strategies.methods.ttt.calibration import neuron_accesses
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.dual_mlp import NeuronBranch
from continual_learning.strategies.methods.ttt.inner_loop import Course, descend
from continual_learning.strategies.methods.ttt.learning import Passage, blocks_with_branches, inner_loop
from continual_learning.strategies.methods.ttt.neuron_gate import top_neurons
from continual_learning.strategies.methods.ttt.outer_loop.config import StartConfig
from continual_learning.strategies.methods.ttt.outer_loop.gradient import after_steps, outer_loss, start_gradient
from continual_learning.strategies.methods.ttt.outer_loop.passages import StudyPassage, split_passages, study_passage
from continual_learning.strategies.methods.ttt.outer_loop.processes import Processes
from continual_learning.strategies.methods.ttt.outer_loop.run_folder import (
    Checkpoint,
    Point,
    load_checkpoint,
    save_checkpoint,
)
from continual_learning.strategies.methods.ttt.start import START_FILE, Start, save_start
from continual_learning.training.gradient_descent import adamw

# Texts on which the neurons of a start are chosen: those that they access most.
_CHOOSING_TEXTS = 64
_SAVE_SECONDS = 30.0
_WARMUP_STEPS = 5
_CLIP_NORM = 1.0

StepReport = Callable[[int, int, float], None]
"""Called after each step with its number from 1, the number of steps there will be, and its outer loss."""
PointReport = Callable[[Point], None]


@dataclass(frozen=True)
class Outcome:
    """The result of a training session."""

    start: Start
    """The best one by validation loss after the inner steps."""
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
    bits as a single one. Raises InputError for data without a usable passage or a folder with another run,
    DivergedError if a loss is NaN or infinite.
    """
    return _Run(base, dataset, config, ttt, folder, processes).go(steps, max_seconds, on_step, on_point)


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
        self.train, self.held = split_passages(base, dataset, ttt, config)
        self.known: dict[Passage, StudyPassage] = {}
        self.branches = first_branches(base, ttt, [passage.text for passage in self.train])
        self.values = {b: branch.down_KD.detach().clone().requires_grad_() for b, branch in self.branches.items()}
        self.optimizer = adamw(list(self.values.values()), config.learning_rate)
        self.identity: dict[str, Any] = {
            "base": base.fingerprint,
            "data": dataset.sha256(),
            **config.model_dump(mode="json"),
            **{f"ttt.{name}": value for name, value in ttt.model_dump(mode="json").items()},
        }
        self.facts = {"data": dataset.name, "settings": self.identity}

    def go(self, steps: int, max_seconds: float, on_step: StepReport | None, on_point: PointReport | None) -> Outcome:
        started = saved = time.perf_counter()
        run = load_checkpoint(self.folder, self.identity)
        if run is None:
            run = Checkpoint(self.identity, 0, self._copy(), [], self._copy())
        else:
            self._restore(run)
        before = run.seconds

        def keep() -> None:
            run.weights, run.moments = self._copy(), [dict(self.optimizer.state[w]) for w in self.values.values()]
            run.seconds = before + time.perf_counter() - started
            if self.processes.main:
                save_start(self._start(run), self.folder / START_FILE)
                save_checkpoint(self.folder, run)

        while True:
            # Only at these steps, wherever a session ends: the best start must not depend on that.
            if run.step % self.config.validate_every == 0 and not any(p.step == run.step for p in run.curve):
                point = self.validate(run.step)
                if all(point.loss < p.loss for p in run.curve):
                    run.best = self._copy()
                run.curve.append(point)
                keep()
                if on_point:
                    on_point(point)
            if run.step >= steps or self._late(started, max_seconds):
                break
            loss = self.step(run.step)
            run.step += 1
            if on_step:
                on_step(run.step, steps, loss)
            if time.perf_counter() - saved > _SAVE_SECONDS:
                saved = time.perf_counter()
                keep()
        keep()
        curve = tuple(run.curve)
        return Outcome(self._start(run), run.step, steps, curve, run.seconds, len(self.train), len(self.held))

    def _late(self, started: float, max_seconds: float) -> bool:
        """Whether any process's time is up: all of them stop after the same step."""
        mine = torch.tensor(float(time.perf_counter() - started > max_seconds), device=self.base.device)
        return bool(self.processes.total([mine])[0] > 0)

    def step(self, number: int) -> float:
        """One update of the initial values; returns the mean outer loss. ``number`` counts from 0."""
        count = self.config.passages_per_step
        totals = [torch.zeros_like(w) for w in (*self.values.values(), torch.zeros((), device=self.base.device))]
        for i in self.processes.share(count):
            course = self._course(self._study(self._drawn(number * count + i)))
            found = start_gradient(
                course, self.values, self.ttt.learning_rate, self.config.inner_steps, self.config.truncate
            )
            for total, part in zip(totals, found, strict=True):
                total += part / count
        *gradient, loss = self.processes.total(totals)
        for weight, slope in zip(self.values.values(), gradient, strict=True):
            weight.grad = slope
        torch.nn.utils.clip_grad_norm_(self.values.values(), _CLIP_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, (number + 1) / (_WARMUP_STEPS + 1))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss)

    def validate(self, step: int) -> Point:
        """Learn the held-out passages from the initial values, each the same way at every validation."""
        sums = torch.zeros(6, device=self.base.device, dtype=torch.float64)
        rate, loop = self.ttt.learning_rate, inner_loop(self.ttt)
        for i in self.processes.share(len(self.held)):
            study = self._study(self.held[i])
            course, wrong, losses = self._course(study), [], []
            for steps in (0, self.config.inner_steps):
                values = after_steps(course, self.values, rate, steps)
                wrong.append(sum(map(len, course.look_up(values))))
                with torch.no_grad():
                    losses.append(outer_loss(course, values).item())
            job = replace(study.job, branches=self._with(self._copy()))
            written = descend(self.base, job, loop, random.Random(f"{self.config.seed}:validation:{i}"))
            found = [*losses, *wrong, written.steps, len(study.batch.targets_M)]
            sums += torch.tensor(found, device=sums.device, dtype=torch.float64)
        before, after, wrong_before, wrong_after, steps, tokens = self.processes.total([sums])[0].tolist()
        count = len(self.held)
        return Point(step, before / count, after / count, 1 - wrong_before / tokens, 1 - wrong_after / tokens,
                     steps / count)  # fmt: skip

    def _study(self, passage: Passage) -> StudyPassage:
        if passage not in self.known:
            self.known[passage] = study_passage(self.base, passage, self.ttt, min(self.branches))
        return self.known[passage]

    def _course(self, study: StudyPassage) -> Course:
        return Course(self.base, self.branches, study.job.alpha, study.batch, study.job.stop_ids)

    def _drawn(self, number: int) -> Passage:
        """The passage that is drawn as this one: each once in every round, in an order by the seed and the round."""
        rounds, place = divmod(number, len(self.train))
        order = list(range(len(self.train)))
        random.Random(f"{self.config.seed}:order:{rounds}").shuffle(order)
        return self.train[order[place]]

    def _copy(self) -> list[Tensor]:
        return [w.detach().clone() for w in self.values.values()]

    def _restore(self, run: Checkpoint) -> None:
        with torch.no_grad():
            for weight, kept in zip(self.values.values(), run.weights, strict=True):
                weight.copy_(kept)
        for weight, moments in zip(self.values.values(), run.moments, strict=False):  # none before the first step
            # The count of steps stays where the optimizer keeps it: with fused updates, on the weight's device.
            self.optimizer.state[weight] = {name: tensor.to(weight.device) for name, tensor in moments.items()}

    def _start(self, run: Checkpoint) -> Start:
        best = min(run.curve, key=lambda p: p.loss) if run.curve else None
        facts = {**self.facts, "steps": run.step, "best": asdict(best) if best else None}
        return Start.of(self.base, self._with(run.best), facts)

    def _with(self, values: list[Tensor]) -> dict[int, NeuronBranch]:
        """The branches with these values."""
        branches = copy.deepcopy(self.branches)
        for branch, value_KD in zip(branches.values(), values, strict=True):
            branch.down_KD.data = value_KD.to(self.base.device)
        return branches


def first_branches(base: BaseModel, ttt: TTTConfig, texts: list[str]) -> dict[int, NeuronBranch]:
    """Return branches with values of zero in the neurons that the first of these texts access most."""
    blocks = blocks_with_branches(base, ttt)
    counts: dict[int, Tensor] = {}
    for text in texts[:_CHOOSING_TEXTS]:
        for block, count_I in neuron_accesses(base, base.encode(text), blocks).items():
            counts[block] = counts[block] + count_I if block in counts else count_I
    branches = {}
    for block in blocks:
        parts = mlp_parts(base.mlp(block))
        wanted = min(ttt.neurons or parts.intermediate_size, parts.intermediate_size)
        branches[block] = NeuronBranch(parts, top_neurons(counts[block].double(), wanted))
    return branches
