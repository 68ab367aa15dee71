"""`config`, `model`, `info` and `doctor`."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from continual_learning import __version__
from continual_learning.io.paths import data_home
from continual_learning.model import embedded, loading


def test_config_show_says_where_values_come_from(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("continual-learning.yaml").write_text("memory: work\n")
    monkeypatch.setenv("CONTINUAL_LEARNING_MODEL__NAME", "other")
    found = {s["key"]: s for s in cli("config", "show", "--json").json["settings"]}
    assert found["memory"]["origin"].endswith("continual-learning.yaml, line 1")
    assert found["model.name"] == {
        "key": "model.name",
        "value": "other",
        "origin": "variable CONTINUAL_LEARNING_MODEL__NAME",
    }
    assert found["strategy"]["origin"] == "default"
    assert "variable CONTINUAL_LEARNING_MODEL__NAME" in cli("config", "show").out


def test_config_show_all_and_defaults(cli: Any) -> None:
    keys = [s["key"] for s in cli("config", "show", "--all", "--json").json["settings"]]
    assert "strategies.in_context.instruction" in keys
    defaults = cli("config", "show", "--defaults")
    assert yaml.safe_load(defaults.out) == cli("config", "show", "--defaults", "--json").json
    Path("continual-learning.yaml").write_text(defaults.out)
    assert cli("config", "show").code == 0


def test_config_set_get_path(cli: Any) -> None:
    files = cli("config", "path", "--json").json["files"]
    assert [f["written"] for f in files] == [True, False]
    assert cli("config", "set", "memory", "work", "--json").json == {
        "key": "memory",
        "value": "work",
        "file": files[0]["path"],
    }
    assert cli("config", "get", "memory").out == "work\n"
    assert cli("config", "get", "memory", "--json").json["origin"] == f"{files[0]['path']}, line 1"
    wrong = cli("config", "set", "max_new_tokens", "0")
    assert wrong.code == 2 and "max_new_tokens" in wrong.err
    assert cli("config", "get", "memry").code == 2
    assert cli("config", "get", "strategies.in_context.shots").out.strip().isdigit()


def test_config_set_says_when_something_stronger_wins(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTINUAL_LEARNING_MEMORY", "strong")
    assert "variable CONTINUAL_LEARNING_MEMORY still wins" in cli("config", "set", "memory", "weak").err


def test_a_wrong_file_stops_a_command_that_uses_it(cli: Any) -> None:
    Path("continual-learning.yaml").write_text("strategies:\n  in_context:\n    instructon: x\n")
    result = cli("config", "show")
    assert result.code == 2 and "line 3" in result.err and "'instruction'" in result.err


def test_info(work: Any, tiny: Any) -> None:
    found = work("info", "--memory", "work", "--json").json
    assert found["version"] == __version__
    assert (found["model"], found["strategy"], found["memory"]) == (tiny.name, "in_context", "work")
    assert found["memory_exists"] and found["memories"] == ["work"]
    assert found["data_home"] == str(data_home())
    assert {"frozen", "in_context"} <= set(found["strategies"])
    assert "device" in work("info").out


def test_model_list_and_info(cli: Any, tiny: Any) -> None:
    rows = {r["name"]: r for r in cli("model", "list", "--json").json["models"]}
    assert rows["smollm2-135m"]["embedded"] and not rows["smollm2-135m"]["chosen"]
    assert rows[tiny.name]["chosen"]
    found = cli("model", "info", "--json").json
    assert (found["family"], found["blocks"], found["hidden_size"]) == ("llama", 4, 32)
    assert found["parameters"] * 4 == found["bytes"]
    assert found["dtype"] == "float32" and len(found["fingerprint"]) == 64


def test_model_pull(cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "pull", lambda name: tmp_path / name)
    assert cli("model", "pull", "--json").json == {"name": "smollm2-135m", "path": str(tmp_path / "smollm2-135m")}
    assert cli("model", "pull", "other").out.startswith("other is in")


def checks(result: Any) -> dict[str, Any]:
    return {c["name"]: c for c in result.json["checks"]}


def test_doctor_finds_all_well(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTINUAL_LEARNING_MODEL__NAME")
    monkeypatch.setattr(embedded, "locate", lambda _: Path("/somewhere/model.gguf"))
    result = work("doctor", "--json")
    found = checks(result)
    assert result.code == 0 and result.json["failed"] == 0
    assert {"python", "torch", "threads", "settings", "model", "data folder", "disk", "memory work"} <= set(found)
    assert found["memory work"]["status"] == "ok"
    lines = work("doctor").out.splitlines()
    assert len(lines) == len(found) and all(line[:4].strip() in ("ok", "warn") for line in lines)


def test_doctor_names_what_mends_each_failure(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTINUAL_LEARNING_MODEL__NAME")
    monkeypatch.setattr(embedded, "is_available", lambda _: False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    versions = sorted((data_home() / "memories" / "work" / "versions").iterdir())
    versions[0].write_bytes(b"{}")

    def read_only(*_: Any, **__: Any) -> Any:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    monkeypatch.setattr("torch.get_num_threads", lambda: 10_000)
    result = work("doctor", "--json")
    found = checks(result)
    assert result.code == 1
    assert {n for n, c in found.items() if c["status"] == "fail"} == {"model", "data folder", "disk", "memory work"}
    assert result.json["failed"] == 4
    assert found["model"]["fix"] == "continual-learning model pull smollm2-135m"
    assert found["memory work"]["fix"] == "continual-learning memory rollback work"
    assert "CONTINUAL_LEARNING_HOME" in found["data folder"]["fix"]
    assert found["threads"]["status"] == "warn" and "OMP_NUM_THREADS" in found["threads"]["fix"]


def test_doctor_survives_wrong_settings_and_broken_packages(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    Path("continual-learning.yaml").write_text("modle: x\n")
    found = checks(cli("doctor", "--json"))
    assert found["settings"]["status"] == "fail" and "line 1" in found["settings"]["detail"]
    assert found["gguf"] == {**found["gguf"], "status": "fail", "fix": "pip install --force-reinstall gguf"}
    assert found["disk"]["status"] == "ok"
    assert os.listdir(".") == ["continual-learning.yaml"], "nothing is left behind"
