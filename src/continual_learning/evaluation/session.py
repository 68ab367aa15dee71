"""Many sequences one after another: estimated time, progress, and what could not be run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from continual_learning.app.estimate import Estimate, duration, record_speeds, recorded_speeds
from continual_learning.errors import ContinualLearningError
from continual_learning.evaluation.contender import Contender
from continual_learning.evaluation.sequence import LearningSequence, SequenceRunner
from continual_learning.evaluation.summary import Done, Task
from continual_learning.types import Progress, ProgressCallback


def run_tasks(
    runner: SequenceRunner, tasks: Sequence[Task], estimate: Estimate, progress: ProgressCallback | None
) -> tuple[list[Done], list[tuple[Contender, ContinualLearningError]]]:
    """Run all tasks. A contender that cannot run is left out, with its error; the rest continue.

    ``progress`` counts in hundredths of the expected time. Raises the error if no contender could run.
    """
    clock = _Clock(runner, tasks, estimate, progress)
    done: list[Done] = []
    failed: list[tuple[Contender, ContinualLearningError]] = []
    for number, task in enumerate(tasks):
        contender = task.plan.contender
        if any(contender == out for out, _ in failed):
            continue
        clock.start(number)
        try:
            steps = runner.run(task.plan, clock.step, clock.within)
        except ContinualLearningError as error:
            failed.append((contender, error))
            done = [d for d in done if d.task.plan.contender != contender]
            clock.skip(contender)
            continue
        done.append(Done(task, steps))
    if failed and not done:
        raise failed[0][1]
    return done, failed


class _Clock:
    """Expected and actual seconds of each step that is still to run."""

    def __init__(
        self, runner: SequenceRunner, tasks: Sequence[Task], estimate: Estimate, progress: ProgressCallback | None
    ):
        self._runner, self._tasks, self._estimate, self._progress = runner, tasks, estimate, progress
        estimate.speeds |= recorded_speeds(runner.base)
        self._open = {
            (number, step): self._expected(task.plan, step)
            for number, task in enumerate(tasks)
            for step in range(len(runner.cached(task.plan)), len(task.plan.documents) + 1)
        }
        self._total = sum(self._open.values()) or 1.0
        self._finished, self._spent = 0.0, 0.0
        self._task, self._at = 0, 0
        self._started = time.perf_counter()
        if progress:
            known = sum(len(t.plan.documents) + 1 for t in tasks) - len(self._open)
            text = f"about {duration(sum(self._open.values()))}" if self._open else "nothing left to measure"
            if known:
                text += f"; {known} {'step is' if known == 1 else 'steps are'} known already"
            progress(Progress("plan", 0, 100, text))

    def start(self, number: int) -> None:
        """Note that the task with this number starts."""
        self._task = number
        steps = [step for task, step in self._open if task == number]
        self._at = min(steps, default=0)
        self._started = time.perf_counter()
        self.within(None)

    def step(self, step: int, result: dict[str, Any]) -> None:
        """Note that one of its steps is done."""
        task = self._tasks[self._task]
        name, seconds = task.plan.contender.strategy, time.perf_counter() - self._started
        learned, answers = result.get("learn"), result.get("answers", [])
        if learned and learned["tokens"]:
            self._estimate.learned(name, learned["tokens"], learned["seconds"])
        if answers:
            self._estimate.answered(name, len(answers), sum(a["seconds"] for a in answers))
        record_speeds(self._runner.base, self._estimate.speeds)
        self._finished += self._open.pop((self._task, step), 0.0)
        self._spent += seconds
        self._started = time.perf_counter()
        self._at = step + 1
        self.within(None)

    def skip(self, contender: Contender) -> None:
        """Drop a contender that cannot run."""
        for number, task in enumerate(self._tasks):
            if task.plan.contender == contender:
                for step in range(len(task.plan.documents) + 1):
                    self._total -= self._open.pop((number, step), 0.0)

    def within(self, inner: Progress | None) -> None:
        """Report progress within the current step, if anyone listens."""
        if self._progress is None:
            return
        plan = self._tasks[self._task].plan
        step = self._open.get((self._task, self._at), 0.0)
        share = inner.done / inner.total if inner and inner.total and inner.stage == "learn" else 0.0
        done = self._finished + share * step
        # The time spent so far corrects the estimate as soon as a step is finished.
        pace = self._spent / self._finished if self._finished else 1.0
        left = max(0.0, self._total - done) * pace
        alone = sum(t.plan.contender == plan.contender and t.plan.seed == plan.seed for t in self._tasks)
        document = self._at if len(plan.documents) > 1 else self._number_of(plan)
        of = max(len(plan.documents), alone)
        text = f"document {min(max(1, document), of)}/{of}, about {duration(left)} left"
        self._progress(Progress(plan.contender.strategy, round(100 * done / max(self._total, 1e-9)), 100, text))

    def _number_of(self, plan: LearningSequence) -> int:
        same = [t.plan for t in self._tasks if t.plan.contender == plan.contender and t.plan.seed == plan.seed]
        return 1 + next(i for i, other in enumerate(same) if other is plan)

    def _expected(self, plan: LearningSequence, step: int) -> float:
        name, base = plan.contender.strategy, self._runner.base
        seconds = self._estimate.learn(name, len(base.encode(plan.documents[step - 1].text))) if step else 0.0
        if plan.count_flops and step == 1:
            seconds *= 2
        asked = len(plan.asked_after(step))
        asked += len(plan.holdout) if plan.asks_holdout(step) else 0
        seconds += self._estimate.answer(name, asked)
        return seconds + (self._estimate.retention(name) if step in plan.retention_after else 0.0)
