"""Every command and every Python example of the README runs, in the README's order, in one fresh home.

A line of a ``bash`` block is ``make TARGET`` (the target must exist), the activation of the environment that make
makes, or a ``continual-learning`` command, which is run. A ``python`` block is run as a script. Commands that take
minutes or hours on the embedded model (`LONG`) are run on a tiny random one. All but what needs a shell or Ctrl-C run
in this process, where the embedded model is read once. A speaker on Ollama is a server on the loopback that has it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from contextlib import nullcontext
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from chat_servers import Script, ollama_server

from continual_learning.cli.main import main
from continual_learning.documents import shipped
from continual_learning.documents.qa_files import load_qa
from continual_learning.io.paths import data_home

ROOT = Path(__file__).parent.parent
ACTIVATION = ". .venv/bin/activate"
LONG = re.compile(r"^continual-learning (train |learn .*--strategy ace )")
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
    odd = [c for c in COMMANDS if c != ACTIVATION and c.split()[0] not in ("make", "continual-learning")]
    assert not odd, f"a README command is `make TARGET`, `{ACTIVATION}` or `continual-learning …`"
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    used = {shlex.split(c, comments=True)[1] for c in COMMANDS if c.startswith("make ")}
    assert used <= targets


def test_no_command_hides_in_a_block_that_is_not_run() -> None:
    other = [body for language, body in re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
             if language not in ("bash", "python")]  # fmt: skip
    assert not [line for body in other for line in body.splitlines() if line.startswith("continual-learning")]


def test_readme_shows_the_two_commands_and_the_main_job() -> None:
    assert any(c.startswith("make demo") for c in COMMANDS) and any(c.startswith("make test") for c in COMMANDS)
    assert any(c.startswith("continual-learning learn ") for c in COMMANDS)
    assert any(c.startswith("continual-learning ask ") for c in COMMANDS)
    assert any(e.kind == "python" for e in EXAMPLES)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with the examples in it, and an environment with a home of its own: one for all commands.

    The example is cut to its first paragraphs and questions: whether a command runs does not need the rest, which
    `test_demo` learns whole.
    """
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", folder / "examples")
    for name, parted, kept in (("tidewick.md", "\n\n", 3), ("tidewick.qa.jsonl", "\n", 4)):
        file = folder / "examples" / name
        file.write_text(parted.join(file.read_text(encoding="utf-8").split(parted)[:kept]) + "\n", encoding="utf-8")
    (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    home = tmp_path_factory.mktemp("home")
    for name in ("calibration", "models"):  # the user's own: what is true of the embedded model is computed once
        (data_home() / name).mkdir(parents=True, exist_ok=True)
        (home / name).symlink_to(data_home() / name, target_is_directory=True)
    return folder, os.environ | {"PATH": programs, "CONTINUAL_LEARNING_HOME": str(home)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The setting of a tiny random model in whose window worked examples and documents fit."""
    from tiny_models import make_tiny

    folder = make_tiny("llama", tmp_path_factory.mktemp("wide"), max_position_embeddings=1536)
    return {"CONTINUAL_LEARNING_MODEL__NAME": str(folder)}


@pytest.fixture
def few_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model should still know is asked in short: most of the time would go there, and no figure is looked at."""
    texts = shipped._shipped_texts
    monkeypatch.setattr(shipped, "load_qa", lambda path: load_qa(path)[:8])
    monkeypatch.setattr(shipped, "_shipped_texts", lambda name: texts(name)[: 2 if "unrelated" in name else None])


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.usefixtures("loaded_base", "few_probes")
@pytest.mark.parametrize("example", RUN, ids=lambda e: e.code.strip().splitlines()[0][:60])
def test_readme_example_runs(
    example: Example,
    place: tuple[Path, dict[str, str]],
    tiny: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, environment = place
    if example.code == ACTIVATION:
        if not (folder / ACTIVATION.removeprefix(". ")).exists():
            pytest.skip("this Python is in no virtual environment")
        subprocess.run(["bash", "-c", example.code], cwd=folder, env=environment, check=True)
        return
    if example.code.startswith("continual-learning serve "):
        out, error, code = served(example.code, folder, environment)
        assert code == 130, f"exit {code}\n{out[-2000:]}\n{error[-2000:]}"
        return
    monkeypatch.setenv("CONTINUAL_LEARNING_HOME", environment["CONTINUAL_LEARNING_HOME"])
    for name, value in tiny.items() if LONG.match(example.code) else ():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", StringIO())
    if example.kind == "python":
        exec(compile(example.code, "README.md", "exec"), {"__name__": "__main__"})
        return
    speaker = re.search(r"--speaker ollama:(\S+)", example.code)
    with ollama_server(Script(models=(speaker[1],))) if speaker else nullcontext("") as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        code = main(shlex.split(example.code, comments=True)[1:])
    done = capsys.readouterr()
    assert code == 0, f"exit {code}\n{done.out[-2000:]}\n{done.err[-2000:]}"


def served(command: str, folder: Path, environment: dict[str, str]) -> tuple[str, str, int]:
    """Run the server until it has answered once, then press Ctrl-C."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        address = re.search(r"http://[\w.]+:\d+", told)
        if address is not None:  # else it has ended, and its exit code says why
            with urllib.request.urlopen(f"{address[0]}/health", timeout=120) as response:
                assert response.status == 200
            process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=120)
    finally:
        process.kill()
    return told + out, error, process.returncode
