"""Running commands in this process, on the tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from continual_learning.cli.main import main

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out)


Command = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in an empty working folder: ``cli("learn", path, "--json")``."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tiny_base: BaseModel) -> BaseModel:
    """Every command gets the tiny model, loaded once, and ``in_context`` unless told otherwise.

    It has no reader, which is said once a process: here it was said.
    """
    monkeypatch.setattr("continual_learning.reading.answering._said", {tiny_base.fingerprint})
    monkeypatch.setattr("continual_learning.model.base_model.BaseModel.load", lambda *_, **__: tiny_base)
    monkeypatch.setenv("CONTINUAL_LEARNING_MODEL__NAME", tiny_base.name)
    monkeypatch.setenv("CONTINUAL_LEARNING_STRATEGY", "in_context")
    return tiny_base


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A short document."""
    path = tmp_path / "Comb jellies.txt"
    path.write_text("Comb jellies eat plankton.")
    return path


@pytest.fixture
def work(cli: Command, tiny: BaseModel, tmp_path: Path) -> Command:
    """`cli`, with a memory ``work`` that holds two documents in two versions."""
    for name in ("one", "two"):
        path = tmp_path / f"{name}.txt"
        path.write_text(f"This is document {name}.")
        assert cli("learn", path, "--memory", "work").code == 0
    return cli
