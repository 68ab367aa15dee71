"""Feedback: what was said about an answer, and how it changes later answers, with any strategy.

A feedback is a state, an action and a return (arXiv 2601.18510): the question, the answer that was given, and a reward
from -1 to 1. A correction is worth one good and one bad: +1 on its own tokens, -1 on those of the answer that was given
from the first one that differs. When the same or a similar question is asked again, then at every step

    Q(a) = sum of w_i G_i over the feedbacks in whose state a was taken / (kappa + sum of w_i),

with w_i the similarity of the questions, faded by age, and V = 0 for what was never tried (all returns may be good
ones, and then Q - mean Q would be 0). The advantages go to the logits in closed form (`logits_processors.shifted`).
Questions that resemble none are answered as if there were no feedback.

It is kept in the state's ``extra["feedback"]``, so that it is versioned and rolled back with the memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import torch

from continual_learning.errors import InputError, UnknownNameError
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.logits_processors import Advantages, Step, shifted
from continual_learning.retrieval.routing import default_rarity, term_hash
from continual_learning.text.answer_types import asked_for
from continual_learning.text.characters import normalised
from continual_learning.text.checks import check_text
from continual_learning.text.scoring import answer_words, token_f1
from continual_learning.text.words import content_stems, is_content, words

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel

_KEY = "feedback"
_ALIKE = 0.55
"""Least similarity of two questions that ask the same (benchmarks/LOG.md)."""
_OTHER_KIND = 0.6
"""Factor on the similarity of two questions that ask for different kinds of answer."""
_STEM = 5
"""Letters of a stem that are compared: "launch" equals "launched", and "defend" equals "defence"."""
_KAPPA = 0.1
"""Shrinkage: the weight of V = 0, as of an answer never tried, against the returns."""
_BETA = 40.0
"""Logits for an advantage of 1: a user's word outweighs what the model and its memory expect."""
_BETWEEN = " / "
"""Separates the candidates in answers of earlier versions, on which a memory may hold feedback."""
_FADED = 0.02
"""A weight below this counts as zero."""


@dataclass(frozen=True)
class Feedback:
    """What was said about one answer."""

    id: str
    """``f1``, ``f2`` … within a memory, in the order in which they were given."""
    question: str
    answer: str
    reward: float
    """The reward of the answer, from -1 (bad) to 1 (good)."""
    correction: str | None
    """What the answer should have been."""
    given_at: str
    """UTC, ISO 8601."""
    documents: tuple[str, ...] | None = None
    """Ids of the documents that the answer came from; None if that is not known."""

    @property
    def positive(self) -> bool:
        """Whether it says what to answer, not only what not to."""
        return self.correction is not None or self.reward > 0


