"""Retrieval: passages that BM25 finds for a question are read, by the reader or as part of the prompt.

Lewis et al. 2020 (arXiv 2005.11401) with a fixed retriever: documents are cut into chunks of sentences that overlap,
the chunks are ranked by BM25 (`retrieval.bm25`), and the best are read by the reader that the settings name
(`reading.answering`); without one they precede the question in the prompt (`reading.in_prompt`). If nothing relevant is
found (`retrieval.relevance`), the base gives its own answer.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from continual_learning.documents import Document
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.answering import ReaderConfig, answers_from_each, chosen_reader
from continual_learning.reading.in_prompt import Excerpt, ReadingConfig, read_answers
from continual_learning.reading.plain import plain_answers
from continual_learning.reading.wholes.library import Library, library_of
from continual_learning.retrieval.chunk_store import (
    CHUNK_TOKENS,
    MIN_SCORE,
    OVERLAP_TOKENS,
    TOP_K,
    ChunkFinder,
    RelevantChunk,
    chunk_count,
    keep_document,
    kept_chunks,
    whole_text,
    without_chunks,
)
from continual_learning.retrieval.relevance import holds_much
from continual_learning.strategies.base import Cost, plain_report
from continual_learning.strategies.reading import ReadingStrategy
from continual_learning.types import UNAFFECTED, Answer, LearnReport, ProgressCallback, QuestionAnswer, TokenCallback


class RAGConfig(ReadingConfig, ReaderConfig):
    """Settings of the rag strategy: what is retrieved, and how it is read."""

    top_k: int = Field(TOP_K, ge=1)
    """Maximum number of chunks that are read."""
    chunk_tokens: int = Field(CHUNK_TOKENS, ge=8)
    """Maximum tokens per chunk; a chunk holds as many whole sentences as fit."""
    overlap_tokens: int = Field(OVERLAP_TOKENS, ge=0)
    """Maximum tokens of overlap between neighbouring chunks, in whole sentences."""
    min_score: float = Field(MIN_SCORE, ge=0, le=1)
    """Minimum relevance of a chunk that is read (see `retrieval.relevance`); 0 accepts any shared word."""

    RETIRED: ClassVar[Mapping[str, object]] = {**ReadingConfig.RETIRED, **ReaderConfig.RETIRED, "k1": 1.5, "b": 0.75}

    @model_validator(mode="after")
    def _overlap_is_shorter(self) -> Self:
        if self.overlap_tokens >= self.chunk_tokens:
            raise ValueError(f"overlap_tokens {self.overlap_tokens} must be below chunk_tokens {self.chunk_tokens}")
        return self


class RAG(ReadingStrategy[RAGConfig]):
    """Keeps the documents in chunks and reads those that a question is about."""

    summary = "retrieves passages (BM25) and reads them"
    Config = RAGConfig
    role = "baseline"
    cost = Cost(
        answer=1.25,
        token_bytes=5.4,
        prompt_tokens=TOP_K * CHUNK_TOKENS,
        f1={"smollm2-135m": 0.613, "gemma3-270m": 0.615},
        f1_without_reader={"smollm2-135m": 0.107, "gemma3-270m": 0.401},
    )

    def __init__(self, config: RAGConfig):
        super().__init__(config)
        self._finder = ChunkFinder(config.top_k, config.min_score)

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Cut the document into chunks and keep them. They are indexed at the first question."""
        limits = self.config.chunk_tokens, self.config.overlap_tokens
        kept, tokens, size = keep_document(base, state, document, *limits)
        reason = f"kept in {len(kept_chunks(kept)[document.id])} chunks"
        return kept, plain_report(document, True, reason, tokens, size)

    def answer_spans(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer each question from the chunks that are relevant to it, or with the base if there are none."""
        found = [self._finder.find(state, question, history) for question in questions]
        answers: dict[int, Answer] = {}
        for reads in (True, False):
            chosen = [i for i, chunks in enumerate(found) if bool(chunks) == reads]
            asked = [questions[i] for i in chosen]
            if not asked:
                continue
            if reads:
                # the best chunk is next to the question, and the last to be cut
                excerpts = [[_excerpt(c) for c in reversed(found[i])] for i in chosen]
                sources = [tuple(c.source for c in found[i]) for i in chosen]
                reader = chosen_reader(base, self.config)
                if reader is not None:
                    read = [source[::-1] for source in sources]  # the best last, as in a prompt
                    made = answers_from_each(
                        base, reader, read, asked, max_new_tokens, on_token, history, holds_much(state)
                    )
                else:
                    made = read_answers(base, self.config, excerpts, asked, max_new_tokens, on_token, history, sources)
            else:
                made = plain_answers(base, asked, max_new_tokens, on_token, history)
            answers.update(zip(chosen, made, strict=True))
        return [answers[i] for i in range(len(questions))]

    def library(self, base: BaseModel, state: State) -> Library | None:
        """The texts that the chunks are cut from; None without a reader."""
        reader = chosen_reader(base, self.config)
        if reader is None:
            return None

        def route(question: str, history: Sequence[Message]) -> str | None:
            found = self._finder.find(state, question, history)
            return found[0].key[0] if found else None

        return library_of(state, lambda document_id: whole_text(state, document_id), route)

    def finds(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether anything relevant is found for ``text``."""
        return bool(self._finder.find(state, text))

    def span_key(self, base: BaseModel, state: State, question: str) -> Hashable | None:
        """The chunks that the question is answered from."""
        return tuple(_excerpt(chunk) for chunk in self._finder.find(state, question)) or UNAFFECTED

    def context(self, base: BaseModel, state: State, text: str) -> str:
        """The chunks found for ``text``, best last."""
        return "\n\n".join(str(_excerpt(c)) for c in reversed(self._finder.find(state, text)))

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Drop the document's chunks."""
        return without_chunks(super().forget(base, state, document_id), document_id)

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """The number of chunks."""
        return {"chunks": chunk_count(state)}


def _excerpt(chunk: RelevantChunk) -> Excerpt:
    return Excerpt(chunk.text, chunk.title)
