"""`model prepare` as a command: the plan, the question, Ctrl-C, and what the other `model` commands show of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from continual_learning.app import preparing
from continual_learning.io.artifacts import write_artifact
from continual_learning.io.checkpointing import CHECKPOINT_FILE
from continual_learning.model.prepared import NOTICE, prepared_folder
from continual_learning.reading.reader.calibration import Calibration
from continual_learning.reading.reader.reader import Reader, save_reader
from continual_learning.strategies.commands import Preparation, Work

if TYPE_CHECKING:
    from conftest import Command

    from continual_learning.model.base_model import BaseModel


class Terminal(io.StringIO):
    """Standard input at a terminal, with what is typed."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What was made, in place of trainings: a reader without weights, and a hypernetwork that is interrupted once."""
    made: list[tuple[str, bool]] = []

    def read(base: Any, quick: bool, folder: Path, progress: Any) -> Path:
        made.append(("reader", quick))
        save_reader(Reader({}, base.fingerprint, Calibration()), folder / "reader.safetensors")
        return folder / "reader.safetensors"

    def write(base: Any, quick: bool, folder: Path, progress: Any) -> Path:
        made.append(("hypernetwork", quick))
        write_artifact(folder / "hypernetwork.safetensors", {}, {"format": "pt"})
        write_artifact(folder / CHECKPOINT_FILE, {}, {"run": {}})
        if made.count(("hypernetwork", quick)) == 1:
            raise KeyboardInterrupt
        return folder

    def preparation(name: str, file: str, train: Any) -> Preparation:
        return Preparation(
            name, file, f"what a {name} is for", lambda _: False, lambda _, quick: Work(1000 if quick else 9000, 2_000),
            lambda quick, folder: ("train", name, str(folder)), train,
        )  # fmt: skip

    found = [preparation("reader", "reader.safetensors", read), preparation("hypernetwork", "hypernetwork", write)]
    monkeypatch.setattr(preparing, "preparations", lambda: found)
    monkeypatch.setattr(preparing, "reading_speed", lambda _: 10.0)
    return made


def test_the_plan_comes_first_and_is_asked_about(
    cli: Command, tiny: BaseModel, runs: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = cli("model", "prepare")
    assert asked.code == 2 and "add --yes" in asked.err and not runs
    assert "15 min" in asked.out and "2.0 kB" in asked.out and "10 tokens a second" in asked.out
    monkeypatch.setattr("sys.stdin", Terminal("no\n"))
    declined = cli("model", "prepare", "--quick")
    assert declined.code == 0 and "nothing was made" in declined.out and not runs
    assert f"make reader and hypernetwork for {tiny.name}, in about 3 min?" in declined.err
    wrong = cli("model", "prepare", "--only", "start", "--yes")
    assert wrong.code == 2 and "expected reader, hypernetwork" in wrong.err


def test_it_is_resumed_shown_and_removed(
    cli: Command, tiny: BaseModel, runs: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = cli("model", "prepare", "--quick", "--yes")
    assert cut.code == 130 and "the same command resumes" in cut.err
    done = cli("model", "prepare", "--quick", "--yes", "--json").json
    assert runs == [("reader", True), ("hypernetwork", True), ("hypernetwork", True)]
    assert [(i["name"], i["state"], i["made"]) for i in done["items"]] == [
        ("reader", "quick", False),
        ("hypernetwork", "begun", True),
    ]
    folder = prepared_folder(tiny.fingerprint)
    assert done["folder"] == str(folder) and done["items"][1]["path"] == str(folder / "hypernetwork")
    assert done["notice"] is None and done["items"][1]["command"][:3] == ["continual-learning", "train", "hypernetwork"]
    assert sorted(path.name for path in folder.iterdir()) == ["base.json", "hypernetwork", "reader.safetensors", "runs"]
    assert not list(folder.rglob(CHECKPOINT_FILE))
    nothing = cli("model", "prepare", "--quick", "--yes")
    assert nothing.code == 0 and "nothing to make" in nothing.out and len(runs) == 3
    (row,) = [row for row in cli("model", "list", "--json").json["models"] if row["chosen"]]
    assert row["prepared"] == ["reader (quick)", "hypernetwork (quick)"]
    assert "reader (quick)" in cli("model", "list").out
    assert cli("model", "prepare", "--only", "reader", "--yes").code == 0 and runs[3:] == [("reader", False)]
    facts = cli("model", "info", "--json").json
    assert facts["prepared"] == ["reader (made here)", "hypernetwork (made here, quickly)"]
    monkeypatch.setattr("sys.stdin", Terminal("no\n"))
    kept = cli("model", "remove", tiny.name)
    assert "what was prepared for it, reader and hypernetwork (quick)" in kept.err and folder.exists()
    removed = cli("model", "remove", tiny.name, "--yes", "--json").json
    assert removed["prepared"] == ["reader", "hypernetwork (quick)"] and removed["removed"] == [str(folder)]
    assert not folder.exists() and Path(tiny.name).is_dir()


def test_a_notice_goes_with_what_is_made_from_a_model_whose_terms_ask_for_it(
    cli: Command, tiny: BaseModel, runs: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    licence = {"source": None, "licence": "gemma"}
    monkeypatch.setattr(preparing.inventory, "describe", lambda _: licence)
    made = cli("model", "prepare", "--only", "reader", "--yes")
    assert made.code == 0
    assert f"what is passed on with these files: {prepared_folder(tiny.fingerprint) / NOTICE}" in made.out
