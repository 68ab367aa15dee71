"""The scripts that measure ttt, on a tiny model: what they measure and what they write."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from continual_learning.model.base_model import BaseModel


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "squad.jsonl"
    rows = [
        {
            "title": f"Article {a}",
            "context": f"The lazy dog of house {a} was born in {1900 + a}. It lives there with {a + 2} cats.",
            "questions": [
                {"question": f"When was the dog of house {a} born?", "answer": f"{1900 + a}"},
                {"question": f"How many cats live in house {a}?", "answer": f"{a + 2}"},
            ],
        }
        for a in range(8)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("script", ["inner_rule"], indirect=True)
def test_inner_rules_are_measured_once_each(
    script: ModuleType, run: Any, data: Path, tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"neurons": 4, "passes": 1}
    monkeypatch.setattr(script, "ROWS", {"one": few, "two": {**few, "optimizer": "sgd"}})
    given = ("--data", data, "--model", tiny_llama_dir, "--passages", 2, "--out", tmp_path)
    run(*given)
    rows = json.loads((tmp_path / "inner_rule.json").read_text())["rows"]
    assert list(rows) == ["one", "two"]
    for row in rows.values():
        assert 0 <= row["recited_without"] <= row["parts"] and row["parts"] > 0 < row["bytes"]
    assert (
        f"| one | {rows['one']['recited_without']} of {rows['one']['parts']} |" in (tmp_path / "README.md").read_text()
    )
    run(*given)
    assert json.loads((tmp_path / "inner_rule.json").read_text())["rows"] == rows, "measured again"


@pytest.mark.parametrize("script", ["inner_rule"], indirect=True)
def test_the_rules_are_settings_of_ttt(script: ModuleType) -> None:
    from continual_learning.strategies.base import make_strategy

    for options in script.ROWS.values():
        make_strategy("ttt", options)
    assert make_strategy("ttt", {}).config.learning_rate == 2e-2, "the first row names the default"


@pytest.mark.parametrize("script", ["long_document"], indirect=True)
def test_questions_are_spread_over_a_long_document(script: ModuleType, data: Path, tiny_base: BaseModel) -> None:
    from continual_learning.datasets.base import load_dataset

    given = load_dataset(data)
    lengths = [len(tiny_base.encode(d.document.text)) for d in given.documents]
    document, asked = script.long_document(tiny_base, given, sum(lengths[:6]), 4)
    assert document.text.count("lazy dog") == 6
    assert [a.distance for a in asked] == [sum(lengths[n + 1 : 6]) for n in (0, 2, 3, 5)]
    assert asked[0].question.question == "When was the dog of house 0 born?"
    found = script.by_distance(asked, ["1900", "no", "no", "In 1905."], sum(lengths[:6]))
    assert [row["questions"] for row in found] == [1, 1, 1, 1]
    assert [row["recall"] for row in found] == [1.0, 0.0, 0.0, 1.0], "the nearest first"


@pytest.mark.parametrize("script", ["long_document"], indirect=True)
def test_a_long_document_is_learned_and_asked(
    script: ModuleType, run: Any, data: Path, tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--data", data, "--model", tiny_llama_dir, "--tokens", 150, "--questions", 3, "--out", tmp_path)
    monkeypatch.setattr(script, "NOTE_SECONDS", 0.0)
    run(*given)
    found = json.loads((tmp_path / "long_document.json").read_text())
    shares = [sample["share"] for sample in found["timeline"]]
    seconds = [sample["seconds"] for sample in found["timeline"]]
    assert shares[-1] == 1.0 and shares == sorted(shares) and seconds == sorted(seconds)
    assert set(found["rows"]) == {"ttt", "quote"}
    assert not list(tmp_path.glob("*.timeline"))
    assert "<!-- long_document -->" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("script", ["learning_time"], indirect=True)
def test_time_by_part(
    script: ModuleType, run: Any, data: Path, tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "TOKENS", (1, 200))
    monkeypatch.setattr(script, "TOGETHER", 2)
    run("--data", data, "--model", tiny_llama_dir, "--passages", 2, "--out", tmp_path)
    rows = json.loads((tmp_path / "learning_time.json").read_text())["rows"]
    assert [row["together"] for row in rows] == [1, 2]
    for row in rows:
        assert row["gflop_a_token"] > 0 and len(row["seconds"]) == 2
        assert sum(row["by_part"].values()) == pytest.approx(sum(row["seconds"]), rel=0.2)
    assert "| gradient descent |" in (tmp_path / "README.md").read_text()
