"""An index that keeps up with a memory finds what a new one would, and does only what is needed."""

from __future__ import annotations

import random
from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continual_learning.memory.state import DocumentRecord
from continual_learning.retrieval import BM25Index, FollowingIndex, Key

TITLES = {"a": "Otters", "b": "", "c": "Bridges"}
RECORDS = [DocumentRecord(i, title, "text", i * 64, 1, "2026-01-01T00:00:00+00:00") for i, title in TITLES.items()]
WORDS = "otter river bridge copper violin".split()


class Counting(BM25Index):
    """Counts what is done to it."""

    done: ClassVar[Counter[str]] = Counter()

    def add(self, key: Key, text: str) -> None:
        self.done["add"] += 1
        super().add(key, text)

    def remove(self, key: Key) -> None:
        self.done["remove"] += 1
        super().remove(key)


@pytest.fixture
def following() -> FollowingIndex:
    Counting.done = Counter()
    return FollowingIndex(Counting)


def test_a_new_document_costs_that_document(following: FollowingIndex) -> None:
    first = {"a": ["otter one", "otter two"]}
    following.follow(first, RECORDS)
    following.follow(first, RECORDS)
    assert Counting.done == {"add": 2}
    following.follow({**first, "b": ["copper"]}, RECORDS)
    assert Counting.done == {"add": 3}
    following.follow({"b": ["copper"]}, RECORDS)
    assert Counting.done == {"add": 3, "remove": 2}


def test_titles_are_searched_too(following: FollowingIndex) -> None:
    index = following.follow({"a": ["they swim"], "b": ["they swim"]}, RECORDS)
    assert [h.key for h in index.search("otter", 5)] == [("a", 0)]


def test_an_interruption_leaves_nothing_half_done(following: FollowingIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Counting, key: Key, text: str) -> None:
        if key == ("b", 1):
            raise KeyboardInterrupt
        BM25Index.add(self, key, text)

    chunks = {"a": ["otter"], "b": ["copper", "violin"]}
    with monkeypatch.context() as patch:
        patch.setattr(Counting, "add", interrupt)
        with pytest.raises(KeyboardInterrupt):
            following.follow(chunks, RECORDS)
    assert [h.key for h in following.follow(chunks, RECORDS).search("copper violin", 5)] == [("b", 0), ("b", 1)]


chunk = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
memory = st.dictionaries(st.sampled_from("abc"), st.lists(chunk, min_size=1, max_size=3))


@settings(max_examples=150, deadline=None)
@given(memories=st.lists(memory, min_size=1, max_size=6), query=chunk)
def test_it_finds_what_a_new_index_finds(memories: list[dict[str, list[str]]], query: str) -> None:
    following = FollowingIndex(BM25Index)
    for chunks in memories:
        fresh = BM25Index()
        for document_id in random.Random(0).sample(sorted(chunks), len(chunks)):
            for number, text in enumerate(chunks[document_id]):
                fresh.add((document_id, number), f"{TITLES[document_id]} {text}")
        assert following.follow(chunks, RECORDS).search(query, 5) == fresh.search(query, 5)
