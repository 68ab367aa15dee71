"""Whether a text that was found is relevant at all: a measure that knows its zero.

BM25 ranks, but its scores mean nothing by themselves: they depend on how many texts there are and on how long they
are, and in a memory of one text every word is as frequent as every other. So relevance is measured against ordinary
text instead, by what `routing` opens passages by: coverage (the share of the query's content that the text holds) and
evidence (how rare the shared words are in background text, in nats):

    relevance(q, d) = min(1, coverage(q, d) / (1/2), evidence(q, d) / 15),  from 0 to 1.

Coverage alone would take a text that mentions Japan for one about "What is the capital of Japan?"; evidence alone
takes any two long texts for related. It is 1 for a text that holds half of what the query says, and three words that
none of the 150 background texts has (5 nats each) among it.
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
        """By the background texts that ship with the package, counted once a process."""
        return cls(default_rarity())

    def __call__(self, query: str, text: str) -> float:
        """Relevance of ``text`` to ``query``, 0 to 1."""
        key = frozenset(map(term_hash, document_stems(text)))
        [(coverage, evidence)] = self._rarity.match(query, [key])
        return min(1.0, coverage / _FULL_COVERAGE, evidence / _FULL_EVIDENCE)
