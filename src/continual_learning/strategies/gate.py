"""Did learning make the model worse? What it knew before, and whether it learned anything at all.

The questions and texts ship with the package and share no topic with any calibration data. If a memory is
known not to affect a probe (`Strategy.affects`), the outcome is the base's by construction and is not
computed again; every other probe is run.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from continual_learning.documents.shipped import general_questions, unrelated_texts
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.reading.own_answers import kept_answers
from continual_learning.strategies.base import Strategy
from continual_learning.text.scoring import contains_answer
from continual_learning.types import LearnReport, Progress, ProgressCallback, QuestionAnswer

ANSWER_TOKENS = 24


@dataclass(frozen=True)
class Limits:
    """How much degradation is too much."""

    min_recall_gain: float = 0.0
    """Recall on the document's probes must rise by more than this."""
    max_perplexity_rise: float = 0.03
    """Relative rise of the perplexity of unrelated text."""
    min_general_kept: float = 0.95
    """Share of the general questions the base answered right that must still be right."""


Addition = Callable[[State], tuple[State, LearnReport]]
"""Gives the state with one more document, and the report so far."""

LIMITS = Limits()
"""The limits of every strategy with a guard."""


@dataclass(frozen=True)
class Retention:
    """How much of what the base knew is left."""

    general_kept: float | None
    """Share of the general questions the base answered right that are still right; None if it had none right."""
    perplexity_change: float
    """Relative change of the perplexity of unrelated text."""


@dataclass(frozen=True)
class BeforeAndAfter:
    """What the base alone does, and what the model with its memory does: the whole of what `Retention` sums up."""

    right_before: tuple[bool, ...]
    """For each general question, whether the base alone answers it right."""
    right_after: tuple[bool, ...]
    """The same with the memory, in the same order."""
    perplexity_before: float
    """Perplexity of unrelated text by the base alone."""
    perplexity_after: float

    @property
    def retention(self) -> Retention:
        """How much of what the base knew is left."""
        known = sum(self.right_before)
        lost = sum(before and not after for before, after in zip(self.right_before, self.right_after, strict=True))
        change = self.perplexity_after / self.perplexity_before - 1.0
        return Retention(1.0 - lost / known if known else None, change)


def perplexity(base: BaseModel, strategy: Strategy[Any], state: State, texts: Sequence[str]) -> float:
    """Perplexity of the model with its memory in place: exp of the mean loss over all tokens of all texts."""
    total, count = 0.0, 0
    for text in texts:
        with strategy.adapted(base, state, text):
            nll, tokens = base.token_nll([text], context=strategy.context(base, state, text))
        total += nll
        count += tokens
    return math.exp(total / count) if count else math.nan


def base_perplexity(base: BaseModel, texts: Sequence[str]) -> float:
    """Perplexity of the base alone, computed once for the same texts."""
    nll, tokens = base.remember(("text nll", tuple(texts)), lambda: base.token_nll(list(texts)))
    return math.exp(nll / tokens)


def retention(
    base: BaseModel,
    strategy: Strategy[Any],
    state: State,
    questions: Sequence[QuestionAnswer],
    texts: Sequence[str],
) -> Retention:
    """Compare the model with its memory against the base alone."""
    return Retention(_general_kept(base, strategy, state, questions), _perplexity_change(base, strategy, state, texts))


def before_and_after(
    base: BaseModel,
    strategy: Strategy[Any],
    state: State,
    questions: Sequence[QuestionAnswer],
    texts: Sequence[str],
) -> BeforeAndAfter:
    """As `retention`, with every question asked, including those that the base gets wrong."""
    before = _base_right(base, questions)
    touched = [strategy.affects(base, state, q.question) for q in questions]
    asked = [q for q, t in zip(questions, touched, strict=True) if t]
    answers = strategy.answer(base, state, [q.question for q in asked], ANSWER_TOKENS) if asked else []
    found = iter([contains_answer(a.claim, q.answers) for q, a in zip(asked, answers, strict=True)])
    after = tuple(next(found) if t else b for b, t in zip(before, touched, strict=True))
    alone = base_perplexity(base, texts)
    return BeforeAndAfter(before, after, alone, alone * (1.0 + _perplexity_change(base, strategy, state, texts)))


def _base_right(base: BaseModel, questions: Sequence[QuestionAnswer]) -> tuple[bool, ...]:
    answers = kept_answers(base, [q.question for q in questions], ANSWER_TOKENS)
    return tuple(contains_answer(a.claim, q.answers) for a, q in zip(answers, questions, strict=True))


def _general_kept(
    base: BaseModel, strategy: Strategy[Any], state: State, questions: Sequence[QuestionAnswer]
) -> float | None:
    touched = [strategy.affects(base, state, q.question) for q in questions]
    if not any(touched):
        return 1.0
    right = _base_right(base, questions)
    if not any(right):
        return None
    asked = [q for q, r, t in zip(questions, right, touched, strict=True) if r and t]
    return 1.0 - _answered_right(base, strategy, state, asked).count(False) / sum(right)


# What each strategy answered before, right or not, by all that the answers depend on. The check after every document
# of a large memory then asks only what that document changed.
_known: weakref.WeakKeyDictionary[Strategy[Any], dict[Hashable, bool]] = weakref.WeakKeyDictionary()


