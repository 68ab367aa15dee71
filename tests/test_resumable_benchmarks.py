"""What the long benchmarks share: a run that was cut short goes on, and figures of two settings are never mixed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parent.parent / "benchmarks" / "resumable.py"


@pytest.fixture(scope="module")
def resumable() -> Any:
    if not FILE.exists():
        pytest.skip("the source distribution has no benchmarks")
    spec = importlib.util.spec_from_file_location("resumable", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_part_that_is_there_is_not_measured_again(resumable: Any, tmp_path: Path) -> None:
    file = tmp_path / "out" / "figures.json"
    parts = resumable.Parts(file, {"data": "a", "threads": 1})
    parts.measure("first", lambda: {"recall": 0.5})

    def cut_short() -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts.measure("second", cut_short)
    again = resumable.Parts(file, {"data": "a", "threads": 1})
    again.measure("first", cut_short)
    again.measure("second", lambda: {"recall": 1.0})
    assert [part["recall"] for part in again.measured.values()] == [0.5, 1.0]
    assert list(tmp_path.glob("out/*")) == [file]


def test_figures_of_two_settings_are_not_mixed(resumable: Any, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    resumable.Parts(file, {"data": "a", "threads": 1}).measure("first", lambda: {"recall": 0.5})
    before = file.read_bytes()
    with pytest.raises(SystemExit, match="measured with another data, threads"):
        resumable.Parts(file, {"data": "b", "threads": 2})
    assert file.read_bytes() == before
