"""The documents of a memory: chunks that are looked up for a question, so that none is cut at the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from continual_learning.documents import Document
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.in_prompt import Excerpt
from continual_learning.retrieval import BM25Index, FollowingIndex, Key, Relevance
from continual_learning.text.chunking import sentence_chunks
from continual_learning.types import Source

_QUOTE = 160
# As measured for retrieval alone (benchmarks/README.md, rag): two chunks of 160 tokens that overlap by 32, none that
# holds less than half of the question's content.
TOP_K = 2
CHUNK_TOKENS = 160
OVERLAP_TOKENS = 32
MIN_SCORE = 0.5


@dataclass(frozen=True)
class Found:
    """A chunk that is relevant to a question."""

    key: Key
    excerpt: Excerpt
    relevance: float

    @property
    def source(self) -> Source:
        """Where it came from."""
        return Source(self.key[0], self.excerpt.title, self.relevance, self.excerpt.text[:_QUOTE])


class DocumentSearch:
    """Looks chunks up. Holds an index that follows whatever state is asked about, and is no part of any."""

    def __init__(self, relevance: Relevance):
        self._relevance = relevance
        self._index = FollowingIndex(BM25Index)

    def find(self, state: State, question: str, history: Sequence[Message] = ()) -> list[Found]:
        """The relevant ones of the best chunks, best last: next to the question.

        A question that finds none is looked up once more together with the user's turn before it.
        """
        index = self._index.follow(chunks_of(state), state.meta.documents)
        earlier = [m["content"] for m in history if m["role"] == "user"][-1:]
        for query in (question, " ".join([*earlier, question]))[: 1 + len(earlier)]:
            found = [self._judged(state, query, hit.key) for hit in index.search(query, TOP_K)]
            if relevant := [chunk for chunk in found if chunk.relevance >= MIN_SCORE]:
                return relevant[::-1]
        return []

    def _judged(self, state: State, query: str, key: Key) -> Found:
        document_id, number = key
        record = state.meta.document(document_id)
        assert record is not None, document_id
        excerpt = Excerpt(chunks_of(state)[document_id][number], record.title)
        return Found(key, excerpt, self._relevance(query, str(excerpt)))


def with_chunks(base: BaseModel, state: State, document: Document) -> tuple[State, int, int]:
    """The state with a document in it, the document's tokens, and the bytes of its chunks."""
    tokens = len(base.encode(document.text))
    chunks = sentence_chunks(document.text, lambda text: len(base.encode(text)), CHUNK_TOKENS, OVERLAP_TOKENS)
    record = DocumentRecord.of(document, tokens, {"chunks": len(chunks)})
    extra = {**state.meta.extra, "chunks": {**chunks_of(state), document.id: chunks}}
    meta = replace(state.meta, documents=(*state.meta.documents, record), extra=extra)
    return State(state.tensors, meta), tokens, sum(len(chunk.encode()) for chunk in chunks)


def chunks_of(state: State) -> dict[str, list[str]]:
    """The texts of a memory's chunks by document id."""
    chunks: dict[str, list[str]] = state.meta.extra.get("chunks", {})
    return chunks
