"""`model`: what is on this machine, fetching it with its terms, facts, removing our copies."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from tiny_ggufs import make_gguf

from continual_learning.io.paths import models_home
from continual_learning.model import loading
from continual_learning.model.copies import USER_FILES, copies
from continual_learning.model.embedded import EMBEDDED
from continual_learning.model.licences import is_accepted

GEMMA = "gemma3-270m"


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No embedded model is installed, no terms were accepted, and the hub's cache is empty."""
    monkeypatch.delenv("CONTINUAL_LEARNING_ACCEPT_LICENCE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, model in list(EMBEDDED.items()):
        parts = tuple(replace(part, package=f"not_there_{part.package}") for part in model.parts)
        monkeypatch.setitem(EMBEDDED, name, replace(model, parts=parts))


class Terminal(io.StringIO):
    """Standard input at a terminal, with what is typed."""

    def isatty(self) -> bool:
        return True


def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are pulled from now on; the files appear as a pull leaves them."""
    names: list[str] = []

    def fetch(name: str) -> Path:
        names.append(name)
        folder = models_home() / name
        folder.mkdir(parents=True)
        for file in (EMBEDDED[name].file, "GEMMA_TERMS.html", "NOTICE.md"):
            (folder / file).write_bytes(b"x" * 100)
        return folder / EMBEDDED[name].file

    monkeypatch.setattr(loading, "pull", fetch)
    return names


def test_terms_are_shown_and_asked_for_once(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = fetched(monkeypatch)
    refused = cli("model", "pull", GEMMA)
    assert refused.code == 2 and refused.out == ""
    assert "Gemma terms of use: https://ai.google.dev/gemma/terms; read them and pass --yes" in refused.err
    assert refused.err.count("\n") == 1 and not names
    monkeypatch.setattr("sys.stdin", Terminal("no\n"))
    declined = cli("model", "pull", GEMMA)
    assert declined.code == 2 and "were not accepted; nothing was fetched" in declined.err and not names
    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    pulled = cli("model", "pull", GEMMA)
    assert pulled.code == 0 and names == [GEMMA] and is_accepted(GEMMA)
    assert "do you accept them? [y/N]" in pulled.err
    assert f"a copy: {models_home() / GEMMA / 'GEMMA_TERMS.html'}" in pulled.out


def test_terms_accepted_by_a_script(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = fetched(monkeypatch)
    assert cli("model", "pull", GEMMA, "--yes", "--json").json["name"] == GEMMA
    assert names == [GEMMA] and is_accepted(GEMMA)
    monkeypatch.setattr(loading, "pull", Path)
    assert cli("model", "pull", GEMMA).code == 0  # not asked again


def test_list_info_and_remove_a_gguf_file(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_gguf("qwen2", tmp_path / "tiny-q8.gguf", chat=True)
    monkeypatch.setenv("CONTINUAL_LEARNING_MODEL__NAME", str(path))
    found = cli("model", "info", "--json").json
    assert (found["kind"], found["source"], found["licence"]) == ("gguf", str(path), "apache-2.0")
    assert (found["architecture"], found["source_quantisation"], found["chats"]) == (
        "qwen2",
        "F32",
        True,
    )
    rows = {row["name"]: row for row in cli("model", "list", "--json").json["models"]}
    row = rows[str(path)]
    assert row["chosen"] and row["dequantised"] and row["bytes"] == path.stat().st_size
    (copy,) = copies(USER_FILES)
    size = sum(file.stat().st_size for file in copy.folder.iterdir())
    assert row["dequantised_bytes"] == size
    assert not rows["smollm2-135m"]["installed"] and rows["smollm2-135m"]["licence"] == "apache-2.0"
    assert rows[GEMMA]["licence_accepted"] is False
    assert "gemma (not accepted yet)" in cli("model", "list").out

    asked = cli("model", "remove", "tiny-q8")
    assert asked.code == 2 and "add --yes" in asked.err and copy.folder.exists()
    near = cli("model", "remove", "tiny-q9.gguf", "--yes")
    assert near.code == 2 and f"did you mean {str(path)!r}?" in near.err
    monkeypatch.setattr("sys.stdin", Terminal("\n"))
    assert cli("model", "remove", "tiny-q8").out == "nothing was deleted\n" and copy.folder.exists()
    removed = cli("model", "remove", "tiny-q8", "--yes", "--json").json
    assert removed["bytes"] == size and removed["removed"] == [str(copy.folder)]
    assert path.exists() and not copy.folder.exists()
    own = cli("model", "remove", path, "--yes")
    assert own.code == 2 and "is your own and is not deleted" in own.err and path.exists()


def test_remove_what_was_pulled(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched(monkeypatch)
    cli("model", "pull", GEMMA, "--yes")
    assert {row["name"]: row for row in cli("model", "list", "--json").json["models"]}[GEMMA]["installed"]
    assert cli("model", "remove", GEMMA, "--yes").out == "gemma3-270m: 300 B freed\n"
    assert not (models_home() / GEMMA).exists() and is_accepted(GEMMA)
    assert "nothing of it is in the data folder" in cli("model", "remove", GEMMA).out


def test_a_model_of_the_hub_cache(cli: Any, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--someone--small"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    (snapshot / "README.md").write_text("---\nlicense: mit\n---\n# Small\n")
    rows = {row["name"]: row for row in cli("model", "list", "--json").json["models"]}
    assert (rows["someone/small"]["kind"], rows["someone/small"]["licence"]) == ("hub", "mit")
    shared = cli("model", "remove", "someone/small", "--yes")
    assert shared.code == 2 and "`hf cache rm model/someone/small`" in shared.err and snapshot.exists()


def test_pull_of_a_file_that_is_here(cli: Any, tmp_path: Path) -> None:
    path = make_gguf("llama", tmp_path / "x.gguf")
    result = cli("model", "pull", path)
    assert result.code == 2 and "is a GGUF file that is here already" in result.err


def test_doctor_names_terms_that_were_not_accepted(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTINUAL_LEARNING_MODEL__NAME", GEMMA)
    fetched(monkeypatch)
    loading.pull(GEMMA)
    found = {check["name"]: check for check in cli("doctor", "--json").json["checks"]}["model"]
    assert found["status"] == "fail" and "Gemma terms of use" in found["detail"]
    assert found["fix"] == "continual-learning model pull gemma3-270m"