def _answered_right(
    base: BaseModel, strategy: Strategy[Any], state: State, questions: Sequence[QuestionAnswer]
) -> list[bool]:
    known = _known.setdefault(strategy, {})
    keys = [strategy.answer_key(base, state, q.question) for q in questions]
    places = [(base.fingerprint, key, q) for key, q in zip(keys, questions, strict=True)]
    new = [n for n, place in enumerate(places) if keys[n] is None or place not in known]
    answers = strategy.answer(base, state, [questions[n].question for n in new], ANSWER_TOKENS) if new else []
    right = {n: contains_answer(a.claim, questions[n].answers) for n, a in zip(new, answers, strict=True)}
    known |= {places[n]: found for n, found in right.items() if keys[n] is not None}
    return [right[n] if n in right else known[place] for n, place in enumerate(places)]


def _perplexity_change(base: BaseModel, strategy: Strategy[Any], state: State, texts: Sequence[str]) -> float:
    if not any(strategy.affects(base, state, text) for text in texts):
        return 0.0
    return perplexity(base, strategy, state, texts) / base_perplexity(base, texts) - 1.0


def guarded(
    base: BaseModel,
    strategy: Strategy[Any],
    before: State,
    after: State,
    report: LearnReport,
    qa: Sequence[QuestionAnswer],
    progress: ProgressCallback | None = None,
) -> LearnReport:
    """The report with its verdict within `LIMITS`. See `check`."""
    if progress:
        progress(Progress("check", 0, 1, "what the model knew before"))
    return check(base, strategy, before, after, report, qa, LIMITS)


def check(
    base: BaseModel,
    strategy: Strategy[Any],
    before: State,
    after: State,
    report: LearnReport,
    qa: Sequence[QuestionAnswer],
    limits: Limits,
) -> LearnReport:
    """The report with its verdict: accepted if recall rose and nothing else got worse than the limits.

    Recall is measured on the given questions if there are any, else on the probes in ``report``.
    """
    if qa:
        questions = [q.question for q in qa]
        report = replace(
            report,
            recall_before=_recall(strategy, base, before, questions, qa),
            recall_after=_recall(strategy, base, after, questions, qa),
        )
    return _verdict(report, _shipped_retention(base, strategy, after), limits)


def check_all(
    base: BaseModel,
    strategy: Strategy[Any],
    state: State,
    additions: Sequence[Addition],
    qa: Sequence[QuestionAnswer],
    limits: Limits,
) -> list[tuple[State, LearnReport]]:
    """Add documents to a state: after each, the state with all that were accepted, and its report.

    The state that has them all is checked, and none of those between; if that refuses any, each is checked by itself,
    as by `check`. With ``qa`` there is one document. The seconds of the checks are added to the reports'.
    """
    spent = 0.0
    if len(additions) > 1:
        began = time.perf_counter()
        added, last = [], state
        for add in additions:
            last, report = add(last)
            added.append((last, report))
        if all(_gained(report, limits) for _, report in added):
            kept = _shipped_retention(base, strategy, last)
            verdicts = [_verdict(report, kept, limits) for _, report in added]
            share = (time.perf_counter() - began) / len(added)
            if all(report.accepted for report in verdicts):
                return [(held, _timed(report, share)) for (held, _), report in zip(added, verdicts, strict=True)]
            spent = share
    results = []
    for add in additions:
        began = time.perf_counter()
        candidate, report = add(state)
        report = check(base, strategy, state, candidate, report, qa, limits)
        report = _timed(report, spent + time.perf_counter() - began)
        state = candidate if report.accepted else state
        results.append((state, report))
    return results


def _timed(report: LearnReport, seconds: float) -> LearnReport:
    return replace(report, seconds=report.seconds + seconds, timings={**report.timings, "retention": seconds})


def _shipped_retention(base: BaseModel, strategy: Strategy[Any], state: State) -> Retention:
    return retention(base, strategy, state, general_questions(), unrelated_texts())


def _gained(report: LearnReport, limits: Limits) -> bool:
    """Whether recall rose by more than the limit, as far as it was measured."""
    gain = (report.recall_after or 0.0) - (report.recall_before or 0.0)
    return report.recall_after is None or gain > limits.min_recall_gain


def _verdict(report: LearnReport, kept: Retention, limits: Limits) -> LearnReport:
    report = replace(report, general_kept=kept.general_kept, perplexity_change=kept.perplexity_change)
    problems = []
    if not _gained(report, limits):
        problems.append(
            f"recall of the document went from {report.recall_before:.2f} to {report.recall_after:.2f}, expected a rise"
            + (f" of more than {limits.min_recall_gain:.2f}" if limits.min_recall_gain else "")
        )
    if not kept.perplexity_change <= limits.max_perplexity_rise:
        problems.append(
            f"perplexity of unrelated text rose by {kept.perplexity_change:.1%}, "
            f"expected at most {limits.max_perplexity_rise:.1%}"
        )
    if kept.general_kept is not None and kept.general_kept < limits.min_general_kept:
        problems.append(
            f"{kept.general_kept:.0%} of the general questions were kept, "
            f"expected at least {limits.min_general_kept:.0%}"
        )
    if problems:
        return replace(report, accepted=False, reason=f"not kept: {'; '.join(problems)}")
    return replace(report, accepted=True, reason="learned, and nothing else got worse")


def _recall(
    strategy: Strategy[Any], base: BaseModel, state: State, questions: list[str], qa: Sequence[QuestionAnswer]
) -> float:
    answers = strategy.answer(base, state, questions, ANSWER_TOKENS)
    return sum(contains_answer(a.claim, q.answers) for a, q in zip(answers, qa, strict=True)) / len(qa)
