"""Splits by article and samples."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continual_learning.datasets.base import Dataset, QADocument, sample, sample_evenly, split_by_article
from continual_learning.documents import Document
from continual_learning.errors import InputError
from continual_learning.types import QuestionAnswer


def make(articles: int, documents: int = 3, questions: int = 3) -> Dataset:
    """Documents 0 to ``documents`` - 1 of each article, in turns."""
    return Dataset(
        "made",
        "made",
        tuple(
            QADocument(
                Document(f"Text {d} of article {a}."),
                tuple(QuestionAnswer(f"What is {a} {d} {q}?", (f"{q}",)) for q in range(questions)),
                f"article {a}",
            )
            for d in range(documents)
            for a in range(articles)
        ),
    )


def ids(dataset: Dataset) -> list[str]:
    return [item.document.id for item in dataset.documents]


def articles(dataset: Dataset) -> set[str]:
    return {item.article for item in dataset.documents}


@given(st.integers(2, 9), st.integers(0, 5), st.floats(0.01, 0.99))
def test_a_split_shares_no_article_and_loses_no_document(count: int, seed: int, share: float) -> None:
    dataset = make(count)
    learn, holdout = split_by_article(dataset, seed, share)
    assert articles(learn).isdisjoint(articles(holdout))
    assert Counter(ids(learn) + ids(holdout)) == Counter(ids(dataset))
    assert abs(len(articles(holdout)) - count * share) <= 1
    assert learn.documents and holdout.documents
    assert (learn.split, holdout.split, learn.seed, holdout.seed) == ("learn", "holdout", seed, seed)


def test_a_split_depends_on_seed_and_names_not_on_order() -> None:
    dataset = make(10)
    turned = replace(dataset, documents=dataset.documents[::-1])
    learn, _ = split_by_article(dataset, seed=3)
    again, _ = split_by_article(turned, seed=3)
    assert articles(learn) == articles(again)
    assert ids(learn) == [i for i in ids(dataset) if i in set(ids(learn))]
    assert len({frozenset(articles(split_by_article(dataset, seed)[0])) for seed in range(8)}) > 1
    # Written down, so that no release moves an article to the other side.
    assert sorted(articles(split_by_article(make(4), seed=0)[1])) == ["article 1", "article 3"]


def test_documents_of_no_article_are_split_one_by_one() -> None:
    dataset = make(1, documents=6)
    loose = replace(dataset, documents=tuple(replace(item, article="") for item in dataset.documents))
    learn, holdout = split_by_article(loose)
    assert (len(learn.documents), len(holdout.documents)) == (3, 3)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="holdout ="):
        split_by_article(make(3), holdout=share)


def test_one_article_cannot_be_split() -> None:
    with pytest.raises(InputError, match="at least 2"):
        split_by_article(make(1))


def test_a_sample_has_one_document_of_each_article() -> None:
    drawn = sample(make(8), 8, seed=1)
    assert len(drawn.documents) == len(articles(drawn)) == 8
    assert drawn.seed == 1


def test_a_smaller_sample_begins_a_larger_one() -> None:
    dataset = make(8)
    for one in (True, False):
        assert ids(sample(dataset, 3, 5, one)) == ids(sample(dataset, 7, 5, one))[:3]
    assert len({tuple(ids(sample(dataset, 3, seed))) for seed in range(5)}) > 1


def test_large_articles_are_not_drawn_more_often() -> None:
    small, large = make(10, documents=1), make(1, documents=60)
    dataset = replace(small, documents=small.documents + large.documents[1:])
    first = Counter(sample(dataset, 1, seed).documents[0].article for seed in range(100))
    assert first["article 0"] < 25


def test_a_sample_from_all_documents_repeats_none() -> None:
    drawn = sample(make(2, documents=5), 10, one_per_article=False)
    assert len(set(ids(drawn))) == 10


def test_an_even_sample_takes_from_all_articles_in_turn() -> None:
    large = make(1, documents=20).documents
    small = tuple(replace(item, article=f"small {n}") for n, item in enumerate(make(3, documents=2).documents[1:3]))
    dataset = replace(make(1), documents=(*large, *small))
    drawn = sample_evenly(dataset, 6, seed=2, questions=2, min_questions=3)
    assert Counter(item.article for item in drawn.documents) == {"article 0": 4, "small 0": 1, "small 1": 1}
    assert len({item.article for item in drawn.documents[:3]}) == 3
    assert all(len(item.questions) == 2 for item in drawn.documents)
    assert ids(sample_evenly(dataset, 4, seed=2)) == ids(drawn)[:4]
    with pytest.raises(InputError, match="there are 0 such documents"):
        sample_evenly(dataset, 1, min_questions=4)


def test_only_documents_with_enough_questions_are_drawn() -> None:
    poor, rich = make(4, questions=2), make(2, documents=9, questions=3)
    mixed = replace(poor, documents=poor.documents + rich.documents[6:])
    assert all(len(item.questions) >= 3 for item in sample(mixed, 2).documents)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": 5}, ["5 documents", "at least 3 questions", "4 articles"]),
        ({"count": 13, "one_per_article": False}, ["13 documents", "12 such documents"]),
        ({"count": 1, "min_questions": 4}, ["at least 4 questions", "are 0"]),
        ({"count": 0}, ["count = 0"]),
    ],
)
def test_too_few_documents_are_an_error_that_says_how_many_there_are(arguments: dict, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        sample(make(4), **arguments)
    assert all(word in str(caught.value) for word in words), caught.value


def test_questions_about_no_single_document_stop_splits_and_samples() -> None:
    dataset = replace(make(4), shared_questions=(QuestionAnswer("Which?", ("all",)),))
    with pytest.raises(InputError, match="'document'"):
        split_by_article(dataset)
    with pytest.raises(InputError, match="'document'"):
        sample(dataset, 2)


def test_questions_are_those_of_the_documents_then_the_shared_ones() -> None:
    shared = QuestionAnswer("Which?", ("all",))
    dataset = replace(make(1, documents=2, questions=1), shared_questions=(shared,))
    assert [q.question for q in dataset.questions] == ["What is 0 0 0?", "What is 0 1 0?", "Which?"]


def test_the_sum_is_that_of_the_content_alone() -> None:
    dataset = make(2)
    first = dataset.documents[0]
    asked = first.questions[0]

    def sum_with(item: QADocument) -> str:
        return replace(dataset, documents=(item, *dataset.documents[1:])).sha256()

    relabelled = replace(dataset, name="x", source="y", split="learn", seed=9, notes=("z",))
    moved = replace(first, article="z", document=replace(first.document, source="elsewhere"))
    assert dataset.sha256() == relabelled.sha256() == sum_with(moved)
    others = {
        sum_with(replace(first, document=replace(first.document, text="other"))),
        sum_with(replace(first, document=replace(first.document, title="other"))),
        sum_with(replace(first, questions=(replace(asked, question="other"), *first.questions[1:]))),
        sum_with(replace(first, questions=(replace(asked, answers=("other",)), *first.questions[1:]))),
        sum_with(replace(first, questions=first.questions[1:])),
        replace(dataset, shared_questions=(asked,)).sha256(),
        replace(dataset, documents=dataset.documents[::-1]).sha256(),
    }
    assert len(others) == 7 and dataset.sha256() not in others
