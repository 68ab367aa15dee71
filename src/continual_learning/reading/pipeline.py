"""Route, recall, read: from a question to the answer that a memory of passages gives.

    route    the question's words open one passage; if they open none, the unchanged base answers (`routing`).
             Where few documents are held, what shares less with it is read too, and counts if the reader is sure
    recall   the passage's text is retrieved from where it is kept, or recited by weights (`Recall`)
    read     the reader names the span of that text that answers it, or says that the text does not say; in a memory of
             many documents the base answers if the words may be shared by accident (`answering`);
             a base that no reader was trained for reads the text in its prompt (`in_prompt`);
             if none is wanted, the answer is the parts that the question's words find (`retrieval.parts`)

Strategies that answer in this way share routing and reading and differ in `Recall` alone: any difference between
their results is due to recall.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from pydantic import Field

from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.answering import ReaderConfig, answers_from, answers_from_each, chosen_reader
from continual_learning.reading.generated import generated_confidence
from continual_learning.reading.in_prompt import Excerpt, ReadingConfig, read_answers
from continual_learning.reading.own_answers import own_answers
from continual_learning.reading.reader.reader import Reader
from continual_learning.reading.wholes.library import Library
from continual_learning.retrieval.parts import best_window, index_name, part_keys, part_spaces
from continual_learning.retrieval.relevance import holds_much
from continual_learning.retrieval.routing import Passage, Router, answer_by_route, document_titles, passage_keys
from continual_learning.text.chunking import joined
from continual_learning.text.lines import LINES, with_lines
from continual_learning.types import Answer, Source, TokenCallback

_SHORT, _LISTED = 1_000, 5_000
"""Tokens of a document that is recited whole for a question about a few words; for one about a list, a count or a table
or for yes and no. The whole of 50,000 tokens takes minutes to recite."""
# Of 150 passages of SQuAD and 60 beginnings of plots these find 98% and 91% of their questions, where 96% and 78% open
# them; of questions of searches they find 2.8%, of which the reader believes one in twenty to be answered.
_MAYBE_COVERAGE, _MAYBE_EVIDENCE = 0.25, 3.0
_OTHERS = 3
"""Passages of a document that are read in addition to the one that a question opens, if that does not answer it."""
_SURE, _LIKELY = 0.4, 0.3
"""Confidence of an answer for which no other passage is read, and the least of an answer from another passage."""


class PassageConfig(ReaderConfig):
    """Settings of strategies that answer from one passage of a document."""

    passage_tokens: int = Field(200, ge=16)
    """Maximum tokens per passage; longer documents are cut into several."""
    part_tokens: int = Field(10, ge=4)
    """Maximum tokens per part of a passage."""
    quote_tokens: int = Field(24, ge=4)
    """With reader: null, an answer holds the parts that fit into this many tokens, starting with the best."""


@dataclass(frozen=True)
class Opened:
    """A passage of a memory, with the questions about it."""

    base: BaseModel
    state: State
    passage: Passage

    @property
    def record(self) -> DocumentRecord:
        """The memory's record of the passage's document."""
        record = self.state.meta.document(self.passage[0])
        assert record is not None, self.passage
        return record


@dataclass(frozen=True)
class Recalled:
    """A piece of a passage."""

    text: str
    tokens: int
    seconds: float
    probability: float | None = None
    """Geometric mean of the tokens' probabilities if the model wrote it."""


class Found(NamedTuple):
    """What the words of a question find."""

    passage: Passage
    coverage: float
    doubtful: bool = False
    """Whether they are too few to open the passage: it is read, and counts if the reader is sure that it answers."""


class Recall(Protocol):
    """How the text of a passage comes back."""

    verbatim: bool
    """Whether it is the document's own text, and not recited."""

    def whole(self, opened: Opened) -> str:
        """All parts of the passage, in order."""

    def windows(
        self, opened: Opened, windows: Sequence[range], max_new_tokens: int, on_token: TokenCallback | None
    ) -> list[Recalled]:
        """Neighbouring parts by their numbers, each window in at most ``max_new_tokens``; ``on_token`` takes one."""


