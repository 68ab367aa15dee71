"""Okapi BM25 over texts that are added and removed.

    score(q, d) = sum over terms t of q of  idf(t) * tf(t, d) / (tf(t, d) + k1 * (1 - b + b * |d| / mean |d|)),
    idf(t) = log(1 + (N - df(t) + 1/2) / (df(t) + 1/2)),

with N texts, df(t) of them containing t, and |d| the number of terms of d: the exact form of Lucene's BM25 in Kamphuis
et al. 2020, "Which BM25 Do You Mean?" (ECIR), table 1, after Robertson et al. 1994. A term that occurs twice in
the query counts twice.

idf and the mean length change with every text, so postings hold counts alone and the rest is computed while searching:
adding a text costs time in proportion to that text, whereas an index of precomputed scores would have to be rebuilt.
That is why this is not bm25s, which the tests use as the reference: both find the same (recall at 1 and 3 on 3,000
SQuAD questions: 0.778 and 0.906), but with 10,000 chunks, learning a document of ten more and asking takes 0.6 s with
bm25s and 0.04 s with this.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import Counter

import numpy as np

from continual_learning.retrieval.index import Hit, Key
from continual_learning.text.words import document_terms, terms


class BM25Index:
    """An inverted index in memory. See `index.Index`.

    Raises ValueError for ``k1`` below 0 or ``b`` outside 0 to 1.
    """

    def __init__(self, k1: float = 1.5, b: float = 0.75):
        if k1 < 0 or not 0 <= b <= 1:
            raise ValueError(f"k1 = {k1}, b = {b}; expected k1 of at least 0 and b from 0 to 1")
        self.k1 = k1
        self.b = b
        # Each text has a slot in the arrays below; slots of removed texts are reused.
        self._slots: dict[Key, int] = {}
        self._keys: list[Key | None] = []
        self._lengths = array("q")
        self._free: list[int] = []
        self._postings: dict[str, dict[int, int]] = {}
        """term -> slot -> how often the term occurs in that text"""
        self._terms: dict[Key, tuple[str, ...]] = {}
        """the distinct terms of each text, so that removing it is as cheap"""
        self._total_length = 0

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: Key) -> bool:
        return key in self._slots

    def add(self, key: Key, text: str) -> None:
        """Add a text, in time proportional to its length. Raises ValueError if the key exists already."""
        if key in self._slots:
            raise ValueError(f"the index holds {key!r} already; remove it first")
        counts = Counter(document_terms(text))
        length = counts.total()
        if self._free:
            slot = self._free.pop()
            self._keys[slot], self._lengths[slot] = key, length
        else:
            slot = len(self._keys)
            self._keys.append(key)
            self._lengths.append(length)
        self._slots[key] = slot
        self._terms[key] = tuple(counts)
        self._total_length += length
        for term, count in counts.items():
            self._postings.setdefault(term, {})[slot] = count

    def remove(self, key: Key) -> None:
        """Remove a text. Raises KeyError for an unknown key."""
        if key not in self._slots:
            raise KeyError(f"the index does not hold {key!r}")
        slot = self._slots.pop(key)
        for term in self._terms.pop(key):
            posting = self._postings[term]
            del posting[slot]
            if not posting:
                del self._postings[term]
        self._total_length -= self._lengths[slot]
        self._keys[slot], self._lengths[slot] = None, 0
        self._free.append(slot)

    def search(self, query: str, k: int) -> list[Hit]:
        """At most ``k`` texts with a term of the query, best first; ties by key. Raises ValueError for k < 1."""
        if k < 1:
            raise ValueError(f"k = {k}; expected at least 1")
        scores = np.zeros(len(self._keys))
        lengths = np.array(self._lengths, dtype=np.int64)
        # Sorted, so that the same words in another order add up to the same score, to the last bit.
        for term, repeats in sorted(Counter(terms(query)).items()):
            posting = self._postings.get(term)
            if posting is None:
                continue
            slots = np.fromiter(posting.keys(), np.int64, len(posting))
            counts = np.fromiter(posting.values(), np.float64, len(posting))
            idf = math.log(1 + (len(self) - len(posting) + 0.5) / (len(posting) + 0.5))
            relative = lengths[slots] * len(self) / self._total_length
            scores[slots] += repeats * idf * counts / (counts + self.k1 * (1 - self.b + self.b * relative))
        found = np.flatnonzero(scores)
        if len(found) > k:  # all that reach the k-th score, so that ties at the cut-off are ordered by key
            found = found[scores[found] >= np.partition(scores[found], -k)[-k]]
        hits = [Hit(key, float(scores[slot])) for slot in found.tolist() if (key := self._keys[slot]) is not None]
        return heapq.nsmallest(k, hits, key=lambda hit: (-hit.score, hit.key))
