"""Where text is cut."""

from __future__ import annotations

import pytest

from continual_learning.chunking import fragments, passages, sentences


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
