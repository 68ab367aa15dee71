"""Training a reader: it learns to quote and to say that a text does not say, and goes on where it was."""

from __future__ import annotations

import gzip
import json
import lzma
import random
from pathlib import Path

import pytest
import torch

from continual_learning.errors import InputError
from continual_learning.model.base_model import BaseModel
from continual_learning.reading.reader.adapter import adapted
from continual_learning.reading.reader.lesson_rows import make_row, row_loss
from continual_learning.reading.reader.lessons import Lesson, apart, changed, read_lessons, with_questions_of_others
from continual_learning.reading.reader.reader import load_reader
from continual_learning.reading.reader.training import READER_FILE, ReaderTraining, train_reader
from continual_learning.types import QuestionAnswer

PLACES = ("Lund", "Vienna", "Oslo", "Turin", "Ghent", "Porto", "Basel", "Malmo")
QUICK = ReaderTraining(rank=8, adapted=1.0, learning_rate=5e-2, steps=60, batch_tokens=400)


def lessons() -> list[Lesson]:
    return [
        Lesson(
            place,
            f"The tower of {place} is old. In {1900 + n} a builder made the harbour of {place}.",
            (QuestionAnswer(f"When did a builder make the harbour of {place}?", (str(1900 + n),)),),
        )
        for n, place in enumerate(PLACES)
    ]


@pytest.mark.slow
def test_it_learns_to_quote_the_answer(tiny_base: BaseModel, tmp_path: Path) -> None:
    learned, held_out = apart(lessons(), 1)
    config = QUICK.model_copy(update={"steps": 150})
    trained = train_reader(tiny_base, learned, held_out, config, tmp_path)
    assert trained is not None and trained.questions == 7
    rows = [
        make_row(tiny_base, "", one.text, [(one.questions[0].question, f" 190{n}")]) for n, one in enumerate(learned)
    ]
    before = row_loss(tiny_base, rows, 0)
    reader = load_reader(tmp_path / READER_FILE)
    assert reader.facts["questions"] == 7
    with tiny_base.patched(adapted(tiny_base, reader.weights)):
        assert row_loss(tiny_base, rows, 0) < 0.5 * before


@pytest.mark.slow
def test_a_run_that_was_cut_short_ends_as_one_that_was_not(tiny_base: BaseModel, tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"steps": 4})
    learned, held_out = apart(lessons(), 1)
    whole = train_reader(tiny_base, learned, held_out, config, tmp_path / "whole")
    assert whole is not None
    sessions = 1
    while not (rest := train_reader(tiny_base, learned, held_out, config, tmp_path / "cut", seconds=0.01)):
        sessions += 1
    assert sessions > 1
    for name, weight in whole.reader.weights.items():
        assert torch.equal(weight, rest.reader.weights[name]), name


def test_another_run_in_the_folder_is_refused(tiny_base: BaseModel, tmp_path: Path) -> None:
    learned, held_out = apart(lessons(), 1)
    assert train_reader(tiny_base, learned, held_out, QUICK, tmp_path, seconds=0.0) is None
    other = QUICK.model_copy(update={"rank": 2})
    with pytest.raises(InputError, match="other settings"):
        train_reader(tiny_base, learned, held_out, other, tmp_path)
    with pytest.raises(InputError, match="held out"):
        train_reader(tiny_base, learned, [], QUICK, tmp_path / "none")


@pytest.mark.slow
def test_training_goes_on_from_another_reader(tiny_base: BaseModel, tmp_path: Path) -> None:
    learned, held_out = apart(lessons(), 1)
    first = train_reader(tiny_base, learned, held_out, QUICK.model_copy(update={"steps": 4}), tmp_path / "first")
    assert first is not None
    still = QUICK.model_copy(update={"steps": 1, "learning_rate": 1e-9, "scale": 4.0})
    second = train_reader(tiny_base, learned, held_out, still, tmp_path / "second", start=first.reader)
    assert second is not None
    for name, weight in first.reader.weights.items():
        torch.testing.assert_close(second.reader.weights[name], weight, atol=1e-6, rtol=1e-5)
    with pytest.raises(InputError, match="another rank"):
        train_reader(
            tiny_base, learned, held_out, QUICK.model_copy(update={"rank": 2}), tmp_path / "no", start=first.reader
        )


