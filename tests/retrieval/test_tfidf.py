"""TF-IDF on texts that come and go: scikit-learn's weights, whatever the order."""

from __future__ import annotations

import math
import random
import time
from collections import Counter

import pytest

from continual_learning.retrieval import TfidfIndex, terms

WORDS = "otter river bridge copper violin harbour lantern meadow engine saddle walnut glacier".split()


def corpus(texts: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randrange(1, 30))) for _ in range(texts)]


def index_of(texts: list[str]) -> TfidfIndex:
    index = TfidfIndex()
    for number, text in enumerate(texts):
        index.add(("doc", number), text)
    return index


def cosine(query: str, texts: list[str], number: int) -> float:
    """Written down anew, with whole vectors."""
    counted = [Counter(terms(text)) for text in texts]
    idf = {t: math.log((1 + len(texts)) / (1 + sum(t in c for c in counted))) + 1 for c in counted for t in c}
    asked = {t: n * idf[t] for t, n in Counter(terms(query)).items() if t in idf}
    held = {t: n * idf[t] for t, n in counted[number].items()}
    product = sum(w * held.get(t, 0.0) for t, w in asked.items())
    return product / math.sqrt(sum(w * w for w in asked.values()) * sum(w * w for w in held.values()))


@pytest.mark.parametrize("query", ["otter", "copper violin", "walnut walnut glacier", "otter in the harbour"])
def test_scores_are_cosines_of_smoothed_tfidf(query: str) -> None:
    texts = corpus(40, seed=1)
    for hit in index_of(texts).search(query, 40):
        assert hit.score == pytest.approx(cosine(query, texts, hit.key[1]), rel=1e-9)


def test_what_is_found_depends_on_what_is_there_alone() -> None:
    texts = corpus(30, seed=2)
    index = index_of(texts)
    for number in range(0, 30, 2):
        index.remove(("doc", number))
    fresh = TfidfIndex()
    for number in range(29, 0, -2):
        fresh.add(("doc", number), texts[number])
    assert len(index) == len(fresh) == 15 and ("doc", 0) not in index
    assert index.search("copper otter bridge", 20) == fresh.search("copper otter bridge", 20)


def test_wrong_use() -> None:
    index = index_of(["otter"])
    with pytest.raises(ValueError, match="holds"):
        index.add(("doc", 0), "again")
    with pytest.raises(KeyError, match="does not hold"):
        index.remove(("doc", 9))
    with pytest.raises(ValueError, match="k = 0"):
        index.search("otter", 0)
    assert index.search("the and of", 3) == [] and index.search("unheard", 3) == []


def test_a_text_costs_that_text() -> None:
    """10,000 chunks, one after the other, and a search: a rebuilt matrix would take minutes."""
    texts = corpus(10_000, seed=3)
    started = time.perf_counter()
    index = index_of(texts)
    assert len(index.search("copper walnut", 3)) == 3
    assert time.perf_counter() - started < 20
