"""The types that all parts share: questions, answers, reports, progress. Imports nothing from this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Progress:
    """One step of a long job, for a progress bar."""

    stage: str
    done: int
    total: int
    message: str = ""


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True)
class QuestionAnswer:
    """A question with the answers that count as right."""

    question: str
    answers: tuple[str, ...]


TokenCallback = Callable[[str], None]


UNAFFECTED = "the base's own answer"
"""`Strategy.answer_key` of a question that the memory does not affect."""


@dataclass(frozen=True)
class LearnReport:
    """The result of learning one document."""

    accepted: bool
    """Whether the memory now holds the document. If not, it is unchanged."""
    reason: str
    """Why it was accepted or refused, in one sentence."""
    document_id: str
    title: str
    tokens: int
    """Tokens learned, counted by the base's tokenizer."""
    seconds: float
    bytes: int
    """Bytes that the document adds to the memory."""
    tokens_left_out: int = 0
    """Tokens beyond the limit, which were not learned."""
    recall_before: float | None = None
    recall_after: float | None = None
    """Recall of the document before and after, 0 to 1: the share answered of the questions given with it; without any,
    the share of right tokens in held-out cloze answers made from it. None if not checked."""
    perplexity_change: float | None = None
    """Relative change of the perplexity of unrelated text; None if not checked."""
    general_kept: float | None = None
    """Share of the general questions answered right by the base that are still right; None if not checked."""
    loss: float | None = None
    """The last training loss, in nats per token; None if nothing was trained."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by part of the work."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where an answer came from."""

    document_id: str
    title: str
    score: float
    """The strategy's own measure of relevance, larger is nearer; from 0 to 1 if possible."""
    quote: str = ""
    """The words of ``text`` that answer, or that come nearest."""
    chunk: int | None = None
    """Number of the passage of the document, if it was cut into passages."""
    text: str = ""
    """The words that were read: the passage as it is kept, or as the weights recited it."""
    recited: bool = False
    """Whether ``text`` was recited from weights, and not kept."""


Origin = Literal["memory", "model", "unknown"]
"""Where an answer comes from: ``memory``, what was learned; ``model``, the base's own knowledge, memory not involved;
``unknown``, it is about a learned document, which does not say."""


@dataclass(frozen=True)
class Alternative:
    """Another answer to the same question."""

    text: str
    probability: float
    """Its probability by whatever gave the answer, not calibrated."""


@dataclass(frozen=True)
class Answer:
    """One answer to a question."""

    question: str
    text: str
    """The answer: one, never a list of guesses."""
    sources: tuple[Source, ...] = ()
    tokens: int = 0
    """Tokens generated."""
    seconds: float = 0.0
    """Wall time; in a batch, its share."""
    notes: tuple[str, ...] = ()
    """What the user should know, such as a prompt that was cut to the window."""
    origin: Origin = "model"
    confidence: float | None = None
    """Probability that ``text`` is right, 0 to 1, as far as it is known: calibrated if a reader gave the answer; of an
    answer by rule (a list, a count, a cell of a table, yes or no) the share of such answers that were right when
    measured; of two facts the product of both; else the geometric mean of the probabilities of its tokens. None if
    nothing is known, as with summaries and most chat servers. In a speaker's words it remains the memory's: how sure
    its reader is that the text which was read holds the answer."""
    alternatives: tuple[Alternative, ...] = ()
    """Other answers, best first, without ``text`` itself."""
    speaker: str | None = None
    """Name of the model that worded the answer from what the memory found; None: the base or its memory did."""

    @property
    def claim(self) -> str:
        """What it claims to be the answer: ``text``, or nothing if that says that a document does not say.

        This is what metrics score: the nearest passage, which such a text quotes, is no answer.
        """
        return "" if self.origin == "unknown" else self.text
