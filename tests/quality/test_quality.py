"""No change may lower, unseen, what the embedded model makes of 60 fixed questions."""

from __future__ import annotations

import json

import pytest
from quality_gate import REFERENCE, failures, measure, passages

from continual_learning.model.base_model import BaseModel

PASSED = {"quote_f1": 0.5, "ttt_parts_recited": 1.0, "quote_general_kept": 1.0, "ttt_general_kept": 1.0}


@pytest.mark.model
@pytest.mark.slow
def test_quality_is_kept(embedded_base: BaseModel) -> None:
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    figures = measure(embedded_base)
    assert not failures(figures, reference), figures


@pytest.mark.parametrize(
    ("figure", "allowed", "too_low"),
    [
        ("quote_f1", 0.471, 0.469),
        ("ttt_parts_recited", 0.99, 0.989),
        ("quote_general_kept", 0.97, 0.969),
        ("ttt_general_kept", 0.97, 0.969),
    ],
)
def test_each_figure_has_a_limit(figure: str, allowed: float, too_low: float) -> None:
    assert failures({**PASSED, figure: allowed}, PASSED) == []
    [line] = failures({**PASSED, figure: too_low}, PASSED)
    assert line.startswith(f"{figure} {too_low}")


def test_there_are_60_questions_whose_answers_are_in_the_text() -> None:
    held = passages()
    assert len({p["title"] for p in held}) == 12 and [len(p["questions"]) for p in held] == [5] * 12
    assert all(q["answer"] in p["context"] for p in held for q in p["questions"])
