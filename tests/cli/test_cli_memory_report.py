"""`memory new`, `memory documents`, `memory forgetting` and `model info --memory`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from continual_learning.app.learner import Learner
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.gate import BeforeAndAfter

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize(
    ("before", "after", "ratio", "met", "line"),
    [
        (20, 18, 0.1, True, "0.10 (target: at most 0.15, met)"),
        (20, 17, 0.15, True, "0.15 (target: at most 0.15, met)"),
        (20, 10, 0.5, False, "0.50 (target: at most 0.15, missed)"),
        (0, 3, None, None, "undefined: the base answers none of the 60 general questions"),
    ],
)
def test_the_forgetting_ratio_is_shown_with_its_target(
    work: Any,
    monkeypatch: pytest.MonkeyPatch,
    before: int,
    after: int,
    ratio: float | None,
    met: bool | None,
    line: str,
) -> None:
    right = [tuple(number < count for number in range(60)) for count in (before, after)]
    measured = BeforeAndAfter(right[0], right[1], 20.0, 22.5)
    monkeypatch.setattr("continual_learning.strategies.gate.before_and_after", lambda *_: measured)
    found = work("memory", "forgetting", "work", "--json").json
    assert found["forgetting_ratio"] == pytest.approx(ratio) and found["target_met"] is met
    assert (found["general_right_before"], found["general_right_after"]) == (before, after)
    assert (found["perplexity_before"], found["perplexity_after"]) == (20.0, 22.5)
    assert found["general_kept"] == (after / before if before else None) and found["perplexity_change"] == 0.125
    shown = work("memory", "forgetting", "work").out
    assert line in shown and "20.00 before, 22.50 after (+12.50%)" in shown and f"{before} of 60 before" in shown


def test_forgetting_of_an_empty_memory_is_none(cli: Any, tiny: BaseModel) -> None:
    cli("memory", "new", "fresh", "--strategy", "frozen")
    found = cli("memory", "forgetting", "fresh", "--json").json
    assert found["general_right_before"] == found["general_right_after"] and found["perplexity_before"] > 1
    assert (found["perplexity_change"], found["documents"]) == (0.0, [])


def test_model_info_of_a_memory_that_adds_weights(
    cli: Any, tiny: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTINUAL_LEARNING_HOME", str(tmp_path / "home"))  # where nothing is calibrated yet
    cli("memory", "new", "sparse", "--strategy", "ttt", "--set", "neurons=8")
    found = cli("model", "info", "--memory", "sparse", "--json").json
    assert (found["layers_total"], found["layers_modified"], found["layers_frozen"]) == (4, 1, 3)
    assert found["modified_blocks"] == [3]
    assert found["trainable_parameters"] == 1 * 8 * 32
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
