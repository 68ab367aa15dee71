"""benchmarks/doc2lora.py: what is asked with which adapter, and what is written of it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from continual_learning.doc2lora import save_hypernetwork
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.doc2lora.training.networks import initial_network
from continual_learning.strategies.methods.doc2lora.training.settings import HypernetworkTraining

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    if not FOLDER.exists():
        pytest.skip("the source distribution has no benchmarks")
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("doc2lora_benchmark", FOLDER / "doc2lora.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["doc2lora_benchmark"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


@pytest.fixture
def bench(script: ModuleType, tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(script, "DOCUMENTS", {"2-facts": 2, "8-facts": 2, "passages": 2})
    monkeypatch.setattr(script, "TOKENS", 3)
    save_hypernetwork(initial_network(tiny_base, HypernetworkTraining(rank=8)), tmp_path / "network")
    rows = [
        {"title": f"T{n}", "context": f"Town {n} is red. It has {n} cats.",
         "questions": [{"question": f"What colour is town {n}?", "answer": "red"}] * 3}
        for n in range(4)
    ]  # fmt: skip
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return script.Bench(tiny_base, str(tmp_path / "network"), tmp_path / "data.jsonl")


def test_each_document_is_asked_about_with_its_own_adapter_and_others(bench: Any, script: ModuleType) -> None:
    found = script.internalised(bench, "passages")
    assert found["documents"] == 2 and found["questions"] == 6 == len(found["answers"])
    assert set(found["recall"]) == {"matched", "mismatched", "none", "prompt", "routed"}
    assert found["recall"]["prompt"] is None and found["asked"]["matched"] == 6
    nll = found["nll"]
    assert len({round(value, 3) for value in nll.values()}) == 4
    assert found["share"] == pytest.approx((nll["none"] - nll["matched"]) / (nll["none"] - nll["prompt"]))
    assert 0 < found["seconds_mean"] <= found["seconds_worst"] and found["bytes"] > 1000


def test_facts_are_asked_in_the_prompt_too(bench: Any, script: ModuleType) -> None:
    found = script.internalised(bench, "2-facts")
    assert found["asked"] == {"matched": 4, "routed": 4, "mismatched": 4, "none": 4, "prompt": 4}
    assert 0 <= found["recall"]["prompt"] <= 1 and found["opened"] > 0.5


def test_routing_leaves_general_answers_alone(bench: Any, script: ModuleType) -> None:
    found = script.irrelevant(bench, documents=1)
    assert len(found["rows"]) == 2 and found["general_questions"] == 60
    assert found["routed"]["changed"] == 0 == found["routed"]["perplexity_change"]
    assert found["open"]["changed"] > 0 != found["open"]["perplexity_change"]


def test_documents_in_one_memory(bench: Any, script: ModuleType) -> None:
    found = script.together(bench)
    assert found["documents"] == 2 and found["questions"] == 16
    assert 0.5 < found["right_document"] <= 1 and 0 <= found["open"] <= 1


def test_the_page_says_what_was_reached(script: ModuleType, tmp_path: Path) -> None:
    one = {
        "documents": 2, "questions": 16, "tokens": 90.0, "opened": 1.0, "share": 0.3, "seconds_mean": 0.4,
        "seconds_worst": 0.6, "nll": {"none": 3.0, "matched": 2.4, "mismatched": 2.9, "prompt": 1.0},
        "recall": {"matched": 0.85, "mismatched": 0.0, "none": 0.0, "prompt": 0.9, "routed": 0.8},
    }  # fmt: skip
    still = {"changed": 0.0, "lost": 0.0, "gained": 0, "perplexity_change": 0.0}
    parts = {
        "8-facts": one,
        "passages": one,
        "irrelevant": {"routed": still, "open": {**still, "changed": 0.5, "perplexity_change": 0.25}},
    }
    machine = {"cpu": "A CPU", "matmul_gflops": 50.0, "threads": 1, "torch": "2"}
    page = script.page(parts, machine, {"ttt": 0.58})
    assert "| 8 facts: at least 80% answered | 85% | yes |" in page
    assert "40% of the prompt's fall in NLL | 30%, 25% beyond another passage's adapter | no |" in page
    assert "50% change wording" in page and "+25% | no |" in page and "+0% | yes |" in page
    assert "doc2lora 0.80; from `benchmark squad`: ttt 0.58" in page
    file = tmp_path / "squad.json"
    assert script.squad_recall(file) == {}
    found: list[tuple[int, dict[str, float]]] = [(1, {}), (0, {"ttt": 0.58})]  # other passages, and the same
    for seed, expected in found:
        of = {"documents": script.DOCUMENTS["passages"], "split": "second", "seed": seed}
        file.write_text(json.dumps({"dataset": of, "results": [{"strategy": "ttt", "recall": 0.58}]}))
        assert script.squad_recall(file) == expected
