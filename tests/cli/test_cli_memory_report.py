"""`memory new`, `memory documents`, `memory forgetting` and `model info --memory`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from continual_learning.app.learner import Learner
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.gate import Retention


def test_new_makes_a_memory_that_holds_nothing(cli: Any, tiny: BaseModel) -> None:
    made = cli("memory", "new", "fresh", "--strategy", "frozen", "--json")
    assert made.code == 0 and made.json["strategy"] == "frozen"
    assert cli("memory", "show", "fresh", "--json").json["documents"] == []
    assert cli("ask", "What?", "--memory", "fresh", "--max-new-tokens", 2).code == 0
    again = cli("memory", "new", "fresh")
    assert again.code == 2 and "there already" in again.err


def test_documents_tell_file_tokens_loss_and_seconds(work: Any) -> None:
    shown = work("memory", "documents", "work")
    assert shown.code == 0
    head, first, second = shown.out.splitlines()
    assert head.split() == "file title tokens final loss seconds learned_at".split()
    assert first.split()[0].endswith("one.txt") and second.split()[0].endswith("two.txt")
    records = work("memory", "documents", "--memory", "work", "--json").json["documents"]
    assert [r["title"] for r in records] == ["one", "two"]
    assert all(r["details"]["seconds"] > 0 and r["details"]["loss"] is None for r in records)
    assert "holds no document" in (work("memory", "clear", "work"), work("memory", "documents", "work"))[1].out


def test_the_figures_of_learning_are_kept_with_the_document(tiny_base: BaseModel, tmp_path: Path) -> None:
    options: dict[str, Any] = {"guard": False, "passes": 1, "neurons": 8}
    learner = Learner.open(tiny_base, "ttt", "notes", home=tmp_path, **options)
    report = learner.learn("Comb jellies eat plankton. They swim with rows of cilia.", title="Jellies")
    details = Learner.open(tiny_base, "ttt", "notes", home=tmp_path).documents[0].details
    assert details["seconds"] == pytest.approx(report.seconds)
    assert (details["recall_before"], details["recall_after"]) == (report.recall_before, report.recall_after)
    assert isinstance(details["loss"], float)


def test_forgetting_is_measured(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("continual_learning.strategies.gate.retention", lambda *_: Retention(0.75, 0.125))
    found = work("memory", "forgetting", "work", "--json").json
    assert (found["general_kept"], found["perplexity_change"]) == (0.75, 0.125)
    shown = work("memory", "forgetting", "work").out
    assert "75%" in shown and "+12.50%" in shown
    monkeypatch.setattr("continual_learning.strategies.gate.retention", lambda *_: Retention(None, 0.0))
    assert "the base answers none of the 60 questions" in work("memory", "forgetting", "work").out


def test_forgetting_of_an_empty_memory_is_none(cli: Any, tiny: BaseModel) -> None:
    cli("memory", "new", "fresh", "--strategy", "frozen")
    found = cli("memory", "forgetting", "fresh", "--json").json
    assert (found["general_kept"], found["perplexity_change"], found["documents"]) == (1.0, 0.0, [])


def test_model_info_of_a_memory_that_adds_weights(
    cli: Any, tiny: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTINUAL_LEARNING_HOME", str(tmp_path / "home"))  # where nothing is calibrated yet
    cli("memory", "new", "sparse", "--strategy", "ttt", "--set", "neurons=8")
    found = cli("model", "info", "--memory", "sparse", "--json").json
    assert (found["layers_total"], found["layers_modified"], found["layers_frozen"]) == (4, 1, 3)
    assert found["modified_blocks"] == [3]
    assert found["trainable_parameters"] == 1 * 8 * 32 * 3
    assert (found["alpha"], found["gates_calibrated"]) == (0.0, False)
    path = Path("a.txt")
    path.write_text("Comb jellies eat plankton. They swim with rows of cilia.")
    cli("learn", path, "--memory", "sparse", "--set", "guard=false", "--set", "passes=1")
    assert cli("model", "info", "--memory", "sparse", "--json").json["gates_calibrated"] is True
    assert "gates_calibrated" in cli("model", "info", "--memory", "sparse").out


def test_model_info_of_a_memory_that_leaves_the_model_alone(work: Any) -> None:
    found = work("model", "info", "--memory", "work", "--json").json
    assert (found["layers_modified"], found["layers_frozen"], found["trainable_parameters"]) == (0, 4, 0)
    assert found["alpha"] is None and found["gates_calibrated"] is None
    assert "layers_total" not in work("model", "info", "--json").json
