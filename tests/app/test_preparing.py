"""What is made once for a base: found, made once, resumed, and used from then on."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import make_tiny

from continual_learning.app import preparing
from continual_learning.app.learner import Learner
from continual_learning.app.preparing import Item, make, plan, states
from continual_learning.cli.main import main
from continual_learning.datasets import base as datasets
from continual_learning.documents import shipped
from continual_learning.errors import MismatchError, UnknownNameError
from continual_learning.evaluation.contender import base_key
from continual_learning.io.checkpointing import CHECKPOINT_FILE
from continual_learning.model.base_model import BaseModel
from continual_learning.model.prepared import NOTICE, prepared, prepared_folder, run_folder, write_notice
from continual_learning.reading import answering
from continual_learning.reading.reader import training
from continual_learning.reading.reader.calibration import Calibration
from continual_learning.reading.reader.lessons import apart, read_lessons, sha256
from continual_learning.reading.reader.reader import Reader, load_reader, save_reader
from continual_learning.strategies.methods.doc2lora import commands as doc2lora
from continual_learning.strategies.methods.ttt import commands as ttt
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.start import chosen_start, read_start
from continual_learning.types import Progress, ProgressCallback

PLACES = ("Lund", "Vienna", "Oslo", "Turin", "Ghent")
TEXT = "The tower of Malmo is old. In 1907 a builder made the harbour of Malmo."
QUESTION = "When did a builder make the harbour of Malmo?"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few and short lessons, and few steps."""
    lessons = tmp_path / "lessons.jsonl"
    rows = [
        {
            "title": place,
            "context": f"The tower of {place} is old. In {1900 + n} a builder made the harbour of {place}.",
            "questions": [{"question": f"When did a builder make the harbour of {place}?", "answer": str(1900 + n)}],
        }
        for n, place in enumerate(PLACES)
    ]
    lessons.write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr(preparing, "LESSONS", lessons)
    monkeypatch.setattr(shipped, "LESSONS", lessons)
    monkeypatch.setattr(datasets, "LESSONS", lessons)
    monkeypatch.setattr(preparing, "READER_SETTINGS", {True: {"steps": 2}, False: {"steps": 3}})
    monkeypatch.setattr(preparing, "READER_HELD_OUT", {True: 1, False: 2})
    few = {"facts_documents": 2, "facts_per_document": 2, "validation_documents": 2, "rank": 8, "blocks": "1,3"}
    few |= {"retrieval_steps": 1, "documents_per_step": 1, "teacher_weight": 0.0, "max_chunks": 1}
    monkeypatch.setattr(doc2lora, "SETTINGS", {True: {**few, "steps": 1}, False: {**few, "steps": 2}})
    monkeypatch.setattr(ttt, "STEPS", {True: 1, False: 2})
    monkeypatch.setattr(ttt, "OUTER", {quick: {"validate_every": 1} for quick in (True, False)})
    monkeypatch.setattr(ttt, "INNER", {"neurons": 8})


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A base without a chat template, for which nothing was made."""
    return BaseModel.load(str(make_tiny("qwen2", tmp_path_factory.mktemp("models"), chat=False)), device="cpu")


def steps_of_the_reader(base: BaseModel) -> int:
    """Of the one that strategies use for this base."""
    reader = answering.chosen_reader(base, answering.ReaderConfig())
    assert reader is not None
    return int(reader.facts["settings"]["steps"])


def test_the_lessons_that_ship_are_those_that_readers_are_trained_on() -> None:
    learned, held_out = apart(read_lessons(shipped.LESSONS), preparing.READER_HELD_OUT[False])
    assert (len(learned), len(held_out)) == (3478, 226)
    assert sha256(learned) == "dc29e8888d0f72c591cf01c4450839f9a28b31f8d7f17265865ff7787a953223"


@pytest.mark.slow
def test_everything_is_made_once_and_used_from_then_on(
    base: BaseModel, small: None, caplog: pytest.LogCaptureFixture
) -> None:
    before = base_key(base)
    answering._said.clear()
    learner = Learner.open(base, "quote")
    learner.learn(TEXT, "Malmo")
    with caplog.at_level(logging.INFO):
        learner.ask([QUESTION, "Where is the tower?"])
        learner.ask(QUESTION)
    (said,) = [r.getMessage() for r in caplog.records if "has no reader" in r.getMessage()]
    assert f"`continual-learning model prepare {base.name}`" in said and "\n" not in said
    refused = Learner.open(base, "doc2lora").learn(TEXT, "Malmo")
    assert not refused.accepted and f"model prepare {base.name} --only hypernetwork" in refused.reason

    quick = plan(base, quick=True)
    assert [(i.name, i.state, i.wanted) for i in quick.items] == [
        ("reader", "missing", True),
        ("hypernetwork", "missing", True),
        ("start", "missing", True),
    ]
    assert quick.speed > 0 and all(i.seconds > 0 and i.bytes > 0 for i in quick.items)
    assert set(make(base, quick)) == {"reader", "hypernetwork", "start"}
    assert states(base) == {"reader": "quick", "hypernetwork": "quick", "start": "quick"}
    for item in quick.items:
        size = sum(f.stat().st_size for f in [item.path, *item.path.glob("*.safetensors")] if f.is_file())
        assert 0.8 * item.bytes < size < 1.5 * item.bytes + 10_000, item.name
    noted = prepared(base.fingerprint)
    assert noted is not None and noted.things == ["reader (quick)", "hypernetwork (quick)", "start (quick)"]
    assert not list(prepared_folder(base.fingerprint).rglob(CHECKPOINT_FILE))
    assert base_key(base) != before  # results that were measured without it count no more
    assert steps_of_the_reader(base) == 2
    said_by_it = learner.ask(QUESTION).text
    assert said_by_it in TEXT or "does not say" in said_by_it
    made = Learner.open(base, "doc2lora", guard=False)
    assert made.learn(TEXT, "Malmo").accepted and made.ask(QUESTION).sources
    begun, alone = (chosen_start(TTTConfig.model_validate(given), base) for given in ({}, {"start": None}))
    assert begun is not None and len(begun.deltas[max(begun.deltas)]["neurons"]) == 8 and alone is None

    assert plan(base, quick=True).wanted == ()
    full = plan(base, only=["reader"])
    assert [i.name for i in full.wanted] == ["reader"] and make(base, full).keys() == {"reader"}
    assert (
        states(base) == {"reader": "ready", "hypernetwork": "quick", "start": "quick"}
        and steps_of_the_reader(base) == 3
    )
    assert [i.name for i in plan(base).wanted] == ["hypernetwork", "start"] and plan(base, quick=True).wanted == ()
    assert [i.name for i in plan(base, overwrite=True).wanted] == ["reader", "hypernetwork", "start"]
    with pytest.raises(UnknownNameError, match="expected reader, hypernetwork, start"):
        plan(base, only=["route"])


@pytest.mark.slow
def test_an_interrupted_run_ends_as_the_train_commands_end(
    base: BaseModel, small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training, "_SAVED_EVERY", 0.0)
    steps: list[tuple[str, int]] = []

    def interrupted_in(name: str) -> Callable[[Item], ProgressCallback]:
        def shown(item: Item, progress: Progress) -> None:
            if progress.stage == "train":
                steps.append((item.name, progress.done))
                if steps[-1] == (name, 2):
                    raise KeyboardInterrupt

        return lambda item: functools.partial(shown, item)

    with pytest.raises(KeyboardInterrupt):
        make(base, plan(base), progress=interrupted_in("reader"))
    planned = plan(base)
    assert [(i.name, i.state) for i in planned.items] == [
        ("reader", "begun"),
        ("hypernetwork", "missing"),
        ("start", "missing"),
    ]
    with pytest.raises(KeyboardInterrupt):
        make(base, planned, progress=interrupted_in("hypernetwork"))
    assert states(base) == {"reader": "ready", "hypernetwork": "begun", "start": "missing"}
    noted = prepared(base.fingerprint)
    assert noted is not None and noted.things == ["reader", "hypernetwork (unfinished)"]
    with pytest.raises(KeyboardInterrupt):
        make(base, plan(base), progress=interrupted_in("start"))
    make(base, plan(base), progress=interrupted_in("nothing"))
    # a reader and a start are kept from time to time, a hypernetwork also when it is interrupted
    kept = [("reader", n) for n in (1, 2, 2, 3)] + [("hypernetwork", n) for n in (1, 2, 3)]
    assert steps == [*kept, *(("start", n) for n in (1, 2, 2))]

    monkeypatch.setattr(BaseModel, "load", lambda *_, **__: base)
    for item in planned.items:
        ours, folder = str(run_folder(base.fingerprint, item.name, False)), str(tmp_path / item.name)
        words = [folder if word == ours else word for word in item.command]
        assert folder in words and main(words) == 0
    made, other = (load_reader(path) for path in (planned.items[0].path, tmp_path / "reader" / "reader.safetensors"))
    assert made.weights.keys() == other.weights.keys()
    assert all(torch.equal(weight, other.weights[name]) for name, weight in made.weights.items())
    pair = (planned.items[1].path, tmp_path / "hypernetwork")
    assert len({(path / "hypernetwork.safetensors").read_bytes() for path in pair}) == 1
    starts = [read_start(path) for path in (planned.items[2].path, tmp_path / "start" / "start.safetensors")]
    assert starts[0].facts == starts[1].facts
    for (block, given), (other, same) in zip(*(sorted(start.deltas.items()) for start in starts), strict=True):
        assert block == other and all(torch.equal(tensor, same[name]) for name, tensor in given.items())


def test_a_reader_of_another_base_is_refused(base: BaseModel, tiny_base: BaseModel) -> None:
    path = prepared_folder(base.fingerprint) / "reader.safetensors"
    save_reader(Reader({}, tiny_base.fingerprint, Calibration()), path)
    with pytest.raises(MismatchError, match="trained for the base"):
        answering.chosen_reader(base, answering.ReaderConfig())


def test_the_notice_of_a_licence_that_asks_for_one(tmp_path: Path) -> None:
    assert write_notice(tmp_path / "free", "apache-2.0") is None and not (tmp_path / "free").exists()
    path = write_notice(tmp_path / "terms", "gemma")
    assert path == tmp_path / "terms" / NOTICE
    assert "subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms" in path.read_text()
