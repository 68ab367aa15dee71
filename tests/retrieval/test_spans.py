"""Where an answer is likely to begin."""

from __future__ import annotations

import pytest

from continual_learning.retrieval.passages import default_rarity
from continual_learning.retrieval.spans import SpanFinder

MILL = "The Harrow mill ground barley until 1887, when the miller Otto Brand sold it to a brewery in Lund."
SENTENCES = [MILL, "It was built of grey stone.", "Its wheel turned slowly in the autumn floods."]


def finder(question: str) -> SpanFinder:
    return SpanFinder(question, default_rarity())


def best_word(question: str, room: int) -> str:
    words = MILL.split()
    values = finder(question).start_values(words, [1] * len(words), room)
    return words[max(range(len(words)), key=lambda i: values[i])]


def test_the_sentence_with_the_questions_words_comes_first() -> None:
    scores = finder("What did the Harrow mill grind?").sentence_scores(SENTENCES)
    assert scores[0] == max(scores)
    assert scores[1] > scores[2] > -1, "'It' refers to the sentence before"
    assert finder("?").sentence_scores([]) == []


@pytest.mark.parametrize(
    ("question", "word"),
    [("When was the Harrow mill sold?", "1887,"), ("Who was the miller who sold it?", "Otto")],
)
def test_the_kind_that_is_asked_for_counts(question: str, word: str) -> None:
    assert best_word(question, 1) == word


def test_stop_words_and_words_of_the_question_are_worth_nothing() -> None:
    words = MILL.split()
    values = dict(zip(words, finder("What did the Harrow mill grind?").word_values(words), strict=True))
    assert values["The"] == values["Harrow"] == values["mill"] == values["when"] == 0
    assert values["barley"] > values["Lund."] > 0, "near the question's words"


def test_the_value_of_a_start_is_what_fits_behind_it() -> None:
    words = "the mill ground barley and rye".split()
    find = finder("What was in the mill?")
    worth = find.word_values(words)
    starts = find.start_values(words, [1, 1, 1, 9, 1, 1], 3)
    assert starts[3] == 0, "barley is longer than the room"
    assert starts[4] == pytest.approx(worth[5] / max(worth[5], worth[2])) and max(starts) == 1.0
    assert find.start_values(["the"], [1], 3) == [0.0]
