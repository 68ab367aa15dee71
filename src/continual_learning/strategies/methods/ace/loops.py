"""The loops: offline, online, evaluation; generate, reflect, curate, and keep only what does no harm.

Zhang et al. 2025 (arXiv 2510.04618), section 3: a wrong answer is reflected on, for several rounds with new attempts;
entries that were used are tagged; the curator turns insights into operations. Here this is done in batches of
questions: first the answers, then one patch. Every change of a loop is judged on held-out questions before it counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from continual_learning.errors import InputError
from continual_learning.strategies.methods.ace.memory import Task
from continual_learning.strategies.methods.ace.patch import Operation, Rejected, apply
from continual_learning.strategies.methods.ace.playbook import Origin, Playbook
from continual_learning.strategies.methods.ace.refine import (
    DUPLICATE_SIMILARITY,
    PLAYBOOK_TOKENS,
    Similarity,
    playbook_tokens,
    prune,
)
from continual_learning.strategies.methods.ace.roles import Attempt, Reflection, Roles
from continual_learning.text.scoring import contains_answer, token_f1
from continual_learning.types import Progress, ProgressCallback

PATIENCE = 2
"""Passes without a better playbook after which learning stops early: one may be bad luck."""
BATCH_QUESTIONS = 8
"""Questions that are answered before the playbook changes: one batched call of the model."""


@dataclass(frozen=True)
class Score:
    """How well questions with known answers are answered."""

    right: tuple[bool, ...]
    f1s: tuple[float, ...]

    @property
    def recall(self) -> float:
        """Share of the answers that contain an accepted one; 0 if there are no answers."""
        return sum(self.right) / len(self.right) if self.right else 0.0

    @property
    def f1(self) -> float:
        """Mean of SQuAD's F1; 0 if there are no answers."""
        return sum(self.f1s) / len(self.f1s) if self.f1s else 0.0


@dataclass(frozen=True)
class BatchResult:
    """The result of learning from one batch."""

    playbook: Playbook
    attempts: tuple[Attempt, ...]
    """The answers before anything was learned from them."""
    failures: tuple[str, ...]
    """Replies that could not be used, one line each; they changed nothing."""
    rejected: tuple[Rejected, ...]
    applied: int
    pruned: tuple[str, ...]


@dataclass(frozen=True)
class LoopReport:
    """One pass over the questions, or one batch of the online loop."""

    loop: int
    recall: float | None
    """Recall of the questions learned from, answered before each batch was learned; None if no answers are known."""
    validation: float | None
    """Recall of the held-out questions after the pass."""
    validation_f1: float | None
    kept: bool
    entries: int
    playbook_tokens: int
    applied: int
    rejected: int
    pruned: int
    failures: tuple[str, ...]
    costs: dict[str, dict[str, float]]
    """By role: calls, prompt_tokens, tokens, seconds, repaired, retried, failed."""
    seconds: float


@dataclass(frozen=True)
class LearnResult:
    """The result of a loop."""

    playbook: Playbook
    """The playbook to keep; the very object that the loop began with if nothing better was found."""
    last: Playbook
    """The playbook that the last pass ended with, kept or not: what was tried."""
    reports: tuple[LoopReport, ...]
    before: Score | None
    """Score on the held-out questions, with the playbook that the loop began with."""
    after: Score | None
    stopped: str
    """Why it ended, in a few words."""

    @property
    def failures(self) -> tuple[str, ...]:
        """The failures of all passes."""
        return tuple(f for report in self.reports for f in report.failures)


def evaluate(roles: Roles, playbook: Playbook, tasks: Sequence[Task]) -> Score:
    """Answer and grade; nothing is learned. Raises InputError for a question without an answer to grade by."""
    for task in tasks:
        if not task.labelled:
            raise InputError(f"question {task.qa.question[:60]!r} has no answer; expected one to grade by")
    attempts = roles.generate(playbook, tasks) if tasks else []
    return Score(
        tuple(contains_answer(a.answer, a.task.qa.answers) for a in attempts),
        tuple(token_f1(a.answer, a.task.qa.answers) for a in attempts),
    )


