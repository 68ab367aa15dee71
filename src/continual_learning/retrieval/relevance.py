"""Whether a retrieved text is relevant at all: a measure with an absolute zero.

BM25 ranks, but its scores mean nothing by themselves: they depend on the number and the length of the texts, and in a
memory of one text every word is as frequent as every other. So relevance is measured against ordinary text instead, by
the criteria of `routing`: coverage (the share of the query's content that the text holds) and evidence (how rare the
shared words are in background text, in nats):

    relevance(q, d) = min(1, coverage(q, d) / (1/2), evidence(q, d) / 15),  from 0 to 1.

By coverage alone a text that mentions Japan would be relevant to "What is the capital of Japan?"; by evidence alone any
two long texts would be related. Relevance is 1 for a text that holds half of the query's content, including three words
that none of the 150 background texts has (5 nats each).

Relevant texts share words with a question, maybe by accident: the more documents a memory has, the more often. Among
many documents a question is `surely_about` one if it names the document's subject, by a rare word of the title, or if
the text holds most of its content. Whatever else is relevant has to be believed on other grounds, or left alone.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from functools import cache

from continual_learning.memory.state import State
from continual_learning.retrieval.routing import Rarity, default_rarity, rare_terms, term_hash
from continual_learning.text.words import document_stems

_FULL_COVERAGE = 0.5
_FULL_EVIDENCE = 15.0

FEW_DOCUMENTS = 3
"""Up to this many documents, routing alone leaves 98% of questions about other things to the base. Measured with 600
questions of searches (Natural Questions), which share enough words with 1.3% of memories of 2 passages of SQuAD, with
2.0% for 3, 2.9% for 5, 5% for 10, 13% for 30 and 31% for 150."""
FEW_TOKENS = 5_000
"""What few documents hold at most: a long one has as many passages that share words as many short ones. Of 60 general
questions beside a document of 50,000 tokens, 26% of those that the base answers were kept without this limit."""
# Of questions that found one of 150 passages of SQuAD, these reach both or name the title (those that name it): 62 (39)
# of 75 that it answers, 13 (12) of 16 on its article that no passage answers, 8 (6) of 113 on other things.
_SURE_COVERAGE, _SURE_EVIDENCE = 0.7, 10.0


def holds_much(state: State) -> bool:
    """Whether a memory shares words with many questions about other things: it has many documents, or long ones."""
    documents = state.meta.documents
    return len(documents) > FEW_DOCUMENTS or sum(document.tokens for document in documents) > FEW_TOKENS


def text_key(title: str, text: str) -> frozenset[int]:
    """Hashes of the content stems of a text and its title."""
    return frozenset(map(term_hash, document_stems(f"{title} {text}")))


def surely_about(question: str, title: str, key: AbstractSet[int]) -> bool:
    """Whether a question is about a text, and shares words with it not just by accident. ``key``: `text_key`."""
    if not rare_terms(question).isdisjoint(map(term_hash, document_stems(title))):
        return True
    [(coverage, evidence)] = default_rarity().match(question, [frozenset(key)])
    return coverage >= _SURE_COVERAGE and evidence >= _SURE_EVIDENCE


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
