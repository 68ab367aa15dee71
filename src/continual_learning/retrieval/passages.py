"""What a memory of texts holds about a question: passages, the sentences in them, and where to start quoting.

Chunks are ranked by an index, their sentences by `spans.SpanFinder`, and a sentence counts only if it is relevant at
all: together with its title and the preceding sentence it must hold a share of the question's content (coverage) in
words that are rare enough to mean something (evidence; see `routing`). Because single sentences are judged and not
whole chunks, a memory of many documents leaves general questions alone (benchmarks/LOG.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.retrieval.backends import Retriever, make_index
from continual_learning.retrieval.chunk_store import kept_chunks
from continual_learning.retrieval.following import FollowingIndex
from continual_learning.retrieval.index import Index, Key
from continual_learning.retrieval.routing import default_rarity, look_ups, term_hash
from continual_learning.retrieval.spans import SpanFinder
from continual_learning.text.chunking import sentences
from continual_learning.text.words import document_stems
from continual_learning.types import Source

_SCORE_SCALE = 4.0
"""Difference in score that makes a sentence count e times as much."""
_SHARPNESS = 1
"""Exponent on the start values: the higher, the less is left to the model."""
_RANK_WEIGHT = 10.0
"""Weight of the best chunk's rank relative to the score of a sentence in it; lower-ranked chunks in proportion."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of a memory, judged for one question."""

    text: str
    title: str
    chunk: Key
    number: int
    """Its number in the chunk."""
    score: float
    """How likely it contains the answer; comparable within one question only."""
    coverage: float
    """Share of the question's content that is in it or just before it, 0 to 1."""


@dataclass(frozen=True)
class Found:
    """What is relevant to a question."""

    query: str
    """The question, or the user's turn before it and the question."""
    sentences: tuple[Sentence, ...]
    """Best first; the first one is relevant."""
    chunks: tuple[tuple[Key, str, str], ...]
    """The chunks of these sentences, best first: key, title, text."""
    finder: SpanFinder

    def weighted(self, most: int) -> list[tuple[float, Sentence]]:
        """The best sentences, each with its weight relative to the first: 0 to 1."""
        chosen = self.sentences[:most]
        return [(math.exp(min(0.0, one.score - chosen[0].score) / _SCORE_SCALE), one) for one in chosen]

    def starts(self, words: Sequence[str], sizes: Sequence[int], room: int) -> dict[int, float]:
        """Map the number of a word in a sentence to the value of starting an answer there, 0 to 1.

        An answer starts only at informative words; if there is none, the sentence is quoted whole. ``sizes`` are the
        words' token counts, ``room`` is how many tokens may be written.
        """
        worth = self.finder.word_values(words)
        values = self.finder.start_values(words, sizes, room)
        return {n: values[n] ** _SHARPNESS for n in range(len(words)) if worth[n] > 0 and values[n] > 0} or {0: 1.0}

    def sources(self) -> tuple[Source, ...]:
        """The best sentence of each chunk, best first."""
        best = {sentence.chunk: sentence for sentence in reversed(self.sentences)}
        return tuple(
            Source(key[0], title, best[key].coverage, best[key].text, key[1], text) for key, title, text in self.chunks
        )


class PassageFinder:
    """Looks up questions in the chunks that a memory keeps in ``extra["chunks"]``, by document id."""

    def __init__(self, make_index: Callable[[], Index], top_k: int, min_coverage: float, min_evidence: float):
        self._index = FollowingIndex(make_index)
        self._top_k = top_k
        self._gate = (min_coverage, min_evidence)

    def find(self, state: State, text: str, history: Sequence[Message] = ()) -> Found | None:
        """What the memory holds about a question, or None.

        A text that finds nothing ("And when was that?") is looked up again together with the user's previous turn.
        """
        for query in look_ups(text, history):
            if found := self._find(state, query):
                return found
        return None

    def _find(self, state: State, query: str) -> Found | None:
        chunks = kept_chunks(state)
        hits = self._index.follow(chunks, state.meta.documents).search(query, self._top_k)
        if not hits:
            return None
        titles = {record.id: record.title for record in state.meta.documents}
        finder = SpanFinder(query, default_rarity())
        parts = [sentences(chunks[hit.key[0]][hit.key[1]]) for hit in hits]
        scores = iter(finder.sentence_scores([text for part in parts for text in part]))
        judged: list[Sentence] = []
        relevant: set[Sentence] = set()
        seen: set[tuple[str, str]] = set()
        best = hits[0].score
        for hit, part in zip(hits, parts, strict=True):
            title = titles[hit.key[0]]
            for number, text in enumerate(part):
                score = next(scores) + _RANK_WEIGHT * hit.score / best
                if (hit.key[0], text) in seen:  # chunks overlap
                    continue
                seen.add((hit.key[0], text))
                around = " ".join([title, *part[max(0, number - 1) : number + 1]])
                key = frozenset(map(term_hash, document_stems(around)))
                [(coverage, evidence)] = default_rarity().match(query, [key])
                one = Sentence(text, title, hit.key, number, score, coverage)
                judged.append(one)
                if coverage >= self._gate[0] and evidence >= self._gate[1]:
                    relevant.add(one)
        if not relevant:
            return None
        judged.sort(key=lambda s: (s not in relevant, -s.score, s.chunk, s.number))
        order = list(dict.fromkeys(s.chunk for s in judged))
        return Found(query, tuple(judged), tuple((k, titles[k[0]], chunks[k[0]][k[1]]) for k in order), finder)


class QuestionFinder:
    """A `PassageFinder` for whichever base asks, since some retrievers use the base. Derived, and part of no state."""

    def __init__(self, retriever: Retriever, encoder: str, top_k: int, min_coverage: float, min_evidence: float):
        self._retriever: Retriever = retriever
        self._encoder = encoder
        self._limits = (top_k, min_coverage, min_evidence)
        self._made: tuple[BaseModel, PassageFinder] | None = None

    def find(self, base: BaseModel, state: State, text: str, history: Sequence[Message] = ()) -> Found | None:
        """See `PassageFinder.find`."""
        if self._made is None or self._made[0] is not base:
            made = PassageFinder(lambda: make_index(self._retriever, base, self._encoder), *self._limits)
            self._made = (base, made)
        return self._made[1].find(state, text, history)