def learn_batch(roles: Roles, playbook: Playbook, tasks: Sequence[Task], loop: int) -> BatchResult:
    """Answer the questions, reflect on the wrong ones and those not graded, and apply one patch."""
    config = roles.config
    attempts = roles.generate(playbook, tasks)
    failures = [f"generator: {a.task.qa.question}: {a.error}" for a in attempts if a.error]
    insights, tags, reflect_failures = _insights(roles, playbook, attempts)
    failures += reflect_failures
    if not config.on_server:  # the base is too small to judge its own entries
        tags = _outcome_tags(roles, attempts)
    operations = [
        Operation("TAG", (entry,), tag=tag, origin=Origin(attempt.task.document, attempt.task.qa.question, loop))
        for attempt, entry, tag in tags
        if tag != "neutral"
    ]
    if config.curator and insights:
        for (attempt, _), (found, error) in zip(insights, roles.curate(playbook, insights, loop), strict=True):
            operations += found
            if error:
                failures.append(f"curator: {attempt.task.qa.question}: {error}")
    elif insights:
        section = "strategies" if config.reflector else "facts"
        operations += [
            Operation("ADD", (), section, text, origin=Origin(a.task.document, a.task.qa.question, loop))
            for a, text in insights
        ]
    similarity = Similarity.default()
    used = {entry.id for attempt in attempts for entry in attempt.shown}
    done = apply(
        playbook,
        operations,
        lambda text, entries: similarity.duplicate(text, entries, DUPLICATE_SIMILARITY),
        sorted(used),
    )
    kept, pruned = prune(done.playbook, config.max_strategies, PLAYBOOK_TOKENS, roles.count_tokens)
    return BatchResult(kept, tuple(attempts), tuple(failures), done.rejected, len(done.applied), pruned)


def offline(
    roles: Roles,
    playbook: Playbook,
    train: Sequence[Task],
    validation: Sequence[Task],
    progress: ProgressCallback | None = None,
    patience: int = PATIENCE,
) -> LearnResult:
    """Make several passes over the same questions; keep the best playbook, and stop after passes without a better one.

    Better is a higher recall of the held-out questions, then of the questions learned from, then a higher F1; never
    a lower recall of the held-out questions than at the beginning.
    """
    config = roles.config
    before = evaluate(roles, playbook, validation)
    rank = _rank(before, evaluate(roles, playbook, [t for t in train if t.labelled]))
    best, best_score, current, stale = playbook, before, playbook, 0
    reports: list[LoopReport] = []
    stopped = f"all {config.loops} loops were run"
    for loop in range(1, config.loops + 1):
        watch = _Watch(roles)
        results: list[BatchResult] = []
        for number, batch in enumerate(_batches(train, BATCH_QUESTIONS)):
            results.append(learn_batch(roles, current, batch, loop))
            current = results[-1].playbook
            _tell(progress, f"loop {loop}", (number + 1) * BATCH_QUESTIONS, len(train))
        score = evaluate(roles, current, validation)
        found = _rank(score, evaluate(roles, current, [t for t in train if t.labelled]))
        better = found > rank
        if better:
            best, best_score, rank, stale = current, score, found, 0
        else:
            stale += 1
        reports.append(watch.report(loop, results, score, better, current))
        if not any(result.applied for result in results):
            stopped = f"loop {loop} changed nothing"
            break
        if stale >= patience:
            stopped = f"{stale} loops without a better playbook"
            break
    return LearnResult(best, current, tuple(reports), before, best_score, stopped)


def online(
    roles: Roles,
    playbook: Playbook,
    tasks: Sequence[Task],
    held_out: Sequence[Task] = (),
    progress: ProgressCallback | None = None,
) -> LearnResult:
    """Answer each batch first, which gives its recall, and then learn from it.

    With held-out questions a batch's change is kept only if they are answered no worse. Raises InputError for
    questions without answers if there are no held-out ones: what a model thinks of its own answers may be wrong (the
    paper's FiNER falls from 70.7 to 67.3 without labels).
    """
    if not held_out and not all(task.labelled for task in tasks):
        raise InputError(
            "questions without answers and 0 held-out ones to judge by; expected some with answers: add --held-out"
        )
    if not roles.config.reflector and not all(task.labelled for task in tasks):
        raise InputError("questions without answers and reflector = false leave nothing to learn from; switch it on")
    before = after = evaluate(roles, playbook, held_out) if held_out else None
    reports: list[LoopReport] = []
    tried = playbook
    for number, batch in enumerate(_batches(tasks, BATCH_QUESTIONS), 1):
        watch = _Watch(roles)
        result = learn_batch(roles, playbook, batch, number)
        score = evaluate(roles, result.playbook, held_out) if held_out else None
        tried = result.playbook
        kept = score is None or after is None or (score.recall, score.f1) >= (after.recall, after.f1)
        if kept:
            playbook, after = result.playbook, score
        reports.append(watch.report(number, [result], score, kept, playbook))
        _tell(progress, "online", number * BATCH_QUESTIONS, len(tasks))
    return LearnResult(playbook, tried, tuple(reports), before, after, f"{len(tasks)} questions were answered")


