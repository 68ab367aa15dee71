"""The scripts that tune the baselines, on a tiny model: what they try, what they spend, and what they write."""

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
            "questions": [{"question": f"When was the dog of house {a} born?", "answer": f"{1900 + a}"}] * 3,
        }
        for a in range(8)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("script", ["blocks"], indirect=True)
def test_a_block_is_written_over_and_nothing_else(script: ModuleType, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- a -->\nold\n<!-- /a -->\nafter\n")
    script.write_block(readme, "a", "new")
    assert readme.read_text() == "before\n<!-- a -->\nnew\n<!-- /a -->\nafter\n"
    script.write_block(readme, "b", "more")
    assert readme.read_text() == "before\n<!-- a -->\nnew\n<!-- /a -->\nafter\n\n<!-- b -->\nmore\n<!-- /b -->\n"
    script.write_block(readme, "a", "new \\1")
    assert readme.read_text().startswith("before\n<!-- a -->\nnew \\1\n<!-- /a -->\n")
    readme.write_text("<!-- a -->\nno end\n")
    with pytest.raises(ValueError, match="is not closed"):
        script.write_block(readme, "a", "new")


@pytest.mark.parametrize("script", ["tune_baselines"], indirect=True)
def test_the_baselines_are_tuned_within_the_budget(
    script: ModuleType, run: Any, data: Path, tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, few in {"LORA_RATES": (1e-3, 2e-3), "FULL_RATES": (1e-4,), "REPLAY_RATIOS": (1.0,)}.items():
        monkeypatch.setattr(script, name, few)
    monkeypatch.setattr(script, "CHEAP", {"questions_per_fragment": 1, "passes": 1})
    monkeypatch.setattr(script, "TEXT_ALONE", {"signal": "text", "passes": 1})
    given = ("--data", data, "--model", tiny_llama_dir, "--passages", 2, "--out", tmp_path)
    run(*given)
    found = json.loads((tmp_path / "tuning.json").read_text())
    tried = [(row["strategy"], row["passages"]) for row in found["rows"]]
    assert [name for name, _ in tried] == ["lora"] * 2 + ["full_finetune"] + ["lora"] * 2 + ["replay", "lora"] + [
        "full_finetune"
    ]
    assert tried[-3:-1] == [("replay", "one after another"), ("lora", "one after another")]
    assert set(found["chosen"]) == {"lora", "lora_per_document", "full_finetune", "replay"}
    assert found["chosen"]["lora_per_document"] == found["chosen"]["lora"]
    best = max((row["recall"], row["f1"]) for row in found["rows"] if row["strategy"] == "full_finetune")
    [chosen] = [row for row in found["rows"] if row["options"] == found["chosen"]["full_finetune"]]
    assert (chosen["recall"], chosen["f1"]) == best
    titles = {title for title, _ in found["passages"]}
    assert len(titles) == 2 and titles <= {f"Article {a}" for a in range(4)}, "the first half of the articles alone"
    table = (tmp_path / "README.md").read_text()
    assert table.startswith("<!-- tuning -->") and "| **lora** |" in table

    run(*given)  # nothing is measured again: the same seconds
    assert json.loads((tmp_path / "tuning.json").read_text())["rows"] == found["rows"]

    run(*given, "--minutes", 1e-6)
    spent = json.loads((tmp_path / "tuning.json").read_text())
    assert len(spent["rows"]) == 1 and len(spent["not_run"]) == 6
    assert "Not tried" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("script", ["tune_rag"], indirect=True)
def test_rag_is_tuned_by_what_it_finds(
    script: ModuleType, run: Any, data: Path, tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, few in {"PASSAGES": 4, "TOGETHER": 2, "CHUNK_TOKENS": (40, 160), "TOP_K": (2,), "ANSWERED": 2}.items():
        monkeypatch.setattr(script, name, few)
    run("--data", data, "--model", tiny_llama_dir, "--out", tmp_path, "--answers")
    found = json.loads((tmp_path / "tuning_rag.json").read_text())
    everything = next(row for row in found["rows"] if row["options"]["min_score"] == 0.0)
    assert everything["alone"]["hit_rate"] == everything["together"]["hit_rate"] == 1.0
    assert everything["alone"]["questions"] == 3 and everything["together"]["questions"] == 12
    assert found["answers"][0]["options"] == script.DEFAULT
    assert "| **2 chunks of 160, overlap 32** |" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("script", ["tune_rag"], indirect=True)
def test_the_default_that_is_shown_is_the_default(script: ModuleType, tiny_base: BaseModel) -> None:
    from continual_learning.strategies.baselines.rag import RAGConfig

    assert RAGConfig(**script.DEFAULT) == RAGConfig()
