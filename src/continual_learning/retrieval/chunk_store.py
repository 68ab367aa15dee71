"""The one store of chunks: documents cut into overlapping chunks of sentences, and those relevant to a question.

A memory keeps the chunks in ``extra["chunks"]``, by document id. `rag`, the jitrl strategies and `ace` all keep their
documents this way; `ChunkFinder` judges whole chunks, `passages.PassageFinder` their single sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from continual_learning.documents import Document
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.retrieval.bm25 import BM25Index
from continual_learning.retrieval.following import FollowingIndex
from continual_learning.retrieval.index import Key
from continual_learning.retrieval.relevance import Relevance
from continual_learning.retrieval.routing import look_ups
from continual_learning.text.chunking import joined, overlapping_chunks, sentence_chunks, spaces_before, usually_spaced
from continual_learning.text.lines import LINES, line_lengths
from continual_learning.types import Source

# Chosen by measuring retrieval alone (benchmarks/README.md, rag).
CHUNK_TOKENS = 160
"""Maximum tokens per chunk; a chunk holds as many whole sentences as fit."""
OVERLAP_TOKENS = 32
"""Maximum tokens of overlap between neighbouring chunks, in whole sentences."""
TOP_K = 2
"""Maximum number of chunks that are considered."""
MIN_SCORE = 0.5
"""Minimum relevance of a chunk (see `relevance`)."""

_QUOTE = 160
_JOINS = "chunk joins"
"""Name, among the details of a document, of what its chunks do not tell of how they overlap: `_joins`."""


def kept_chunks(state: State) -> Mapping[str, list[str]]:
    """The texts of a memory's chunks by document id."""
    chunks: dict[str, list[str]] = state.meta.extra.get("chunks", {})
    return chunks


def chunk_count(state: State) -> int:
    """How many chunks a memory holds."""
    return sum(map(len, kept_chunks(state).values()))


def cut(base: BaseModel, text: str, tokens: int, overlap: int) -> list[str]:
    """Cut a text into chunks of at most ``tokens``, in whole sentences."""
    return sentence_chunks(text, lambda part: len(base.encode(part)), tokens, overlap)


def with_chunks(state: State, record: DocumentRecord, chunks: Sequence[str]) -> State:
    """The state with one more document, in these chunks."""
    extra = {**state.meta.extra, "chunks": {**kept_chunks(state), record.id: list(chunks)}}
    return State(state.tensors, replace(state.meta, documents=(*state.meta.documents, record), extra=extra))


def keep_document(
    base: BaseModel, state: State, document: Document, tokens: int, overlap: int
) -> tuple[State, int, int]:
    """The state with a document in chunks of ``tokens``, the document's token count, and the bytes of its chunks."""
    overlapping = overlapping_chunks(document.text, lambda part: len(base.encode(part)), tokens, overlap)
    chunks = [chunk for chunk, _ in overlapping]
    details: dict[str, Any] = {"chunks": len(chunks), LINES: line_lengths(document.text)}
    if joins := _joins(document.text, overlapping):
        details[_JOINS] = joins
    record = DocumentRecord.of(document, len(base.encode(document.text)), details)
    return with_chunks(state, record, chunks), record.tokens, sum(len(chunk.encode()) for chunk in chunks)


def whole_text(state: State, document_id: str) -> str:
    """The text of a document from its chunks, each without what it repeats of the one before."""
    chunks = kept_chunks(state).get(document_id, [])
    record = state.meta.document(document_id)
    joins = record.details.get(_JOINS, ()) if record else ()
    known = {number: (repeated, bool(spaced)) for number, repeated, spaced in joins}
    pieces: list[str] = []
    spaces: list[bool | None] = []
    for number, chunk in enumerate(chunks):
        repeated, spaced = known.get(number, (_repeated(chunks[number - 1], chunk) if number else 0, None))
        if piece := _rest(chunk, repeated):
            pieces.append(piece)
            spaces.append(spaced)
    return joined(pieces, spaces)


def _joins(text: str, chunks: Sequence[tuple[str, int]]) -> list[list[int]]:
    """How chunks follow one another where their words do not tell, as where a word was cut or a script has no spaces.

    The number of the chunk, how many characters it repeats of the one before (not counting white space), and whether
    white space stands before the rest of it.
    """
    pieces = [_rest(chunk, repeated) for chunk, repeated in chunks]
    spaced = spaces_before(text, pieces)
    found = []
    for number in range(1, len(chunks)):
        (before, _), (chunk, repeated) = chunks[number - 1 : number + 1]
        usual = _repeated(before, chunk), usually_spaced(pieces[number - 1], pieces[number])
        if (repeated, spaced[number]) != usual:
            found.append([number, repeated, int(spaced[number])])
    return found


def _repeated(before: str, chunk: str) -> int:
    """How many characters of a chunk repeat the words at the end of the one before it, not counting white space."""
    earlier, words = before.split(), chunk.split()
    most = min(len(words), len(earlier))
    return len("".join(next((words[:n] for n in range(most, 0, -1) if earlier[-n:] == words[:n]), [])))


def _rest(chunk: str, characters: int) -> str:
    """A chunk from this many characters on, not counting white space."""
    at = 0
    while characters and at < len(chunk):
        characters -= not chunk[at].isspace()
        at += 1
    return " ".join(chunk[at:].split())


def without_chunks(state: State, document_id: str) -> State:
    """The state without the chunks of a document."""
    chunks = {k: v for k, v in kept_chunks(state).items() if k != document_id}
    return State(state.tensors, replace(state.meta, extra={**state.meta.extra, "chunks": chunks}))


@dataclass(frozen=True)
class RelevantChunk:
    """A chunk that is relevant to a question."""

    key: Key
    title: str
    """The title of its document."""
    text: str
    relevance: float

    @property
    def source(self) -> Source:
        """Where it came from; it quotes the beginning of the chunk."""
        return Source(self.key[0], self.title, self.relevance, self.text[:_QUOTE], self.key[1], self.text)


class ChunkFinder:
    """Finds the relevant chunks by BM25. Its index follows whichever state is asked about, and is part of none."""

    def __init__(self, top_k: int = TOP_K, min_score: float = MIN_SCORE):
        self._top_k = top_k
        self._min_score = min_score
        self._relevance = Relevance.default()
        self._index = FollowingIndex(BM25Index)

    def find(self, state: State, question: str, history: Sequence[Message] = ()) -> list[RelevantChunk]:
        """The relevant ones among the best chunks, best first."""
        index = self._index.follow(kept_chunks(state), state.meta.documents)
        for query in look_ups(question, history):
            found = [self._judged(state, query, hit.key) for hit in index.search(query, self._top_k)]
            if relevant := [chunk for chunk in found if chunk.relevance >= self._min_score]:
                return relevant
        return []

    def _judged(self, state: State, query: str, key: Key) -> RelevantChunk:
        document_id, number = key
        record = state.meta.document(document_id)
        assert record is not None, document_id
        text = kept_chunks(state)[document_id][number]
        titled = f"{record.title}\n{text}" if record.title else text
        return RelevantChunk(key, record.title, text, self._relevance(query, titled))
