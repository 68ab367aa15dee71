"""Telegraphic questions made from a text by rule."""

from __future__ import annotations

import random

from continual_learning.text.answer_types import answer_spans
from continual_learning.text.words import is_content, words
from continual_learning.training.questions import ask, make_fragments, study_questions

TEXT = "Otto Brand opened the harbour of Lund on 3 June 1811 with seven cats. The Normans, led by Rollo, never saw it."


def count(text: str) -> int:
    return len(text.split())


def kinds() -> dict[str, str]:
    return {TEXT[s.start : s.end]: s.kind for s in answer_spans(TEXT)}


def test_answers_are_dates_numbers_names_and_phrases() -> None:
    found = kinds()
    assert found["1811"] == "date" and found["seven"] == "number" and found["Otto Brand"] == "name"
    assert found["Normans"] == "name", "a sentence's first word is no name"
    assert found["seven cats"] == "phrase"


def test_fragments_keep_to_their_limit_and_answers_go_on_to_theirs() -> None:
    made = make_fragments(TEXT, count, 6, 11)
    assert all(count(f.text) <= 6 and count(f.answer) <= 11 for f in made)
    assert " ".join(f.text for f in made).split() == TEXT.split()
    assert all(f.answer.startswith(f.text) and f.text in f.sentence for f in made)
    assert any(f.answer != f.text for f in made)


def test_a_question_leaves_out_the_answer_and_makes_nothing_up() -> None:
    [fragment] = make_fragments("Otto Brand opened the harbour of Lund.", count, 20, 20)
    rng = random.Random(0)
    for _ in range(50):
        asked = ask(fragment, "", rng)
        assert asked.question.endswith("?") and asked.asked_for in fragment.text
        left = {w for w in words(fragment.text.replace(asked.asked_for, " ")) if is_content(w)}
        inside = [w for w in words(asked.question)[1:] if is_content(w) and w.lower() not in ("name", "year", "date")]
        assert set(inside) <= left


def test_the_title_is_in_about_half_of_the_questions() -> None:
    [fragment] = make_fragments("Otto Brand opened the harbour of Lund.", count, 20, 20)
    rng = random.Random(0)
    with_title = sum("Zanzibar" in ask(fragment, "Zanzibar", rng).question for _ in range(200))
    assert 70 < with_title < 130


def test_questions_come_round_by_round_and_depend_on_the_seed() -> None:
    made = make_fragments(TEXT, count, 6, 6)

    def questions(seed: int) -> list[str]:
        return [q.question for q in study_questions(made, "Lund", 2, random.Random(seed))]

    asked = study_questions(made, "Lund", 2, random.Random(0))
    assert [q.fragment for q in asked] == made * 2
    assert questions(0) == questions(0) != questions(1)


def test_an_answer_of_several_fragments_is_the_very_text() -> None:
    text = "Its key is abcdefghijklmnopqrstuvwxyz0123456789 now."
    made = make_fragments(text, len, 16, 60)
    assert len(made) > 3 and made[0].answer == text
