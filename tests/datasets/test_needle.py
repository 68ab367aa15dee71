"""Needles in haystacks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from continual_learning.datasets.base import Dataset
from continual_learning.datasets.needle import needle_dataset
from continual_learning.errors import InputError
from continual_learning.text.scoring import contains_answer

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel


def words(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=\.)\s+", text)


def facts(dataset: Dataset) -> list[str]:
    """The sentence of each document that holds its answer."""
    found = []
    for item in dataset.documents:
        (question,) = item.questions
        (fact,) = [s for s in sentences(item.document.text) if contains_answer(s, question.answers)]
        found.append(fact)
    return found


@pytest.mark.parametrize("length", [words, len])
@pytest.mark.parametrize("tokens", [400, 1000, 12_000])
def test_lengths_are_within_five_percent(length: Callable[[str], int], tokens: int) -> None:
    dataset = needle_dataset(5, tokens, 0, length)
    for item in dataset.documents:
        assert abs(length(item.document.text) - tokens) <= 0.05 * tokens
        assert item.tokens == tokens


def test_lengths_are_those_of_a_real_tokenizer(tiny_base: BaseModel) -> None:
    def length(text: str) -> int:
        return len(tiny_base.encode(text))

    for item in needle_dataset(6, 900, 1, length).documents:
        assert abs(length(item.document.text) - 900) <= 45


def test_the_same_seed_gives_the_same_set_and_another_seed_other_needles() -> None:
    first, again, other = (needle_dataset(12, 200, seed, words) for seed in (4, 4, 5))
    assert first.sha256() == again.sha256()
    assert not set(first.questions) & set(other.questions)
    assert (first.name, first.source, first.seed) == ("needle-200", "generated", 4)


def test_needles_depend_on_the_seed_and_not_on_the_length() -> None:
    assert needle_dataset(7, 200, 0, words).questions == needle_dataset(7, 600, 0, words).questions
    assert needle_dataset(7, 200, 0, words).questions == needle_dataset(9, 200, 0, words).questions[:7]


def test_the_answer_stands_once_in_its_own_document_and_not_in_the_question() -> None:
    dataset = needle_dataset(60, 200, 0, words)
    assert len(facts(dataset)) == 60
    for item in dataset.documents:
        (question,) = item.questions
        assert not contains_answer(question.question, question.answers)
        assert not contains_answer(item.document.title, question.answers)
        for other in dataset.documents:
            assert contains_answer(other.document.text, question.answers) == (other is item)


def test_no_name_or_number_comes_in_two_facts() -> None:
    found = facts(needle_dataset(120, 60, 3, words))
    named = [set(re.findall(r"\b[A-Z]\w+|\d+", fact)) - {"The"} for fact in found]
    assert all(named)
    assert max(Counter(name for names in named for name in names).values()) == 1


def test_needles_stand_at_their_depths() -> None:
    depths = (0.0, 0.3, 0.5, 1.0)
    dataset = needle_dataset(8, 1000, 0, words, depths)
    for item, fact, depth in zip(dataset.documents, facts(dataset), depths * 2, strict=True):
        text = item.document.text
        before = text.index(fact) / (len(text) - len(fact))
        assert item.depth == depth
        assert abs(before - depth) < 0.02
        assert text.startswith(fact) == (depth == 0.0)
        assert text.endswith(fact) == (depth == 1.0)


def test_no_sentence_comes_twice_in_the_set() -> None:
    dataset = needle_dataset(4, 5000, 0, words)
    counts = Counter(s for item in dataset.documents for s in sentences(item.document.text))
    assert max(counts.values()) == 1
    assert len({" ".join(s.split()[:3]) for s in counts}) > 0.2 * len(counts)


def test_hay_is_not_what_strategies_calibrate_on() -> None:
    from continual_learning.documents.shipped import background_texts, unrelated_texts

    shipped = " ".join([*background_texts(), *unrelated_texts()])
    hay = {s for item in needle_dataset(3, 3000, 0, words).documents for s in sentences(item.document.text)}
    assert not [s for s in hay if s in shipped]


@pytest.mark.parametrize(
    ("arguments", "words_of_error"),
    [
        ((1, 5, 0, words), ["tokens = 5", "ask for more"]),
        ((1, -5, 0, words), ["tokens = -5"]),
        ((0, 100, 0, words), ["count = 0"]),
        ((1, 100, 0, words, ()), ["depths = []"]),
        ((1, 100, 0, words, (0.5, 1.5)), ["depths =", "1.5"]),
    ],
)
def test_what_cannot_be_made_is_refused(arguments: tuple, words_of_error: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        needle_dataset(*arguments)
    assert all(word in str(caught.value) for word in words_of_error), caught.value