@dataclass(frozen=True)
class Pipeline:
    """Answers from the passages of a memory."""

    router: Router
    config: PassageConfig
    recall: Recall

    def route(self, state: State, text: str, history: Sequence[Message] = ()) -> tuple[Passage, float] | None:
        """The passage that ``text`` opens, with its coverage, or None."""
        return self.router.route(passage_keys(state), text, history, document_titles(state))

    def found(self, base: BaseModel, state: State, text: str, history: Sequence[Message] = ()) -> Found | None:
        """The passage that ``text`` opens, or, for a reader and in a memory of few documents, may be about."""
        if route := self.route(state, text, history):
            return Found(*route)
        if holds_much(state) or chosen_reader(base, self.config) is None:
            return None
        threshold = min(_MAYBE_COVERAGE, self.router.threshold)
        lenient = replace(self.router, threshold=threshold, evidence=min(_MAYBE_EVIDENCE, self.router.evidence))
        route = lenient.route(passage_keys(state), text, history)
        return Found(*route, doubtful=True) if route else None

    def library(self, base: BaseModel, state: State) -> Library | None:
        """The documents as whole texts; None if the settings have no reader: answers are then parts of passages."""
        if self.config.reader is None:
            return None

        def text(document_id: str) -> str:
            numbers = sorted(number for owner, number in passage_keys(state) if owner == document_id)
            pieces = [self.recall.whole(Opened(base, state, (document_id, number))) for number in numbers]
            firsts = [part_spaces(state.tensors[index_name(document_id, number)], 1)[0] for number in numbers]
            record = state.meta.document(document_id)
            return with_lines(joined(pieces, firsts), record.details.get(LINES) if record else None)

        def keys() -> dict[str, frozenset[int]]:
            found: dict[str, frozenset[int]] = {}
            for (document_id, _), key in passage_keys(state).items():
                found[document_id] = found.get(document_id, frozenset()) | key
            return found

        def route(question: str, history: Sequence[Message]) -> str | None:
            found = self.route(state, question, history)
            return found[0][0] if found else None

        recited = not self.recall.verbatim

        def longer_than(tokens: int) -> frozenset[str]:
            return frozenset(record.id for record in state.meta.documents if recited and record.tokens > tokens)

        return Library(
            document_titles(state),
            text,
            keys,
            route,
            recited,
            long=longer_than(_SHORT),
            longest=longer_than(_LISTED),
            much=holds_much(state),
        )

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer every question, in order; questions about the same passage are answered in one batch.

        ``on_token`` needs a single question. The base answers questions that no passage is about. Where a reader finds
        no answer in the passage, or hardly one, it reads others of the same document: a document does not say what none
        of its passages says.
        """
        found = [self.found(base, state, question, history) for question in questions]

        def answered(route: tuple[Passage, bool] | None, asked: list[str]) -> list[Answer]:
            if route is None:
                return own_answers(base, asked, max_new_tokens, on_token, history)
            passage, doubtful = route
            # What may be bettered is not streamed before.
            alone = reader is None or doubtful or not self._others(state, passage, asked[0])
            opened = Opened(base, state, passage)
            return self._read(opened, asked, max_new_tokens, on_token if alone else None, history, doubtful)

        reader = chosen_reader(base, self.config)
        routes = [one and (one.passage, one.doubtful) for one in found]
        answers = answer_by_route(questions, routes, answered)
        if reader is not None:
            opened = [one.passage if one and not one.doubtful else None for one in found]
            answers = self._read_others(base, state, reader, answers, opened, max_new_tokens, history)
            if on_token and opened[0] and self._others(state, opened[0], questions[0]):
                on_token(answers[0].text)
        return [
            replace(answer, sources=tuple(replace(s, score=one.coverage) for s in answer.sources)) if one else answer
            for answer, one in zip(answers, found, strict=True)
        ]

    def _others(self, state: State, passage: Passage, question: str) -> list[Passage]:
        """Other passages of the same document, those first that share most with a question; not all of a long one."""
        keys = passage_keys(state)
        others = [other for other in keys if other[0] == passage[0] and other != passage]
        matches = self.router.rarity.match(question, [keys[other] for other in others])
        ranked = sorted(range(len(others)), key=lambda place: matches[place], reverse=True)
        return [others[place] for place in ranked[:_OTHERS]]

    def _read_others(
        self,
        base: BaseModel,
        state: State,
        reader: Reader,
        answers: list[Answer],
        opened: list[Passage | None],
        max_new_tokens: int,
        history: Sequence[Message],
    ) -> list[Answer]:
        """The answers; those that the opened passage does not give, or hardly, are looked for in others."""
        rounds: dict[Passage, list[int]] = {}
        for number, (answer, passage) in enumerate(zip(answers, opened, strict=True)):
            unsure = answer.origin == "unknown" or (answer.origin == "memory" and (answer.confidence or 0.0) < _SURE)
            if passage and unsure:
                for other in self._others(state, passage, answer.question):
                    rounds.setdefault(other, []).append(number)
        best = list(answers)
        for passage, numbers in rounds.items():
            started = time.perf_counter()
            source = self._source_of(Opened(base, state, passage))
            share = (time.perf_counter() - started) / len(numbers)
            asked = [answers[number].question for number in numbers]
            read = answers_from(base, reader, [source], asked, max_new_tokens, history)
            for number, answer in zip(numbers, read, strict=True):
                least = _LIKELY if best[number].origin == "unknown" else best[number].confidence or 0.0
                seconds = best[number].seconds + answer.seconds + share
                better = answer.origin == "memory" and (answer.confidence or 0.0) > least
                best[number] = replace(answer if better else best[number], seconds=seconds)
        return best

    def _read(
        self,
        opened: Opened,
        questions: list[str],
        max_new_tokens: int,
        on_token: TokenCallback | None,
        history: Sequence[Message],
        doubtful: bool,
    ) -> list[Answer]:
        reader = chosen_reader(opened.base, self.config)
        if reader is None and self.config.reader is None:
            keys = part_keys(opened.state.tensors[index_name(*opened.passage)])
            room = min(max_new_tokens, self.config.quote_tokens)
            windows = [best_window(keys, question, self.router.rarity, room) for question in questions]
            recalled = self.recall.windows(opened, windows, max_new_tokens, on_token)
            return [
                Answer(
                    question,
                    piece.text,
                    (self._source(opened, piece.text, piece.text),),
                    piece.tokens,
                    piece.seconds,
                    origin="memory",
                    confidence=generated_confidence(piece.probability),
                )
                for question, piece in zip(questions, recalled, strict=True)
            ]
        started = time.perf_counter()
        source = self._source_of(opened)
        share = (time.perf_counter() - started) / len(questions)
        if reader is None:  # none was trained for this base, which reads the passage itself
            excerpts, sources = [[Excerpt(source.text, source.title)]] * len(questions), [(source,)] * len(questions)
            answers = read_answers(
                opened.base, ReadingConfig(), excerpts, questions, max_new_tokens, on_token, history, sources
            )
        else:
            passages = [[source]] * len(questions)
            much = holds_much(opened.state)
            answers = answers_from_each(
                opened.base, reader, passages, questions, max_new_tokens, on_token, history, much, doubtful
            )
        return [replace(answer, seconds=answer.seconds + share) for answer in answers]

    def _source_of(self, opened: Opened) -> Source:
        """The whole passage as a source."""
        return self._source(opened, self.recall.whole(opened))

    def _source(self, opened: Opened, text: str, quote: str = "") -> Source:
        """A source without a score: that is the question's."""
        document_id, number = opened.passage
        return Source(document_id, opened.record.title, 0.0, quote, number, text, not self.recall.verbatim)
