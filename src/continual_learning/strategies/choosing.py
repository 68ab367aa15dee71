"""Strategy ``auto``: which strategy suits these documents on this base.

`choose` is a function of what is wanted and of what each strategy costs, both given; `app.automatic` measures the
documents and fetches the costs. Nothing here imports PyTorch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from continual_learning.errors import InputError
from continual_learning.options import StrategyConfig
from continual_learning.text.words import several

F1_NOISE = 0.03
"""Differences in token F1 up to this are noise: the 95% intervals in benchmarks/README.md are wider."""
LEAST_KEPT = 0.9
"""A strategy that keeps a smaller share of the general questions that the base answers is never chosen."""

Limit = Literal["auto.keep_text", "auto.seconds", "length", "base", "quality", "not measured"]
"""What rules a strategy out."""

_REMEDIES: dict[Limit, str] = {
    "auto.keep_text": "allow the text with auto.keep_text: true",
    "auto.seconds": "raise auto.seconds",
    "length": "learn shorter documents",
    "base": "make what the base lacks with `continual-learning model prepare`",
    "quality": "take another base",
    "not measured": "measure it with `continual-learning compare`",
}


class AutoConfig(StrategyConfig):
    """What strategy `auto` goes by when it chooses the strategy of a new memory."""

    uses: int = Field(10, ge=1)
    """Questions that will be asked about each document: the more, the more a fast answer makes up for slow
    learning."""
    keep_text: bool = True
    """Whether the memory may keep the text itself. With false, only strategies that do not are considered."""
    seconds: float | None = Field(None, gt=0)
    """Maximum seconds that learning a document may take. None: no limit."""


@dataclass(frozen=True)
class Candidate:
    """What a strategy would do with the documents: estimates for this machine and base."""

    strategy: str
    learn_seconds: float
    """Seconds to learn all documents."""
    longest_seconds: float
    """Seconds to learn the longest of them."""
    answer_seconds: float
    """Seconds per question."""
    bytes: int
    """Size of the memory."""
    prompt_tokens: int
    """Tokens of the documents that are read for a question."""
    keeps_text: bool
    f1: float | None
    """Measured token F1 of its answers; None if it was not measured on documents."""
    general_kept: float = 1.0
    """Measured share of the general questions that the base still answers after learning a document."""
    too_long: str = ""
    """Why the documents are too long for it; empty if they are not."""
    lacks: str = ""
    """What it needs and the base lacks; empty if nothing."""


@dataclass(frozen=True)
class Considered:
    """A candidate and the verdict on it."""

    candidate: Candidate
    total_seconds: float
    """Learning the documents and answering all questions about them."""
    ruled_out: tuple[tuple[Limit, str], ...] = ()
    """Every limit that rules it out, with the reason."""


@dataclass(frozen=True)
class Chosen:
    """The strategy chosen, why, and what the others would cost."""

    strategy: str
    reason: str
    """One line."""
    considered: tuple[Considered, ...]
    """All strategies: the one chosen first, then those that could have been, then those ruled out."""


def choose(candidates: Sequence[Candidate], wanted: AutoConfig, documents: int, unlearned_f1: float = 0.0) -> Chosen:
    """Choose the strategy with the best measured F1; of those within the noise of it, the one with the fewest seconds.

    One whose F1 was not measured is chosen only if no other is left. ``documents``: how many there are.
    ``unlearned_f1``: the F1 of the base without any memory, which a strategy must exceed by more than the noise.
    Raises InputError, one line, if every strategy is ruled out.
    """
    considered = consider(candidates, wanted, documents, unlearned_f1)
    fit = [each for each in considered if not each.ruled_out]
    fit = fit or [each for each in considered if {limit for limit, _ in each.ruled_out} == {"not measured"}]
    if not fit:
        raise _nothing_left(considered, wanted)
    best = max(fit, key=_f1)
    near = [each for each in fit if _f1(each) >= _f1(best) - F1_NOISE]
    chosen = min(near, key=lambda each: each.total_seconds)  # of equals the first
    others = sorted((each for each in considered if each is not chosen), key=lambda each: (each not in fit, -_f1(each)))
    return Chosen(chosen.candidate.strategy, _reason(chosen, best, near, wanted), (chosen, *others))


def consider(
    candidates: Sequence[Candidate], wanted: AutoConfig, documents: int, unlearned_f1: float = 0.0
) -> list[Considered]:
    """Each candidate with its total seconds and all that rules it out, in the same order."""
    return [
        Considered(
            each,
            each.learn_seconds + wanted.uses * documents * each.answer_seconds,
            tuple(_ruled_out(each, wanted, unlearned_f1)),
        )
        for each in candidates
    ]


def _ruled_out(candidate: Candidate, wanted: AutoConfig, unlearned_f1: float) -> list[tuple[Limit, str]]:
    found: list[tuple[Limit, str]] = []
    if candidate.keeps_text and not wanted.keep_text:
        found.append(("auto.keep_text", "it keeps the text"))
    if wanted.seconds is not None and candidate.longest_seconds > wanted.seconds:
        found.append(
            ("auto.seconds", f"{candidate.longest_seconds:.0f} s for the longest document, over {wanted.seconds:g}")
        )
    if candidate.too_long:
        found.append(("length", candidate.too_long))
    if candidate.lacks:
        found.append(("base", candidate.lacks))
    if candidate.f1 is None:
        found.append(("not measured", "its F1 on this kind of base was not measured"))
    elif candidate.f1 <= unlearned_f1 + F1_NOISE:
        found.append(("quality", f"F1 {candidate.f1:.2f}, {unlearned_f1:.2f} without a memory"))
    if candidate.general_kept < LEAST_KEPT:
        found.append(("quality", f"only {candidate.general_kept:.0%} of general questions still answered"))
    return found


def _f1(considered: Considered) -> float:
    return considered.candidate.f1 or 0.0


def _reason(chosen: Considered, best: Considered, near: Sequence[Considered], wanted: AutoConfig) -> str:
    total = f"{chosen.total_seconds:,.0f} s in all with {several(wanted.uses, 'question')} a document"
    if chosen.candidate.f1 is None:
        return f"nothing else is left, though its F1 on this kind of base was not measured; {total}"
    f1 = f"F1 {_f1(chosen):.2f}"
    if len(near) == 1:
        return f"{f1}, the best of those that fit; {total}"
    if chosen is best:
        return f"{f1}, the best of those that fit, and the fastest of {len(near)} as good: {total}"
    better = f"{best.candidate.strategy}, {_f1(best):.2f}"
    return f"{f1}, as good as the best ({better}) but for noise, and the fastest of {len(near)}: {total}"


def _nothing_left(considered: Sequence[Considered], wanted: AutoConfig) -> InputError:
    never = {"quality", "not measured"}  # such strategies would not be chosen without the limits either
    able = [each for each in considered if not never & {limit for limit, _ in each.ruled_out}] or considered
    [(limit, count)] = Counter(limit for each in able for limit, _ in each.ruled_out).most_common(1)
    shown = {"auto.keep_text": f"{limit} = false", "auto.seconds": f"{limit} = {wanted.seconds}"}.get(limit, limit)
    reasons = [f"{each.candidate.strategy}: {why}" for each in able for at, why in each.ruled_out if at == limit]
    return InputError(
        f"strategy auto: no strategy is left; {shown} rules out {count} of {len(able)} ({'; '.join(reasons)}); "
        f"{_REMEDIES[limit]}, or name a strategy"
    )