def _insights(
    roles: Roles, playbook: Playbook, attempts: Sequence[Attempt]
) -> tuple[list[tuple[Attempt, str]], list[tuple[Attempt, str, str]], list[str]]:
    """Return what is to be learned from which attempt, the reflector's tags, and what failed."""
    config = roles.config
    wrong = [a for a in attempts if not a.error and not _right(a)]
    if not config.reflector:
        return [(a, _fact(a)) for a in wrong if a.task.labelled], [], []
    insights: list[tuple[Attempt, str]] = []
    tags: list[tuple[Attempt, str, str]] = []
    failures: list[str] = []
    pending = wrong
    # A right answer is reflected on too, once, but only where there is an entry to tag.
    if config.on_server:
        right = [a for a in attempts if a.task.labelled and a.used and _right(a)]
        for attempt, reflection in zip(right, roles.reflect(right) if right else (), strict=True):
            tags += [(attempt, entry, tag) for entry, tag in reflection.tags]
            if reflection.error:
                failures.append(f"reflector: {attempt.task.qa.question}: {reflection.error}")
    last: dict[str, tuple[Attempt, Reflection]] = {}
    for rounds_left in range(config.reflection_rounds - 1, -1, -1):
        reflections = roles.reflect(pending) if pending else []
        for attempt, reflection in zip(pending, reflections, strict=True):
            if reflection.error:
                failures.append(f"reflector: {attempt.task.qa.question}: {reflection.error}")
            else:
                tags += [(attempt, entry, tag) for entry, tag in reflection.tags]
                last[attempt.task.qa.question] = (attempt, reflection)
        usable = [(a, r) for a, r in zip(pending, reflections, strict=True) if not r.error and a.task.labelled]
        if not rounds_left or not usable:
            break
        again = roles.generate(playbook, [a.task for a, _ in usable], [r.insight for _, r in usable])
        pending = [a for a in again if not a.error and not _right(a)]
    insights = [(attempt, reflection.insight) for attempt, reflection in last.values()]
    return insights, tags, failures


def _outcome_tags(roles: Roles, attempts: Sequence[Attempt]) -> list[tuple[Attempt, str, str]]:
    """Tag entries helpful if the answer is right with the playbook and wrong without, harmful the other way round."""
    graded = [a for a in attempts if a.task.labelled and a.used and not a.error]
    bare = roles.generate(Playbook(), [a.task for a in graded]) if graded else []
    tags: list[tuple[Attempt, str, str]] = []
    for attempt, without in zip(graded, bare, strict=True):
        if _right(attempt) != _right(without):
            tags += [(attempt, entry, "helpful" if _right(attempt) else "harmful") for entry in attempt.used]
    return tags


def _right(attempt: Attempt) -> bool:
    return bool(attempt.task.qa.answers) and contains_answer(attempt.answer, attempt.task.qa.answers)


def _fact(attempt: Attempt) -> str:
    """Return what is learned without a reflector: the question with its answer."""
    return f"{attempt.task.qa.question} {attempt.task.qa.answers[0]}"


def _rank(validation: Score, train: Score) -> tuple[float, float, float]:
    return validation.recall, train.recall, validation.f1


def _batches(tasks: Sequence[Task], size: int) -> Iterator[Sequence[Task]]:
    for start in range(0, len(tasks), size):
        yield tasks[start : start + size]


def _tell(progress: ProgressCallback | None, stage: str, done: int, total: int) -> None:
    if progress is not None:
        progress(Progress(stage, min(done, total), total))


class _Watch:
    """The costs of a pass: the difference between the roles' counts after and before it."""

    def __init__(self, roles: Roles):
        self._roles = roles
        self._started = time.perf_counter()
        self._costs = {role: asdict(cost) for role, cost in roles.costs.items()}

    def report(
        self, loop: int, results: Sequence[BatchResult], score: Score | None, kept: bool, playbook: Playbook
    ) -> LoopReport:
        graded = [_right(a) for result in results for a in result.attempts if a.task.labelled]
        costs: dict[str, dict[str, Any]] = {
            role: {key: value - self._costs[role][key] for key, value in asdict(cost).items()}
            for role, cost in self._roles.costs.items()
        }
        return LoopReport(
            loop=loop,
            recall=sum(graded) / len(graded) if graded else None,
            validation=None if score is None else score.recall,
            validation_f1=None if score is None else score.f1,
            kept=kept,
            entries=len(playbook),
            playbook_tokens=playbook_tokens(playbook, self._roles.count_tokens),
            applied=sum(result.applied for result in results),
            rejected=sum(len(result.rejected) for result in results),
            pruned=sum(len(result.pruned) for result in results),
            failures=tuple(f for result in results for f in result.failures),
            costs=costs,
            seconds=time.perf_counter() - self._started,
        )
