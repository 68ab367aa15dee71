"""Retrieval-augmented generation: the passages that BM25 finds for a question stand before it in the prompt.

Lewis et al. 2020 (arXiv 2005.11401) with a fixed retriever: documents are cut into chunks of sentences that overlap,
the chunks are ranked by BM25 (`retrieval.bm25`), and the best are read (`reading`). Where nothing relevant is found
(`retrieval.relevance`) nothing is put into the prompt, and the base answers as it always did.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import Field, model_validator

from continual_learning.documents import Document
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.in_prompt import Excerpt, ReadingConfig, read_answers
from continual_learning.reading.plain import plain_answers
from continual_learning.retrieval import BM25Index, FollowingIndex, Key, Relevance
from continual_learning.strategies.base import ALREADY_HELD, Cost, Strategy, plain_report
from continual_learning.text.chunking import sentence_chunks
from continual_learning.types import (
    UNAFFECTED,
    Answer,
    LearnReport,
    ProgressCallback,
    QuestionAnswer,
    Source,
    TokenCallback,
)

_QUOTE = 160


class RAGConfig(ReadingConfig):
    """Settings of the rag strategy: what is retrieved, and how it is put before the question."""

    top_k: int = Field(2, ge=1)
    """Most chunks in the prompt."""
    chunk_tokens: int = Field(160, ge=8)
    """Longest chunk: whole sentences, as many as fit."""
    overlap_tokens: int = Field(32, ge=0)
    """Most tokens at the end of a chunk that begin the next one too, in whole sentences."""
    min_score: float = Field(0.5, ge=0, le=1)
    """Least relevance of a chunk in the prompt (see `retrieval.relevance`); 0 takes whatever shares a word."""
    k1: float = Field(1.5, ge=0)
    """BM25: how fast repeats of a word in a chunk stop to count."""
    b: float = Field(0.75, ge=0, le=1)
    """BM25: how much long chunks are held against their length."""

    @model_validator(mode="after")
    def _overlap_is_shorter(self) -> Self:
        if self.overlap_tokens >= self.chunk_tokens:
            raise ValueError(f"overlap_tokens {self.overlap_tokens} must be below chunk_tokens {self.chunk_tokens}")
        return self


@dataclass(frozen=True)
class _Found:
    """A chunk that is relevant to a question."""

    key: Key
    excerpt: Excerpt
    relevance: float

    @property
    def source(self) -> Source:
        return Source(self.key[0], self.excerpt.title, self.relevance, self.excerpt.text[:_QUOTE])


class RAG(Strategy[RAGConfig]):
    """Keeps the documents in chunks and reads the ones that a question is about."""

    summary = "retrieves passages (BM25) and puts them before the question"
    Config = RAGConfig
    role = "baseline"
    cost = Cost(answer=1.25)

    def __init__(self, config: RAGConfig):
        super().__init__(config)
        self._relevance = Relevance.default()
        # Derived from whatever state is asked about, and no part of any.
        self._index = FollowingIndex(lambda: BM25Index(config.k1, config.b))

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Cut the document into chunks and keep them. They are indexed when the first question comes."""
        started = time.perf_counter()
        if state.meta.document(document.id):
            return state, plain_report(document, started, False, ALREADY_HELD)
        tokens = len(base.encode(document.text))
        limits = self.config.chunk_tokens, self.config.overlap_tokens
        chunks = sentence_chunks(document.text, lambda text: len(base.encode(text)), *limits)
        record = DocumentRecord.of(document, tokens, {"chunks": len(chunks)})
        extra = {**state.meta.extra, "chunks": {**_chunks(state), document.id: chunks}}
        kept = State(state.tensors, replace(state.meta, documents=(*state.meta.documents, record), extra=extra))
        size = sum(len(c.encode()) for c in chunks)
        return kept, plain_report(document, started, True, f"kept in {len(chunks)} chunks", tokens, size)

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Each question is answered from the chunks that are relevant to it; if there are none, by the base."""
        found = [self._retrieve(state, question, history) for question in questions]
        answers: dict[int, Answer] = {}
        for reads in (True, False):
            chosen = [i for i, chunks in enumerate(found) if bool(chunks) == reads]
            asked = [questions[i] for i in chosen]
            if not asked:
                continue
            if reads:
                # the nearest to the question is the best, and the last to be cut
                excerpts = [[c.excerpt for c in reversed(found[i])] for i in chosen]
                sources = [tuple(c.source for c in found[i]) for i in chosen]
                made = read_answers(base, self.config, excerpts, asked, max_new_tokens, on_token, history, sources)
            else:
                made = plain_answers(base, asked, max_new_tokens, on_token, history)
            answers.update(zip(chosen, made, strict=True))
        return [answers[i] for i in range(len(questions))]

    def affects(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether anything relevant is found for ``text``."""
        return bool(self._retrieve(state, text))

    def answer_key(self, base: BaseModel, state: State, question: str) -> Hashable | None:
        """The chunks that the question is answered from."""
        return tuple(chunk.excerpt for chunk in self._retrieve(state, question)) or UNAFFECTED

    def context(self, base: BaseModel, state: State, text: str) -> str:
        """The chunks that are found for ``text``, best last."""
        return "\n\n".join(str(c.excerpt) for c in reversed(self._retrieve(state, text)))

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Drop the document's chunks."""
        left = super().forget(base, state, document_id)
        chunks = {k: v for k, v in _chunks(left).items() if k != document_id}
        return State(left.tensors, replace(left.meta, extra={**left.meta.extra, "chunks": chunks}))

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """How much there is to be found."""
        return {"chunks": sum(map(len, _chunks(state).values()))}

    def _retrieve(self, state: State, text: str, history: Sequence[Message] = ()) -> list[_Found]:
        """The relevant ones of the best chunks, best first.

        A text that finds none is looked up once more together with the user's turn before it: "And when was that?"
        """
        index = self._index.follow(_chunks(state), state.meta.documents)
        earlier = [m["content"] for m in history if m["role"] == "user"][-1:]
        for query in (text, " ".join([*earlier, text]))[: 1 + len(earlier)]:
            found = [self._judged(state, query, hit.key) for hit in index.search(query, self.config.top_k)]
            if relevant := [chunk for chunk in found if chunk.relevance >= self.config.min_score]:
                return relevant
        return []

    def _judged(self, state: State, query: str, key: Key) -> _Found:
        document_id, number = key
        record = state.meta.document(document_id)
        assert record is not None, document_id
        excerpt = Excerpt(_chunks(state)[document_id][number], record.title)
        return _Found(key, excerpt, self._relevance(query, str(excerpt)))


def _chunks(state: State) -> dict[str, list[str]]:
    """The texts of a memory's chunks by document id."""
    chunks: dict[str, list[str]] = state.meta.extra.get("chunks", {})
    return chunks
