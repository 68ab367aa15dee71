"""Training a span reader: it learns, goes on where it was, and its command says what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from continual_learning.datasets.base import Dataset, QADocument
from continual_learning.documents import Document
from continual_learning.errors import InputError
from continual_learning.model.base_model import BaseModel
from continual_learning.reading.span_reader import load_reader
from continual_learning.reading.span_reader.training import READER_FILE, ReaderConfig, train_reader
from continual_learning.types import QuestionAnswer

PLACES = ("Lund", "Vienna", "Oslo", "Turin", "Ghent", "Porto", "Basel", "Malmo")
QUICK = ReaderConfig(blocks=2, width=16, layers=1, dropout=0.0, learning_rate=1e-2, batch_questions=4)


def dataset() -> Dataset:
    found = []
    for number, place in enumerate(PLACES):
        text = f"The tower of {place} is old. In {1900 + number} a builder made the harbour of {place}. It has a wall."
        asked = (
            QuestionAnswer(f"When did a builder make the harbour of {place}?", (str(1900 + number),)),
            QuestionAnswer("Who painted the tower?", ("nobody knows",)),  # stands nowhere: left out
        )
        found.append(QADocument(Document(text, place), asked, place))
    return Dataset("places", "generated", tuple(found))


@pytest.mark.slow
def test_it_learns_to_point_at_the_answer(tiny_base: BaseModel, tmp_path: Path) -> None:
    stages: list[str] = []
    found = train_reader(tiny_base, dataset(), QUICK, tmp_path, 30, lambda stage, *_: stages.append(stage))
    assert found.questions == 7 and found.validation_questions == 1
    assert {"states", "train"} == set(stages)
    assert found.curve[-1].train_loss < 0.5 * found.curve[0].train_loss
    assert max(point.f1 for point in found.curve) == 1.0
    reader = load_reader(tmp_path / READER_FILE)
    assert reader.facts["questions"] == 7 and len(reader.facts["curve"]) == 30
    last = dataset().documents[-1]
    [found] = reader.read(tiny_base, last.document.title, last.document.text, [last.questions[0].question], 1)
    [span] = found.spans
    assert span.text == "1907"


@pytest.mark.slow
def test_a_run_that_was_cut_short_ends_as_one_that_was_not(
    tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = QUICK.model_copy(update={"dropout": 0.2})
    whole = train_reader(tiny_base, dataset(), config, tmp_path / "whole", 3)

    def stop(point: Any) -> None:
        if point.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_reader(tiny_base, dataset(), config, tmp_path / "cut", 3, None, stop)
    monkeypatch.setattr("continual_learning.reading.span_reader.training.read_states", None)  # the states are known
    rest = train_reader(tiny_base, dataset(), config, tmp_path / "cut", 3)
    assert rest.curve == whole.curve
    for name, tensor in whole.reader.network.state_dict().items():
        assert torch.equal(tensor, rest.reader.network.state_dict()[name]), name


def test_another_run_in_the_folder_and_a_dataset_without_answers_are_refused(
    tiny_base: BaseModel, tmp_path: Path
) -> None:
    train_reader(tiny_base, dataset(), QUICK, tmp_path, 1)
    with pytest.raises(InputError, match="other settings"):
        train_reader(tiny_base, dataset(), QUICK.model_copy(update={"width": 20}), tmp_path, 1)
    one = Dataset("one", "generated", dataset().documents[:1])
    with pytest.raises(InputError, match="at least two articles"):
        train_reader(tiny_base, one, QUICK, tmp_path / "one", 1)
