"""The shipped texts, and the user's own background."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from continual_learning.documents.shipped import background_texts, general_questions, unrelated_texts
from continual_learning.errors import DocumentError


def test_general_questions_are_distinct_and_do_not_hold_their_answer() -> None:
    questions = general_questions()
    assert len(questions) == len({q.question for q in questions}) == 60
    for q in questions:
        words = q.question.lower().strip("?").split()
        assert not any(answer.lower() in words for answer in q.answers), q


def test_unrelated_texts_are_paragraphs_of_the_stated_length() -> None:
    texts = unrelated_texts()
    assert len(set(texts)) == 12
    assert all(120 <= len(text.split()) <= 160 and "\n" not in text for text in texts)


def test_background_is_diverse() -> None:
    texts = background_texts()
    assert len(set(texts)) == 150
    assert all(30 <= len(text.split()) <= 60 for text in texts)
    # No template: hardly any two begin alike.
    assert len({" ".join(text.split()[:2]) for text in texts}) >= 145


def test_what_calibrates_does_not_judge() -> None:
    assert not set(background_texts()) & set(unrelated_texts())


def test_own_background_from_paragraphs_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One text\nof two lines.\n\n  \nAnother.\n", encoding="utf-8")
    rows = [{"text": "A line.\n\nStill the same text."}, {"text": "Zwei Wörter."}]
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    assert background_texts(tmp_path / "a.txt") == ["One text\nof two lines.", "Another."]
    assert background_texts(tmp_path / "b.jsonl") == ["A line.\n\nStill the same text.", "Zwei Wörter."]
    assert len(background_texts(tmp_path)) == 4


@pytest.mark.parametrize("content", ["", "Only one paragraph."])
def test_own_background_that_cannot_calibrate_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "own.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DocumentError, match=r"own\.txt"):
        background_texts(path)


def test_missing_background_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"nowhere\.txt"):
        background_texts(tmp_path / "nowhere.txt")
