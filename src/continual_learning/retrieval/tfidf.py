"""TF-IDF with cosine similarity, over texts that are added and removed.

    weight(t, d) = tf(t, d) * idf(t),   idf(t) = log((1 + N) / (1 + df(t))) + 1,
    score(q, d) = cosine of the two vectors of weights,

the vector space model of Salton and Buckley 1988 with the smoothed idf that is the default of scikit-learn's
TfidfVectorizer. As with `bm25`, idf changes with every text, so only counts are kept and the weights are computed while
searching: adding a text costs time in proportion to that text, whereas a fitted matrix would have to be rebuilt.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter

import numpy as np

from continual_learning.retrieval.index import Hit, Key
from continual_learning.text.words import document_terms, terms


class TfidfIndex:
    """An inverted index in memory. See `index.Index`."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        """term -> its number; numbers of terms that no longer occur are kept"""
        self._postings: list[dict[Key, int]] = []
        """by term number: key -> how often the term occurs in that text"""
        self._counts: dict[Key, tuple[np.ndarray, np.ndarray]] = {}
        """the term numbers and counts of each text"""

    def __len__(self) -> int:
        return len(self._counts)

    def __contains__(self, key: Key) -> bool:
        return key in self._counts

    def add(self, key: Key, text: str) -> None:
        """Add a text, in time proportional to its length. Raises ValueError if the key exists already."""
        if key in self._counts:
            raise ValueError(f"the index holds {key!r} already; remove it first")
        counts = Counter(document_terms(text))
        numbers = []
        for term, count in counts.items():
            number = self._numbers.setdefault(term, len(self._postings))
            if number == len(self._postings):
                self._postings.append({})
            self._postings[number][key] = count
            numbers.append(number)
        self._counts[key] = (np.array(numbers, np.int64), np.fromiter(counts.values(), np.float64, len(counts)))

    def remove(self, key: Key) -> None:
        """Remove a text. Raises KeyError for an unknown key."""
        if key not in self._counts:
            raise KeyError(f"the index does not hold {key!r}")
        for number in self._counts.pop(key)[0].tolist():
            del self._postings[number][key]

    def search(self, query: str, k: int) -> list[Hit]:
        """At most ``k`` texts with a term of the query, best first; ties by key. Raises ValueError for k < 1."""
        if k < 1:
            raise ValueError(f"k = {k}; expected at least 1")
        counted = sorted(Counter(terms(query)).items())
        asked = {self._numbers[term]: repeats for term, repeats in counted if term in self._numbers}
        idf = {number: self._idf(number) for number in asked}
        length = math.sqrt(math.fsum((repeats * idf[n]) ** 2 for n, repeats in asked.items()))
        products: dict[Key, float] = {}
        for number, repeats in asked.items():
            for key, count in self._postings[number].items():
                products[key] = products.get(key, 0.0) + repeats * count * idf[number] ** 2
        hits = [Hit(key, product / (length * self._length(key))) for key, product in products.items()]
        return heapq.nsmallest(k, hits, key=lambda hit: (-hit.score, hit.key))

    def _idf(self, number: int) -> float:
        return math.log((1 + len(self)) / (1 + len(self._postings[number]))) + 1

    def _length(self, key: Key) -> float:
        numbers, counts = self._counts[key]
        found = np.fromiter((len(self._postings[n]) for n in numbers.tolist()), np.float64, len(numbers))
        # Sorted by size, so that texts with the same words have the same norm, to the last bit.
        return math.sqrt(math.fsum((counts * (np.log((1 + len(self)) / (1 + found)) + 1)) ** 2))
