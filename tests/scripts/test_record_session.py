"""Recording a session: which commands, and what is written of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "record_session.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record_session", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["record_session"] = module
    spec.loader.exec_module(module)
    return module


README = """# T
```bash
make demo  # not recorded
continual-learning config \\
  get memory
```
```python
print("from Python")
```
"""


def test_commands_and_scripts_are_found_and_make_is_left_out(script: ModuleType) -> None:
    assert [(e.language, e.code) for e in script.examples(README)] == [
        ("bash", "continual-learning config get memory"),
        ("python", 'print("from Python")'),
    ]
    assert len(script.examples(script.README.read_text(encoding="utf-8"))) > 3


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A command of that name that is there at once."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "continual-learning"
    program.write_text('#!/bin/sh\necho "ran $* in $PWD"\necho note >&2\n')
    program.chmod(0o755)
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))


@pytest.mark.usefixtures("quick")
def test_what_is_printed_is_written_without_this_machines_paths(script: ModuleType, tmp_path: Path) -> None:
    readme, out = tmp_path / "README.md", tmp_path / "session.md"
    readme.write_text(README)
    assert script.main(["--readme", str(readme), "--out", str(out)]) == 0
    text = out.read_text()
    assert "$ continual-learning config get memory\nran config get memory in ~/notes\nnote\n```" in text
    assert 'print("from Python")\n```\n\n```text\nfrom Python\n```' in text
    assert "make demo" not in text


@pytest.mark.usefixtures("quick")
def test_a_failure_leaves_the_old_file(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme, out = tmp_path / "README.md", tmp_path / "session.md"
    readme.write_text("```bash\ncontinual-learning x; exit 3\n```\n")
    out.write_text("old")
    assert script.main(["--readme", str(readme), "--out", str(out)]) == 1
    assert out.read_text() == "old" and "exit code 3" in capsys.readouterr().err
    readme.write_text("nothing")
    assert script.main(["--readme", str(readme), "--out", str(out)]) == 2
