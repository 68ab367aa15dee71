"""What a question asks for."""

from __future__ import annotations

import pytest

from continual_learning.text.answer_types import asked_for


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("When did the mill close?", "time"),
        ("In which year was it built?", "time"),
        ("How many cats live there?", "number"),
        ("What was the number of touchdowns?", "number"),
        ("Who mapped the tract?", "person"),
        ("Where is Lund?", "place"),
        ("What city is it in?", "place"),
        ("Why did it burn?", "reason"),
        ("What do comb jellies eat?", None),
        ("Is the whole thing new?", None),
    ],
)
def test_the_kind_of_answer(question: str, kind: str | None) -> None:
    assert asked_for(question) == kind
