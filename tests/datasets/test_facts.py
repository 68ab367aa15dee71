"""Made-up facts: seeded, answerable, and no word shared by two splits."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import cast

import pytest
import yaml

from continual_learning.datasets.facts import SPLITS, Split, fact_documents, split_of
from continual_learning.errors import InputError
from continual_learning.text.scoring import contains_answer
from continual_learning.types import QuestionAnswer

FILE = files("continual_learning") / "data" / "facts.yaml"
TEMPLATE_WORDS = {
    word for text in re.findall(r'"(.*)"', FILE.read_text(encoding="utf-8")) for word in re.findall(r"\w+", text)
}


def shape(question: QuestionAnswer) -> str:
    """A question without its names and numbers."""
    return re.sub(r"(?<!^)\b[A-Z]\w*|\d+", "", question.question)


def values(split: Split) -> set[str]:
    return {w for d in fact_documents(split, 40, 8) for q in d.questions for w in q.answers[0].split()}


def test_every_question_is_answered_by_its_document_and_its_reply() -> None:
    for made in fact_documents("train", 20, 8, seed=3):
        assert len(made.questions) == len(made.replies) == 8
        for question, reply in zip(made.questions, made.replies, strict=True):
            assert contains_answer(made.document.text, question.answers)
            assert contains_answer(reply, question.answers)
            assert not contains_answer(question.question, question.answers)


def test_no_question_is_asked_twice_with_two_answers() -> None:
    for made in fact_documents("validation", 20, 32):
        questions = [q.question for q in made.questions]
        assert len(set(questions)) == len(questions) == 32


def test_splits_share_no_word_of_a_value_and_no_name() -> None:
    train, validation, test = (values(split) for split in SPLITS)
    assert train and validation and test
    assert not train & validation and not train & test and not validation & test
    for split in SPLITS:
        for made in fact_documents(split, 20, 8):
            names = set(re.findall(r"\b[A-Z]\w{4,}|\d+(?::\d+)?", made.document.text)) - TEMPLATE_WORDS
            assert {split_of(name) for name in names} == {split}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_relations_are_said_and_asked_as_no_training_has_it(split: Split) -> None:
    trained = {shape(q) for d in fact_documents("train", 300, 8) for q in d.questions}
    held = {shape(q) for d in fact_documents(split, 40, 8, held=True) for q in d.questions}
    assert len(held) > 15
    assert not held & trained
    assert {split_of(w) for d in fact_documents(split, 40, 8, held=True) for q in d.questions
            for w in q.answers[0].split()} == {split}  # fmt: skip


def test_no_template_to_train_on_has_a_value_of_another_split() -> None:
    found = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    templates = [r for group in ("common", "training") for r in found["relations"][group]]
    said = {word.lower() for word in re.findall(r"[A-Za-z]+", str(templates))}
    words = {word for text in found["words"].values() for word in text.split()}
    assert [word for word in sorted(words) if word.lower() in said and split_of(word) != "train"] == []


def test_held_relations_are_not_for_training() -> None:
    with pytest.raises(InputError, match="validation or test"):
        fact_documents("train", 1, 8, held=True)


def test_a_subject_stands_before_its_value() -> None:
    """What comes behind a token is all that a generator can write of it: it has read no further."""
    texts = re.findall(r'"(.*{v}.*)"', FILE.read_text(encoding="utf-8"))
    assert len(texts) > 300
    assert [text for text in texts if text.index("{v}") < text.index("{s}")] == []


def test_the_seed_decides() -> None:
    assert fact_documents("test", 3, 4, seed=1) == fact_documents("test", 5, 4, seed=1)[:3]
    assert fact_documents("test", 3, 4, seed=1) != fact_documents("test", 3, 4, seed=2)


@pytest.mark.parametrize(("split", "count", "facts"), [("train", 0, 8), ("train", 1, 0), ("all", 1, 1)])
def test_what_cannot_be_made_is_refused(split: str, count: int, facts: int) -> None:
    with pytest.raises(InputError, match="expected"):
        fact_documents(cast(Split, split), count, facts)
