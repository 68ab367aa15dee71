"""A control experiment: quotes the part of a document that a question's words find. No model learns or answers.

It answers by the pipeline of ttt (`reading.pipeline`) with a different recall step, so the difference between the two
is what it costs ttt to hold the text in weights. A question that no passage is about is left to the base.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from continual_learning.documents import Document
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.pipeline import Opened, PassageConfig, Pipeline, Recalled
from continual_learning.reading.wholes.library import Library
from continual_learning.retrieval.parts import cut_parts, index_name, part_index, part_spaces
from continual_learning.retrieval.routing import (
    ROUTE_EVIDENCE,
    ROUTE_THRESHOLD,
    Router,
    default_rarity,
    key_tensors,
    passage_keys,
)
from continual_learning.strategies.base import Cost, plain_report
from continual_learning.strategies.reading import ReadingStrategy
from continual_learning.text.chunking import joined, passages, spaces_before
from continual_learning.text.lines import LINES, line_lengths
from continual_learning.types import UNAFFECTED, Answer, LearnReport, ProgressCallback, QuestionAnswer, TokenCallback


class QuoteConfig(PassageConfig):
    """Settings of the quote strategy; see the settings of the same names in ttt."""

    RETIRED: ClassVar[Mapping[str, object]] = {
        **PassageConfig.RETIRED,
        "route_threshold": ROUTE_THRESHOLD,
        "route_evidence": ROUTE_EVIDENCE,
    }


class KeptText:
    """The recall step of quote: the text that the memory keeps."""

    verbatim = True

    def whole(self, opened: Opened) -> str:
        """All parts, in order."""
        texts = _kept_parts(opened)
        return joined(texts, _kept_spaces(opened, len(texts)))

    def windows(
        self, opened: Opened, windows: Sequence[range], max_new_tokens: int, on_token: TokenCallback | None
    ) -> list[Recalled]:
        """The parts of each window."""
        base, texts, found = opened.base, _kept_parts(opened), []
        spaces = _kept_spaces(opened, len(texts))
        for window in windows:
            started = time.perf_counter()
            ids = base.encode(joined([texts[i] for i in window], [spaces[i] for i in window]))[:max_new_tokens]
            text = base.decode(ids).rstrip("\ufffd").strip()
            found.append(Recalled(text, len(ids), time.perf_counter() - started))
        if on_token:
            on_token(found[0].text)
        return found


def _kept_parts(opened: Opened) -> list[str]:
    document_id, number = opened.passage
    texts: list[str] = opened.state.meta.extra["parts"][document_id][number]
    return texts


def _kept_spaces(opened: Opened, parts: int) -> list[bool | None]:
    return part_spaces(opened.state.tensors[index_name(*opened.passage)], parts)


class Quote(ReadingStrategy[QuoteConfig]):
    """Keeps the documents and quotes from them."""

    summary = "quotes the part of a document that a question's words find; no model (a control for ttt)"
    Config = QuoteConfig
    role = "control"
    cost = Cost(
        answer=0.9,
        token_bytes=26,
        prompt_tokens=200,
        f1={"smollm2-135m": 0.587, "gemma3-270m": 0.616},
        f1_without_reader={"smollm2-135m": 0.132, "gemma3-270m": 0.416},
    )

    def __init__(self, config: QuoteConfig):
        super().__init__(config)
        self._pipeline = Pipeline(Router(default_rarity()), config, KeptText())

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Keep the document's parts and the keys that find them."""

        def count(text: str) -> int:
            return len(base.encode(text))

        texts = passages(document.text, count, self.config.passage_tokens)
        tensors = key_tensors(document.id, document.title, texts)
        kept: list[list[str]] = []
        spaced = spaces_before(document.text, texts)
        for number, text in enumerate(texts):
            parts = cut_parts(text, count, self.config.part_tokens)
            before = texts[number - 1] if number else ""
            tensors[index_name(document.id, number)] = part_index(parts, before, spaced[number])
            kept.append([part.text for part in parts])
        tokens = count(document.text)
        record = DocumentRecord.of(document, tokens, {"passages": len(texts), LINES: line_lengths(document.text)})
        extra = {**state.meta.extra, "parts": {**state.meta.extra.get("parts", {}), document.id: kept}}
        meta = replace(state.meta, documents=(*state.meta.documents, record), extra=extra)
        size = len(document.text.encode()) + sum(t.numel() * t.element_size() for t in tensors.values())
        report = plain_report(document, True, "the text is kept", tokens, size)
        return State({**state.tensors, **tensors}, meta), report

    def answer_spans(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Quote what the question's words find, cut to ``max_new_tokens``; the base's answer if they find nothing."""
        return self._pipeline.answer(base, state, questions, max_new_tokens, on_token, history)

    def library(self, base: BaseModel, state: State) -> Library | None:
        """The kept texts."""
        return self._pipeline.library(base, state)

    def finds(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether ``text`` finds a passage: then it is answered without the base, whose weights never change."""
        return self._pipeline.found(base, state, text) is not None

    def span_key(self, base: BaseModel, state: State, question: str) -> Hashable | None:
        """The passage that the answer quotes."""
        found = self._pipeline.found(base, state, question)
        return UNAFFECTED if found is None else (found.passage, found.doubtful)

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Drop the document's parts."""
        left = super().forget(base, state, document_id)
        parts = {k: v for k, v in left.meta.extra["parts"].items() if k != document_id}
        return State(left.tensors, replace(left.meta, extra={**left.meta.extra, "parts": parts}))

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """The number of passages and parts."""
        return {"passages": len(passage_keys(state))}
