"""Whether a retrieved text is relevant at all: a measure with an absolute zero.

BM25 ranks, but its scores mean nothing by themselves: they depend on the number and the length of the texts, and in a
memory of one text every word is as frequent as every other. So relevance is measured against ordinary text instead, by
the criteria of `routing`: coverage (the share of the query's content that the text holds) and evidence (how rare the
shared words are in background text, in nats):

    relevance(q, d) = min(1, coverage(q, d) / (1/2), evidence(q, d) / 15),  from 0 to 1.

By coverage alone a text that mentions Japan would be relevant to "What is the capital of Japan?"; by evidence alone any
two long texts would be related. Relevance is 1 for a text that holds half of the query's content, including three words
that none of the 150 background texts has (5 nats each).
"""

from __future__ import annotations

from functools import cache

from continual_learning.retrieval.routing import Rarity, default_rarity, term_hash
from continual_learning.text.words import document_stems

_FULL_COVERAGE = 0.5
_FULL_EVIDENCE = 15.0


class Relevance:
    """Relevance of texts to queries, with words weighted by their rarity in background text."""

    def __init__(self, rarity: Rarity):
        self._rarity = rarity

    @classmethod
    @cache
    def default(cls) -> Relevance:
        """Relevance by the background texts that ship with the package, which are counted once per process."""
        return cls(default_rarity())

    def __call__(self, query: str, text: str) -> float:
        """Relevance of ``text`` to ``query``, 0 to 1."""
        key = frozenset(map(term_hash, document_stems(text)))
        [(coverage, evidence)] = self._rarity.match(query, [key])
        return min(1.0, coverage / _FULL_COVERAGE, evidence / _FULL_EVIDENCE)