def test_the_loss_of_questions_in_one_row_is_that_of_each_alone(tiny_base: BaseModel) -> None:
    asked = [("Who built it?", " Marta"), ("When?", " 1874 or so"), ("What does it carry?", " coal")]
    together = row_loss(tiny_base, [make_row(tiny_base, "Orsel", "Marta built it in 1874.", asked)], 1)
    alone = [row_loss(tiny_base, [make_row(tiny_base, "Orsel", "Marta built it in 1874.", [one])], 1) for one in asked]
    torch.testing.assert_close(together, sum(alone) / 3, atol=1e-4, rtol=1e-4)


def test_lessons_of_a_compressed_file(tmp_path: Path) -> None:
    row = {"title": "Lund", "context": "A wall.", "questions": [{"question": "What?", "answer": "a wall"}]}
    plain = tmp_path / "lessons.jsonl"
    plain.write_text(json.dumps(row))
    for suffix, compress in ((".xz", lzma.compress), (".gz", gzip.compress)):
        path = plain.with_suffix(f".jsonl{suffix}")
        path.write_bytes(compress(plain.read_bytes()))
        assert read_lessons(path) == read_lessons(plain)
        path.write_bytes(b"x" + path.read_bytes()[:30])
        with pytest.raises(InputError, match="cannot be decompressed"):
            read_lessons(path)
        path.write_bytes(compress(plain.read_bytes())[:-12])
        with pytest.raises(InputError, match="cannot be decompressed"):
            read_lessons(path)


def test_lessons_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lessons.jsonl"
    rows = [
        {
            "title": "Super_Bowl",
            "context": "Denver won.",
            "questions": [{"question": "Who?", "answers": ["Denver"]}],
        },
        {"context": "None.", "questions": [{"question": "Why?", "answers": []}]},
        {"title": "", "context": "Old.", "questions": [{"question": "How?", "answer": "old"}]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    first, second = read_lessons(path)
    assert first == Lesson("Super Bowl", "Denver won.", (QuestionAnswer("Who?", ("Denver",)),))
    assert second.questions[0].answers == ("old",)
    path.write_text('{"title": "a", "context": 7, "questions": []}', "utf-8")
    with pytest.raises(InputError, match=r"line 1: field 'context' is 7; expected a text"):
        read_lessons(path)


def test_held_out_texts_share_no_title_with_those_learned() -> None:
    found = [Lesson(title, "t", (QuestionAnswer("q", ("a",)),)) for title in ("a", "b", "", "b")]
    learned, held_out = apart(found, 1)
    assert [one.title for one in learned] == ["a", ""] and [one.title for one in held_out] == ["b"]
    with pytest.raises(InputError, match="smaller --held-out"):
        apart(found, 4)


def test_questions_that_a_text_does_not_answer() -> None:
    near, far = with_questions_of_others(lessons())[0], with_questions_of_others(lessons()[:2])[0]
    assert len(near.elsewhere) == 7 and far.elsewhere == ("When did a builder make the harbour of Vienna?",)
    same = [*lessons()[:1], Lesson("again", lessons()[0].text, lessons()[0].questions)]
    assert with_questions_of_others(same)[0].elsewhere == ()  # it does answer it
    text, rng = "Tesla moved to Prague in 1880.", random.Random(0)
    year = changed("What did he do in 1880?", text, (), rng)
    assert year and year != "What did he do in 1880?" and year.startswith("What did he do in 1")
    assert changed("When did young Tesla move?", text, ["Edison"], rng) == "When did young Edison move?"
    assert changed("When?", text, ["Edison"], rng) is None
