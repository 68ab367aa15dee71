"""When an answer counts as right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continual_learning.scoring import contains_answer, token_f1


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("It was PARIS, of course.", ["paris"]),
        ("a town of 4,820 people", ["4820"]),
        ("a town of 4820 people", ["4,820"]),
        ("the Amblin family keeps it", ["Amblin family"]),
        ("Amblin family", ["the Amblin family"]),
        ("a nine-hole flute", ["nine"]),
        ("Water is H2O.", ["H₂O"]),
        ("3.5 metres", ["3.5"]),
        ("blood group A", ["A"]),
        ("the second of these", ["first", "second"]),
    ],
)
def test_right(text: str, answers: list[str]) -> None:
    assert contains_answer(text, answers)


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("Parisian", ["Paris"]),
        ("47", ["4"]),
        ("13.5 metres", ["3.5"]),
        ("3.5 metres", ["3"]),
        ("Vesk Ruta", ["Ruta Vesk"]),
        ("anything", ["?"]),
        ("", ["x"]),
        ("anything", []),
        ("blood group B", ["A"]),
    ],
)
def test_wrong(text: str, answers: list[str]) -> None:
    assert not contains_answer(text, answers)


def test_f1_takes_the_nearest_answer() -> None:
    assert token_f1("the engineer Ruta Vesk", ["Holloway", "Ruta Vesk"]) == pytest.approx(0.8)
    assert token_f1("nobody", ["Ruta Vesk"]) == 0.0
    assert token_f1("nobody", []) == 0.0


WORDS = st.lists(st.from_regex(r"[b-z]{2,6}|[0-9]{1,2}", fullmatch=True), min_size=1, max_size=8)


@given(WORDS, st.data())
def test_every_run_of_whole_words_is_found(words: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    answer = " ".join(words[start:end])
    text = "; ".join(words).upper()
    assert contains_answer(text, [answer])
    assert not contains_answer(text, [answer + "a"])
    assert 0.0 < token_f1(text, [answer]) <= 1.0
