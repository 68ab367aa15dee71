"""A control: the part of a document that a question's words find, quoted from kept text. No model learns or answers.

It chooses as ttt does (`routing`, `parts`), so that the two differ by what it costs ttt to hold the text in weights,
and what both owe to the choice alone is seen. A question that no passage is about is left to the base.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from continual_learning.documents import Document
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.plain import plain_answers
from continual_learning.reading.span_reader.answering import SpanAnswerConfig, chosen_reader, span_answers
from continual_learning.retrieval.parts import best_window, cut_parts, index_name, part_index, part_keys
from continual_learning.retrieval.routing import (
    Passage,
    Router,
    answer_by_route,
    default_rarity,
    document_titles,
    key_tensors,
    passage_keys,
)
from continual_learning.strategies.base import ALREADY_HELD, Cost, Strategy, plain_report
from continual_learning.text.chunking import passages
from continual_learning.types import (
    UNAFFECTED,
    Answer,
    LearnReport,
    ProgressCallback,
    QuestionAnswer,
    Source,
    TokenCallback,
)


class QuoteConfig(SpanAnswerConfig):
    """Settings of the quote strategy; see those of ttt with the same names."""

    passage_tokens: int = Field(200, ge=16)
    """Longest passage that is found as a whole."""
    part_tokens: int = Field(20, ge=4)
    """Longest part of it."""
    quote_tokens: int = Field(24, ge=4)
    """An answer quotes the parts that these many tokens reach, from the best on."""
    route_threshold: float = Field(0.25, ge=0, le=1)
    """Share of a question's content, weighted by rarity, that a passage must hold."""
    route_evidence: float = Field(7.7, ge=0)
    """Rarity that the shared words must add up to, in nats."""


class Quote(Strategy[QuoteConfig]):
    """Keeps the documents and quotes from them."""

    summary = "quotes the part of a document that a question's words find; no model (a control for ttt)"
    Config = QuoteConfig
    role = "control"
    cost = Cost(answer=0.03)

    def __init__(self, config: QuoteConfig):
        super().__init__(config)
        self._router = Router(default_rarity(), config.route_threshold, config.route_evidence)

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Keep the document's parts and what they are found by."""
        started = time.perf_counter()
        if state.meta.document(document.id):
            return state, plain_report(document, started, False, ALREADY_HELD)

        def count(text: str) -> int:
            return len(base.encode(text))

        texts = passages(document.text, count, self.config.passage_tokens)
        tensors = key_tensors(document.id, document.title, texts)
        kept: list[list[str]] = []
        for number, text in enumerate(texts):
            parts = cut_parts(text, count, self.config.part_tokens)
            tensors[index_name(document.id, number)] = part_index(parts)
            kept.append([part.text for part in parts])
        tokens = count(document.text)
        record = DocumentRecord.of(document, tokens, {"passages": len(texts)})
        extra = {**state.meta.extra, "parts": {**state.meta.extra.get("parts", {}), document.id: kept}}
        meta = replace(state.meta, documents=(*state.meta.documents, record), extra=extra)
        size = len(document.text.encode()) + sum(t.numel() * t.element_size() for t in tensors.values())
        report = plain_report(document, started, True, "the text is kept", tokens, size)
        return State({**state.tensors, **tensors}, meta), report

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """What the question's words find, cut to ``max_new_tokens``; the base's answer if they find nothing."""
        found = [self._found(state, question, history) for question in questions]

        def answered(passage: Passage | None, asked: list[str]) -> list[Answer]:
            if passage is None:
                return plain_answers(base, asked, max_new_tokens, on_token, history)
            said = self._said(base, state, passage, asked, max_new_tokens)
            if on_token:
                on_token(said[0].text)
            return said

        return answer_by_route(questions, found, answered)

    def affects(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether ``text`` finds a passage: then it is answered without the base, whose weights stay as they are."""
        return self._found(state, text) is not None

    def answer_key(self, base: BaseModel, state: State, question: str) -> Hashable | None:
        """The passage that is quoted from."""
        return self._found(state, question) or UNAFFECTED

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Drop the document's parts."""
        left = super().forget(base, state, document_id)
        parts = {k: v for k, v in left.meta.extra["parts"].items() if k != document_id}
        return State(left.tensors, replace(left.meta, extra={**left.meta.extra, "parts": parts}))

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """How much there is to be found."""
        return {"passages": len(passage_keys(state))}

    def _found(self, state: State, text: str, history: Sequence[Message] = ()) -> Passage | None:
        route = self._router.route(passage_keys(state), text, history, document_titles(state))
        return route[0] if route else None

    def _said(
        self, base: BaseModel, state: State, passage: Passage, questions: list[str], max_new_tokens: int
    ) -> list[Answer]:
        document_id, number = passage
        record = state.meta.document(document_id)
        assert record is not None, document_id
        texts = state.meta.extra["parts"][document_id][number]
        reader = chosen_reader(base, self.config)
        if reader is None:
            answers = [self._quoted(base, state, passage, texts, question, max_new_tokens) for question in questions]
        else:
            whole = " ".join(texts)
            answers = span_answers(base, reader, record.title, whole, questions, self.config, max_new_tokens)
        return [replace(a, sources=(Source(document_id, record.title, 1.0, a.text),)) for a in answers]

    def _quoted(
        self, base: BaseModel, state: State, passage: Passage, texts: list[str], question: str, max_new_tokens: int
    ) -> Answer:
        started = time.perf_counter()
        keys = part_keys(state.tensors[index_name(*passage)])
        room = min(max_new_tokens, self.config.quote_tokens)
        window = best_window(keys, question, self._router.rarity, room)
        ids = base.encode(" ".join(texts[i] for i in window))[:max_new_tokens]
        text = base.decode(ids).rstrip("\ufffd").strip()
        return Answer(question, text, (), len(ids), time.perf_counter() - started)
