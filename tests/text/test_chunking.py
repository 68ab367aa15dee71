"""Where text is cut."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continual_learning.text.chunking import fragments, passages, sentence_chunks, sentences


def count(text: str) -> int:
    return len(text.split())


TEXT = (
    "Dr. Ada Quill founded the mill in 1811. It burned down twice, in 1830 and in 1852, and was rebuilt each time.\n\n"
    "Was it profitable? Nobody knows! The U.S. consul J. Hart doubted it."
)


def test_sentences_do_not_end_at_abbreviations() -> None:
    assert sentences(TEXT) == [
        "Dr. Ada Quill founded the mill in 1811.",
        "It burned down twice, in 1830 and in 1852, and was rebuilt each time.",
        "Was it profitable?",
        "Nobody knows!",
        "The U.S. consul J. Hart doubted it.",
    ]


@pytest.mark.parametrize("limit", [3, 5, 8, 40])
def test_fragments_lose_no_word_and_keep_to_the_limit(limit: int) -> None:
    for sentence in sentences(TEXT):
        pieces = fragments(sentence, count, limit)
        assert " ".join(pieces) == sentence
        assert all(count(piece) <= limit for piece in pieces)


def test_fragments_are_cut_at_phrases() -> None:
    sentence = "The bridge was built by Otto Brand, who came from Lund, and it carried two rail tracks."
    assert fragments(sentence, count, 10) == [
        "The bridge was built by Otto Brand, who came",
        "from Lund, and it carried two rail tracks.",
    ]


@pytest.mark.parametrize("limit", [6, 12, 30, 100])
def test_passages_are_whole_and_within_the_limit(limit: int) -> None:
    found = passages(TEXT, count, limit)
    assert " ".join(found).split() == TEXT.split()
    assert all(count(passage) <= limit for passage in found)


def test_passages_are_few_and_of_about_one_length() -> None:
    text = " ".join(f"Sentence number {i} has just seven words." for i in range(13))
    assert [count(p) for p in passages(text, count, 40)] == [28, 28, 35]
    assert [count(p) for p in passages(text, count, 91)] == [91]
    assert [count(p) for p in passages(text, count, 90)] == [42, 49]


def test_no_text_gives_nothing() -> None:
    assert sentences("  \n ") == [] and fragments(" ", count, 5) == [] and passages("", count, 5) == []


TEN = " ".join(f"Sentence number {i} has just seven words." for i in range(10))


def test_chunks_without_overlap_are_the_text() -> None:
    found = sentence_chunks(TEN, count, 21, 0)
    assert " ".join(found) == TEN and [count(c) for c in found] == [21, 21, 21, 7]
    assert sentence_chunks(TEXT, count, 100, 20) == [" ".join(TEXT.split())], "what fits stays whole"
    assert sentence_chunks("", count, 9, 0) == []


def test_chunks_begin_with_the_end_of_the_one_before() -> None:
    found = sentence_chunks(TEN, count, 21, 7)
    assert [[int(n) for n in re.findall(r"\d", c)] for c in found] == [
        [0, 1, 2],
        [2, 3, 4],
        [4, 5, 6],
        [6, 7, 8],
        [8, 9],
    ]
    assert sentence_chunks(TEN, count, 21, 6) == sentence_chunks(TEN, count, 21, 0), "no whole sentence in 6 tokens"


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), max_size=15), limit=st.integers(4, 40), overlap=st.integers(0, 40))
def test_chunks_hold_every_word_within_the_limit(lengths: list[int], limit: int, overlap: int) -> None:
    said = iter(range(1000))
    text = " ".join(" ".join(f"W{next(said)}" for _ in range(n)) + "." for n in lengths)
    found = [[int(n) for n in re.findall(r"\d+", c)] for c in sentence_chunks(text, count, limit, overlap)]
    assert all(len(c) <= limit for c in found)
    assert all(c == list(range(c[0], c[-1] + 1)) for c in found), "each is one stretch of the text"
    assert sorted({n for c in found for n in c}) == list(range(sum(lengths)))
    for before, after in pairwise(found):
        assert after[-1] > before[-1] and after[0] > before[0], "each goes on"
        assert before[-1] - after[0] + 1 <= overlap