@dataclass(frozen=True)
class FeedbackMemory:
    """All feedback of a memory."""

    items: tuple[Feedback, ...] = ()
    half_life_days: float | None = None
    """Number of days after which feedback counts half; None if it does not fade."""
    given: int = 0
    """Number of feedbacks ever given, so that no id is used twice."""

    @classmethod
    def of(cls, state: State) -> FeedbackMemory:
        """The feedback that a state holds."""
        return cls.in_extra(state.meta.extra)

    @classmethod
    def in_extra(cls, extra: Mapping[str, Any]) -> FeedbackMemory:
        """The feedback in a state's extra data."""
        kept: Mapping[str, Any] = extra.get(_KEY, {})
        items = tuple(
            Feedback(**{**item, "documents": None if (ids := item.get("documents")) is None else tuple(ids)})
            for item in kept.get("items", ())
        )
        return cls(items, kept.get("half_life_days"), kept.get("given", 0))

    def in_state(self, state: State) -> State:
        """The state with this feedback in place of its own."""
        extra = {key: value for key, value in state.meta.extra.items() if key != _KEY}
        if self.given or self.half_life_days is not None:
            items = [{**asdict(i), "documents": None if i.documents is None else [*i.documents]} for i in self.items]
            extra[_KEY] = {"items": items, "half_life_days": self.half_life_days, "given": self.given}
        return State(state.tensors, replace(state.meta, extra=extra))

    def add(
        self,
        question: str,
        answer: str,
        reward: float | None,
        correction: str | None,
        documents: Sequence[str] | None = None,
    ) -> FeedbackMemory:
        """This memory with one more feedback at the end. Without a reward, a correction gives 2 F1 - 1, at most 0.

        Raises InputError for a reward outside -1 to 1, for neither reward nor correction, and for empty texts.
        """
        if correction is not None and not check_text(correction, "the correction").strip():
            raise InputError(f"the correction {correction!r} is empty; expected the right answer")
        if reward is None:
            if correction is None:
                raise InputError("neither reward nor correction was given; expected one of them")
            same = answer_words(answer) == answer_words(correction)
            reward = 1.0 if same else min(0.0, 2 * token_f1(answer, [correction]) - 1)
        if not -1 <= reward <= 1:  # NaN is outside too
            raise InputError(f"reward = {reward}; expected -1 (bad) to 1 (good)")
        if not question.strip():
            raise InputError(f"the question {question!r} is empty; expected the one that was answered")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        wanted = None if correction is None else correction.strip()
        known = None if documents is None else tuple(documents)
        item = Feedback(f"f{self.given + 1}", question.strip(), answer.strip(), float(reward), wanted, now, known)
        return replace(self, items=(*self.items, item), given=self.given + 1)

    def without(self, feedback_id: str | None = None) -> FeedbackMemory:
        """Without the last feedback, or without the one with this id. Raises UnknownNameError if it is not there."""
        wanted = feedback_id or (self.items[-1].id if self.items else "")
        if all(item.id != wanted for item in self.items):
            known = ", ".join(item.id for item in self.items) or "none"
            raise UnknownNameError(f"no feedback {wanted!r} in this memory; it holds: {known}")
        return replace(self, items=tuple(item for item in self.items if item.id != wanted))

    def forgetting(self, document: DocumentRecord) -> FeedbackMemory:
        """Without the feedback on answers that came from a document, and on those that may have come from it.

        An answer or a correction can hold what the document says, and would go on saying it.
        """
        left = tuple(
            item
            for item in self.items
            if (document.id not in item.documents if item.documents else item.given_at < document.learned_at)
        )
        # As if it had never been given, if nothing is left of it.
        return replace(self, items=left, given=self.given if left else 0)

    def fading(self, half_life_days: float | None) -> FeedbackMemory:
        """This memory with another half-life; None ends the fading. Raises InputError unless it is above 0."""
        if half_life_days is not None and not 0 < half_life_days < math.inf:
            raise InputError(f"a half-life of {half_life_days} days; expected more than 0, or none")
        return replace(self, half_life_days=half_life_days)

    def about(self, question: str, now: datetime | None = None) -> list[tuple[Feedback, float]]:
        """The feedback that concerns a question, with its weight, 0 to 1: similarity, faded by age.

        Of several feedbacks on the same question, the last correction replaces all earlier ones. If the answer to this
        very question is known, feedback on similar questions does not count.
        """
        now = now or datetime.now(UTC)
        found = []
        for item in self._standing():
            alike = likeness(question, item.question)
            weight = alike * self._kept(item, now)
            if alike >= _ALIKE and weight >= _FADED:
                found.append((item, weight))
        itself = [(item, weight) for item, weight in found if _same(item.question) == _same(question)]
        return itself if any(item.positive for item, _ in itself) else found

    def _standing(self) -> list[Feedback]:
        last: dict[str, str] = {}
        for item in self.items:
            if item.positive:
                last[_same(item.question)] = item.id
        kept: list[Feedback] = []
        passed: set[str] = set()  # questions that already have their last correction, going backwards
        for item in reversed(self.items):
            same = _same(item.question)
            if not (item.positive and same in passed):
                kept.append(item)
            if last.get(same) == item.id:
                passed.add(same)
        return kept[::-1]

    def _kept(self, item: Feedback, now: datetime) -> float:
        if self.half_life_days is None:
            return 1.0
        days = max(0.0, (now - datetime.fromisoformat(item.given_at)).total_seconds() / 86_400)
        return float(0.5 ** (days / self.half_life_days))


def likeness(a: str, b: str) -> float:
    """Similarity of two questions, 0 to 1: the cosine of their content stems, weighted by rarity.

    It is reduced if the questions ask for different kinds of answer, such as "when" and "who".
    """
    if _same(a) == _same(b):
        return 1.0
    of_a, of_b = _weights(a), _weights(b)
    shared = math.fsum(of_a[stem] * of_b[stem] for stem in sorted(of_a.keys() & of_b.keys()))
    lengths = math.sqrt(math.fsum(w * w for w in of_a.values()) * math.fsum(w * w for w in of_b.values()))
    kinds = {asked_for(a), asked_for(b)} - {None}
    return (shared / lengths if lengths else 0.0) * (_OTHER_KIND if len(kinds) > 1 else 1.0)


def _same(question: str) -> str:
    return " ".join(answer_words(question, keep_articles=True)) or question.strip()


def _weights(text: str) -> dict[str, float]:
    """Shortened stems of the content words, each with the idf of its rarest stem."""
    weights: dict[str, float] = {}
    for stem in content_stems(text):
        short = stem[:_STEM]
        weights[short] = max(default_rarity().idf(term_hash(stem)), weights.get(short, 0.0))
    return weights


