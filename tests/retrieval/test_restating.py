"""Questions as beginnings of statements."""

from __future__ import annotations

import pytest

from continual_learning.retrieval.restating import restated


@pytest.mark.parametrize(
    ("question", "statement"),
    [
        ("Who mapped the Alta Vista Tract?", "Mapped the Alta Vista Tract"),
        ("What do comb jellies eat?", "Comb jellies eat"),
        ("In what year was the mill sold?", "The mill sold"),
        ("How many cats live there?", "Cats live there"),
        ("Name the potters.", "Name the potters."),
        ("Why?", "Why"),
    ],
)
def test_the_question_word_and_the_auxiliary_go(question: str, statement: str) -> None:
    assert restated(question) == statement
