"""Recording a session: which commands, and what is written of them."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "record_session.py"

if shutil.which("git") is None or shutil.which("bash") is None:
    pytest.skip("copies a repository and runs commands in a shell", allow_module_level=True)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record_session", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["record_session"] = module
    spec.loader.exec_module(module)
    return module


def readme(*lines: str) -> str:
    body = "\n".join(lines)
    return f"# T\n```bash\nmake demo\n```\n## First session\nWords.\n```bash\n{body}\n```\n## More\n```bash\nno\n```\n"


def test_the_commands_of_the_section(script: ModuleType) -> None:
    found = script.commands(readme("# why", "make install", "learn a.md \\", "  --memory m", "", "ask"))
    assert found == ["make install", "learn a.md \\\n  --memory m", "ask"]
    assert script.commands("# T\n```bash\nmake demo\n```\n") == []


def test_the_recorded_session_is_that_of_the_readme(script: ModuleType) -> None:
    recorded = re.findall(r"^```console\n\$ (.*?[^\\])\n", script.OUT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert recorded == script.commands(script.README.read_text("utf-8")), "`make session` records it anew"


def test_what_a_terminal_shows_is_written_without_times_and_places(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        readme(
            "echo NAME=Biko > here.sh",
            ". ./here.sh",
            'echo "$NAME in $PWD"; echo "home $CONTINUAL_LEARNING_HOME"; echo "2026-01-02T03:04:05+00:00, 1.5 s"',
            "printf 'half\\rwhole\\nname   seconds\\nbiko   12.6\\n'",
            "printf '%0150d\\n' 7 >&2",
            "test -e scripts/record_session.py && test ! -e .git && test ! -e .venv && echo a copy",
        )
    )
    out = tmp_path / "session.md"
    assert script.main(["--readme", str(tmp_path / "README.md"), "--out", str(out)]) == 0
    text = out.read_text()
    assert f"\nBiko in ~/continual-learning-slm\nhome ~/.local/share/continual-learning\n…{' ' * 24}, … s\n" in text
    assert "\nwhole\nname   seconds\nbiko   …\n" in text
    assert f"\n{'0' * 100}\n{'0' * 49}7\n```" in text
    assert text.endswith("&& echo a copy\na copy\n```\n")
    assert text.count("```console\n$ ") == 6


def test_a_failure_leaves_the_old_file(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, out = tmp_path / "README.md", tmp_path / "session.md"
    given.write_text(readme("make install", "echo oh; exit 3"))
    out.write_text("old")
    arguments = ["--readme", str(given), "--out", str(out), "--reuse"]  # without make
    assert script.main(arguments) == 1
    said = capsys.readouterr().err
    assert out.read_text() == "old" and "oh\n" in said and "exit code 3" in said
    given.write_text("nothing")
    assert script.main(arguments) == 2