@dataclass(frozen=True)
class _Episode:
    """Tokens that were, or should have been, written, and the return of each."""

    ids: tuple[int, ...]
    returns: tuple[float, ...]


class FeedbackSteer:
    """Favours what was rewarded and disfavours what was punished, for one question. See `logits_processors.Steer`."""

    def __init__(self, base: BaseModel, feedback: Sequence[tuple[Feedback, float]]):
        self._feedback = tuple(feedback)
        self._episodes = [(e, w) for item, w in feedback for e in _episodes(base, item)]
        self.begun = 0
        """Answers that were steered: texts from their first token on, and choices among whole answers."""

    def __call__(self, step: Step) -> torch.Tensor:
        """The logits, [B, V], moved by what the episodes say."""
        self.begun += sum(not written for written in step.written)
        return torch.stack(
            [
                shifted(logits_V, self._advantages(written), _BETA)
                for written, logits_V in zip(step.written, step.logits_BV, strict=True)
            ]
        )

    def weigh(self, choices: Mapping[str, float]) -> dict[str, float]:
        """See `logits_processors.ChoiceSteer`: the same Q, of whole answers. What was rewarded becomes a choice."""
        self.begun += 1
        returns: dict[str, float] = {}
        total = 0.0
        for item, weight in self._feedback:
            said = {item.answer: item.reward if item.correction is None else min(item.reward, -1.0)}
            if item.correction is not None:
                said[item.correction] = 1.0  # an answer whose correction is the answer itself was right
            for answer, reward in said.items():
                returns[answer] = returns.get(answer, 0.0) + weight * reward
            total = max(total, weight)
        moved = dict(choices)
        lowest = min(choices.values(), default=0.0)
        for answer, value in returns.items():
            if value > 0 and answer:
                moved.setdefault(answer, lowest)
        for choice in moved:
            for answer, value in returns.items():
                # Of several candidates that an earlier version named together and that were punished, each was wrong.
                named = {_same(answer), *(_same(one) for one in answer.split(_BETWEEN) if value < 0)}
                if _same(choice) in named:
                    moved[choice] += _BETA * max(-1.0, min(1.0, value)) / (_KAPPA + total)
        norm = math.log(math.fsum(math.exp(v - max(moved.values())) for v in moved.values())) + max(moved.values())
        return {choice: value - norm for choice, value in moved.items()}

    def _advantages(self, written: Sequence[int]) -> Advantages:
        done = tuple(written)
        sums: dict[int, float] = {}
        total = 0.0
        for episode, weight in self._episodes:
            if len(done) < len(episode.ids) and episode.ids[: len(done)] == done and episode.returns[len(done)]:
                token = episode.ids[len(done)]
                sums[token] = sums.get(token, 0.0) + weight * episode.returns[len(done)]
                total = max(total, weight)
        ids = sorted(sums)
        values = [max(-1.0, min(1.0, sums[i])) / (_KAPPA + total) for i in ids]
        return Advantages(torch.tensor(ids, dtype=torch.int64), torch.tensor(values))


def _episodes(base: BaseModel, item: Feedback) -> list[_Episode]:
    """A correction gives a good and a bad one. An answer may begin with a space or without, by the prompt's style."""
    stop = min(base.stop_ids, default=None)
    end = () if stop is None else (stop,)
    found = []
    for lead in ("", " "):
        given = (*base.encode(lead + item.answer), *end)
        wanted = None if item.correction is None else (*base.encode(lead + item.correction), *end)
        if wanted is not None:
            found.append(_Episode(wanted, (1.0,) * len(wanted)))
            reward = min(item.reward, -1.0)
            first = next((i for i, (a, b) in enumerate(zip(given, wanted, strict=False)) if a != b), len(given))
            found.append(_Episode(given, (0.0,) * first + (reward,) * (len(given) - first)))
        elif item.reward > 0:
            found.append(_Episode(given, (item.reward,) * len(given)))
        elif item.reward < 0 and item.answer:
            first = _first_claim(base, item, lead)
            found.append(_Episode(given, (0.0,) * first + (item.reward,) * (len(given) - first)))
    return [episode for episode in found if episode.ids]


def _first_claim(base: BaseModel, item: Feedback, lead: str) -> int:
    """How many tokens of a bad answer come before the first word that says something the question does not."""
    asked = content_stems(item.question)
    answer = normalised(item.answer)
    place = 0
    for word in words(answer):
        at = answer.find(word, place)
        if is_content(word) and not content_stems(word) <= asked:
            return len(base.encode(lead + answer[:at].rstrip()))
        place = at + len(word)
    return 0
