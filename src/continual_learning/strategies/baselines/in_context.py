"""The documents are read for every question: nothing is learned, and the window is the limit.

The reader that the settings name reads them (`reading.answering`) if any part of them is relevant to the question
(`retrieval.relevance`); other questions go to the base. Without a reader, they precede every question in the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import ClassVar

from continual_learning.documents import Document
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.answering import ReaderConfig, answers_from_each, chosen_reader
from continual_learning.reading.in_prompt import Excerpt, ReadingConfig, read_answers
from continual_learning.reading.plain import plain_answers
from continual_learning.reading.wholes.library import Library, library_of
from continual_learning.retrieval.chunk_store import MIN_SCORE
from continual_learning.retrieval.relevance import Relevance, holds_much
from continual_learning.retrieval.routing import answer_by_route, look_ups
from continual_learning.strategies.base import Cost, plain_report
from continual_learning.strategies.reading import ReadingStrategy
from continual_learning.text.chunking import sentence_chunks
from continual_learning.types import Answer, LearnReport, ProgressCallback, QuestionAnswer, Source, TokenCallback

_QUESTION_TOKENS = 256  # of the window, left for the question and for what a reader puts around it
_WINDOW_WORDS = (
    120  # of the texts that are judged for relevance: the whole of a long document holds words of any question
)


class InContextConfig(ReadingConfig, ReaderConfig):
    """Settings of the in_context strategy: how the documents are read."""

    RETIRED: ClassVar[Mapping[str, object]] = {**ReadingConfig.RETIRED, **ReaderConfig.RETIRED}


class InContext(ReadingStrategy[InContextConfig]):
    """Keeps the texts and reads them all; if not all fit, the newest take precedence."""

    summary = "reads all documents for every question; no learning, bounded by the window"
    Config = InContextConfig
    role = "baseline"
    cost = Cost(
        answer=1.25,
        answer_token=0.0006,
        token_bytes=5.1,
        prompt_tokens=None,
        f1={"smollm2-135m": 0.574, "gemma3-270m": 0.622},
        f1_without_reader={"smollm2-135m": 0.108, "gemma3-270m": 0.42},
    )

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Keep the text."""
        tokens = len(base.encode(document.text))
        record = DocumentRecord.of(document, tokens)
        texts = {**state.meta.extra.get("texts", {}), document.id: document.text}
        meta = replace(
            state.meta, documents=(*state.meta.documents, record), extra={**state.meta.extra, "texts": texts}
        )
        size = len(document.text.encode())
        return State(state.tensors, meta), plain_report(document, True, "the text is kept", tokens, size)

    def answer_spans(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer from as much of the documents as fits into the window; a note says what was cut."""
        excerpts = _excerpts(state)
        if not excerpts:
            return plain_answers(base, questions, max_new_tokens, on_token, history)
        sources = tuple(_source(state, d) for d in state.meta.documents)
        reader = chosen_reader(base, self.config)
        if reader is None:
            every, same = [excerpts] * len(questions), [sources] * len(questions)
            return read_answers(base, self.config, every, questions, max_new_tokens, on_token, history, same)
        room = max(base.window - max_new_tokens - _QUESTION_TOKENS, base.window // 4)  # a tiny window is shared
        read, notes = _fitting(base, sources, room)

        def answered(relevant: bool, asked: list[str]) -> list[Answer]:
            if not relevant:
                return plain_answers(base, asked, max_new_tokens, on_token, history)
            made = answers_from_each(
                base, reader, [read] * len(asked), asked, max_new_tokens, on_token, history, holds_much(state)
            )
            return [replace(a, notes=(*a.notes, *notes)) if a.sources else a for a in made]

        return answer_by_route(questions, [_is_relevant(state, q, history) for q in questions], answered)

    def library(self, base: BaseModel, state: State) -> Library | None:
        """The kept texts; None without a reader. A question is about the document with the part nearest to it."""
        reader = chosen_reader(base, self.config)
        if reader is None:
            return None
        texts = state.meta.extra.get("texts", {})

        def route(question: str, history: Sequence[Message]) -> str | None:
            return _nearest_document(state, question, history)

        return library_of(state, texts.__getitem__, route)

    def finds(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether a document is relevant to ``text``; without a reader, whether there is one."""
        if chosen_reader(base, self.config) is None:
            return bool(state.meta.documents)
        return _is_relevant(state, text)

    def context(self, base: BaseModel, state: State, text: str) -> str:
        """All documents, newest last."""
        return "\n\n".join(map(str, _excerpts(state)))

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Drop the text."""
        left = super().forget(base, state, document_id)
        texts = {k: v for k, v in left.meta.extra["texts"].items() if k != document_id}
        return State(left.tensors, replace(left.meta, extra={**left.meta.extra, "texts": texts}))


def _excerpts(state: State) -> list[Excerpt]:
    texts = state.meta.extra.get("texts", {})
    return [Excerpt(texts[d.id], d.title) for d in state.meta.documents]


def _source(state: State, record: DocumentRecord) -> Source:
    return Source(record.id, record.title, 1.0, text=state.meta.extra["texts"][record.id])


def _is_relevant(state: State, question: str, history: Sequence[Message] = ()) -> bool:
    """Whether a part of a document is relevant to the question, or to the user's turn before it and the question."""
    return _nearest_document(state, question, history) is not None


def _nearest_document(state: State, question: str, history: Sequence[Message]) -> str | None:
    """The document with the part that is most relevant to the question, or to the user's turn before it and the
    question; None if none is relevant."""
    relevance = Relevance.default()
    parts = [
        (part, record.id)
        for excerpt, record in zip(_excerpts(state), state.meta.documents, strict=True)
        for part in _parts(excerpt)
    ]
    for text in look_ups(question, history):
        scored = [(relevance(text, part), document_id) for part, document_id in parts]
        best = max(scored, key=lambda pair: pair[0], default=(0.0, ""))
        if best[0] >= MIN_SCORE:
            return best[1]
    return None


@lru_cache(maxsize=256)
def _parts(excerpt: Excerpt) -> tuple[str, ...]:
    chunks = sentence_chunks(excerpt.text, lambda text: len(text.split()), _WINDOW_WORDS, 0)
    return tuple(f"{excerpt.title}\n{chunk}" for chunk in chunks)


def _fitting(base: BaseModel, sources: Sequence[Source], room: int) -> tuple[list[Source], tuple[str, ...]]:
    """The last sources that fit into ``room`` tokens, the first of them cut at its beginning, and a note if any is."""
    kept: list[Source] = []
    tokens = 0
    for source in reversed(sources):
        ids = base.encode(source.text)
        left = room - tokens
        if len(ids) > left:
            if left > 0:
                kept.append(replace(source, text=base.decode(ids[-left:]).lstrip("\ufffd")))
            note = f"only the last {room} tokens of the documents fit into the window of {base.window}"
            return kept[::-1], (note,)
        kept.append(source)
        tokens += len(ids)
    return kept[::-1], ()
