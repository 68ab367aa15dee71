"""Every command and every Python example of the README runs, in the README's order, in one fresh home.

A line of a ``bash`` block is either ``make TARGET`` (the target must exist) or a ``continual-learning``
command, which is run. A ``python`` block is run as a script. All run in this process, where the model is read once.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from continual_learning import background
from continual_learning.cli.main import main
from continual_learning.paths import data_home
from continual_learning.qa import load_qa

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Example:
    """A line of a bash block, or a whole python block."""

    kind: str
    code: str


def examples(markdown: str) -> list[Example]:
    found: list[Example] = []
    for language, body in re.findall(r"^```(bash|python)\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE):
        if language == "python":
            found.append(Example("python", body))
            continue
        for line in body.replace("\\\n", " ").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                found.append(Example("bash", " ".join(line.split())))
    return found


EXAMPLES = examples(README)
COMMANDS = [e.code for e in EXAMPLES if e.kind == "bash"]
RUN = [e for e in EXAMPLES if not e.code.startswith("make ")]


def test_blocks_are_found() -> None:
    bash = "```bash\n# why\nmake demo  # note\ncontinual-learning learn a.md \\\n  --memory m\n```\n"
    text = bash + "```python\nx = 1\n```\n"
    assert examples(text) == [
        Example("bash", "make demo # note"),
        Example("bash", "continual-learning learn a.md --memory m"),
        Example("python", "x = 1\n"),
    ]


def test_every_bash_line_is_one_that_is_tested() -> None:
    odd = [c for c in COMMANDS if c.split()[0] not in ("make", "continual-learning")]
    assert not odd, "a README command is `make TARGET` or `continual-learning …`"
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    used = {shlex.split(c, comments=True)[1] for c in COMMANDS if c.startswith("make ")}
    assert used <= targets


def test_readme_shows_the_two_commands_and_the_main_job() -> None:
    assert any(c.startswith("make demo") for c in COMMANDS) and any(c.startswith("make test") for c in COMMANDS)
    assert any(c.startswith("continual-learning learn ") for c in COMMANDS)
    assert any(c.startswith("continual-learning ask ") for c in COMMANDS)
    assert any(e.kind == "python" for e in EXAMPLES)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with the examples in it, and a home: one for all commands.

    The example is cut to its first paragraphs and questions: whether a command runs does not need the rest, which
    `test_demo` learns whole.
    """
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", folder / "examples")
    for name, parted, kept in (("tidewick.md", "\n\n", 3), ("tidewick.qa.jsonl", "\n", 4)):
        file = folder / "examples" / name
        file.write_text(parted.join(file.read_text(encoding="utf-8").split(parted)[:kept]) + "\n", encoding="utf-8")
    home = tmp_path_factory.mktemp("home")
    calibrated = data_home() / "calibration"  # the user's own, as the cached model is: it takes as long as learning
    calibrated.mkdir(parents=True, exist_ok=True)
    (home / "calibration").symlink_to(calibrated, target_is_directory=True)
    return folder, home


@pytest.fixture
def few_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model should still know is asked in short: most of the time would go there, and no figure is looked at."""
    shipped = background._shipped_texts
    monkeypatch.setattr(background, "load_qa", lambda path: load_qa(path)[:8])
    monkeypatch.setattr(background, "_shipped_texts", lambda name: shipped(name)[: 2 if "unrelated" in name else None])


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.usefixtures("loaded_base", "few_probes")
@pytest.mark.parametrize("example", RUN, ids=lambda e: e.code.strip().splitlines()[0][:60])
def test_readme_example_runs(
    example: Example,
    place: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, home = place
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CONTINUAL_LEARNING_HOME", str(home))
    monkeypatch.setattr(sys, "stdin", StringIO())
    if example.kind == "python":
        exec(compile(example.code, "README.md", "exec"), {"__name__": "__main__"})
        return
    program, *arguments = shlex.split(example.code, comments=True)
    code = main(arguments)
    captured = capsys.readouterr()
    assert (program, code) == ("continual-learning", 0), captured.out[-2000:] + captured.err[-2000:]


@pytest.mark.model
@pytest.mark.slow
def test_the_installed_program_finds_what_was_learned(place: tuple[Path, Path]) -> None:
    """The one command that runs as a shell runs it; the others are called in this process."""
    folder, home = place
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "CONTINUAL_LEARNING_HOME": str(home),
    }
    (command,) = (c for c in COMMANDS if c.startswith("continual-learning memory show"))
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "Tidewick" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
