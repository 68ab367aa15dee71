"""The checks for a machine with a GPU, run on a CPU with a tiny random model."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import strategy_names

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "validate_gpu.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("validate_gpu", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["validate_gpu"] = module
    spec.loader.exec_module(module)
    return module


def test_all_checks_pass_on_a_cpu(
    script: ModuleType, tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = {"ttt": {"guard": False, "passes": 1, "neurons": 4}, "nested": {"steps": (1, 1, 1)}}
    monkeypatch.setattr(script, "OPTIONS", {**script.OPTIONS, **quick})
    code = script.main(["--model", str(tiny_llama_dir), "--device", "cpu", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [(c["name"], c["note"]) for c in found["checks"] if not c["passed"]] == [] and code == 0
    names = [check["name"] for check in found["checks"]]
    assert [n.removeprefix("strategy ") for n in names if n.startswith("strategy ")] == list(strategy_names())
    assert {"bfloat16", "weights in nf4", "offload", "decoding", "reader training"} < set(names)
    assert all(check["seconds"] > 0 and check["peak_mb"] > 0 for check in found["checks"])


def test_a_failure_is_a_line_and_an_exit_code(
    script: ModuleType, tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Expected all tensors to be on the same device")

    monkeypatch.setattr(BaseModel, "token_nll", broken)
    assert script.main(["--model", str(tiny_llama_dir), "--device", "cpu", "--only", "bfloat16"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAIL  bfloat16 ") and "RuntimeError: Expected all tensors" in out
    assert out.endswith("0 of 1 checks passed\n")


@pytest.mark.parametrize(
    ("given", "words"), [(["--only", "nothing"], "no such check"), (["--device", "cuda:77"], "PyTorch sees no GPU")]
)
def test_what_cannot_be_checked_is_an_error(
    script: ModuleType,
    given: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        script.main(given)
    assert stopped.value.code == 2 and words in capsys.readouterr().err
