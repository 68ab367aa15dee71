"""When an answer counts as right."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from continual_learning.text.scoring import contains_answer, exact_match, token_f1


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
        ("灯塔由林海设计，建于1907年。", ["林海"]),
        ("灯塔由林海设计，建于1907年。", ["1907"]),
        ("건축가 한지수가 설계했다", ["한지수"]),
    ],
)
def test_right(text: str, answers: list[str]) -> None:
    assert contains_answer(text, answers)


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("Parisian", ["Paris"]),
        ("47", ["4"]),
        ("建于1907年", ["190"]),
        ("林海", ["海林"]),
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


# SQuAD's definition (official evaluation, version 2.0), stated anew: without regular expressions, and with exact
# fractions.
PUNCTUATION = set("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def squad_words(text: str) -> list[str]:
    kept = "".join(c for c in text.lower() if c not in PUNCTUATION)
    runs = ["".join(run) for _, run in groupby(kept, key=lambda c: c.isalnum() or c == "_")]
    return "".join(" " if run in ("a", "an", "the") else run for run in runs).split()


def squad_scores(text: str, answers: Sequence[str]) -> tuple[bool, Fraction]:
    """Exact match and F1."""
    found = squad_words(text)
    golds = [words for answer in answers if (words := squad_words(answer))] or [[]]
    scores = []
    for gold in golds:
        left, same = list(gold), 0
        for word in found:
            if word in left:
                left.remove(word)
                same += 1
        if not (found and gold):
            scores.append(Fraction(found == gold))
        elif not same:
            scores.append(Fraction(0))
        else:
            precision, recall = Fraction(same, len(found)), Fraction(same, len(gold))
            scores.append(2 * precision * recall / (precision + recall))
    return any(found == gold for gold in golds), max(scores)


@pytest.mark.parametrize(
    ("text", "answers", "exact", "f1"),
    [
        ("The  Denver\nBroncos!", ["Denver Broncos"], True, Fraction(1)),  # articles, white space, punctuation
        ("a nine-hole flute", ["nine hole flute"], False, Fraction(2, 5)),  # a hyphen is deleted: ninehole
        ("nine-hole", ["ninehole"], True, Fraction(1)),
        ("24–10", ["2410"], False, Fraction(0)),  # an en dash is not ASCII and stays
        ("24-10", ["2410"], True, Fraction(1)),
        ("vitamin a–b", ["vitamin –b"], True, Fraction(1)),  # a dash bounds the article
        ("another theme", ["other me"], False, Fraction(0)),  # no article inside a word
        ("an-an", ["anan"], True, Fraction(1)),  # punctuation goes before articles
        ("a.", ["the"], True, Fraction(1)),  # nothing is left of either
        ("", ["the"], True, Fraction(1)),
        ("", [], True, Fraction(1)),
        ("something", ["the"], False, Fraction(0)),
        ("", ["x"], False, Fraction(0)),
        ("the", ["x", "an"], False, Fraction(0)),  # a gold answer of which nothing is left does not count
        ("4,820 people", ["4820"], False, Fraction(2, 3)),
        ("4,820", ["4820"], True, Fraction(1)),
        ("3.5", ["35"], True, Fraction(1)),
        ("Levi's Stadium", ["levis stadium"], True, Fraction(1)),  # a possessive keeps its s
        ("Levi’s Stadium", ["levis stadium"], False, Fraction(1, 2)),  # a curly apostrophe stays
        ("row row row", ["row"], False, Fraction(1, 2)),  # a repeated word counts once
        ("row row", ["row row row your"], False, Fraction(2, 3)),
        ("big red dog", ["cat", "the dog", "red dog"], False, Fraction(4, 5)),  # the nearest
        ("STRASSE", ["Straße"], False, Fraction(0)),  # lower case, not case folding
        ("snake_case", ["snakecase"], True, Fraction(1)),
        ("$ 50 %", ["50"], True, Fraction(1)),
    ],
)
def test_exact_match_and_f1_are_squads(text: str, answers: list[str], exact: bool, f1: Fraction) -> None:
    assert squad_scores(text, answers) == (exact, f1)
    assert exact_match(text, answers) is exact
    assert token_f1(text, answers) == pytest.approx(float(f1), abs=1e-12)


PIECES = st.sampled_from([*"a x7é-–'’,._\n\u0301", "an", "the", "The"])
TEXTS = st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(max_size=12))


@given(TEXTS, st.lists(TEXTS, max_size=3))
@example("the a an", ["the"])
def test_any_text_is_scored_as_squad_does(text: str, answers: list[str]) -> None:
    exact, f1 = squad_scores(text, answers)
    assert exact_match(text, answers) is exact
    assert token_f1(text, answers) == pytest.approx(float(f1), abs=1e-12)


WORD = st.from_regex(r"[b-z]{2,6}|[0-9]{1,2}", fullmatch=True).filter(lambda word: word != "the")
WORDS = st.lists(WORD, min_size=1, max_size=8)


@given(WORDS, st.data())
def test_every_run_of_whole_words_is_found(words: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    answer = " ".join(words[start:end])
    text = "; ".join(words).upper()
    assert contains_answer(text, [answer])
    assert not contains_answer(text, [answer + "a"])
    assert 0.0 < token_f1(text, [answer]) <= 1.0
