"""benchmarks/generators.py on a tiny model: every row is trained and measured, and those that are there are kept."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from continual_learning.model.base_model import BaseModel


@pytest.mark.parametrize("script", ["generators"], indirect=True)
def test_both_kinds_are_trained_and_measured_alike(
    script: ModuleType, run: Any, tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = {
        "facts_documents": 2,
        "steps": 1,
        "rank": 8,
        "rate": 0.05,
        "facts_per_document": 2,
    }
    rows = {
        "linear": {"generator": "linear", "retrieval_steps": 2, **tiny},
        "Perceiver, all blocks": {"generator": "perceiver", **tiny},
    }
    monkeypatch.setattr(script, "ROWS", rows)
    monkeypatch.setattr(script, "FACTS", 2)
    monkeypatch.setattr(script, "BaseModel", type("Loader", (), {"load": staticmethod(lambda _name: tiny_base)}))
    measured = script.row
    monkeypatch.setattr(script, "row", lambda base, options, folder: measured(base, options, folder, 2))
    run("--out", tmp_path, "--only", "linear")
    run("--out", tmp_path)
    parts = json.loads((tmp_path / "generators.json").read_text())["parts"]
    assert list(parts) == list(rows)
    for found in parts.values():
        assert found["documents"] == 2 and found["train_s"] > 0 and found["matched"] != found["start_matched"]
    table = (tmp_path / "README.md").read_text()
    assert "| linear | " in table and "| 2+1 |" in table and "| Perceiver, all blocks | " in table
    with pytest.raises(SystemExit, match="expected some of"):
        run("--out", tmp_path, "--only", "quadratic")
