"""Record docs/first-session.md: the README's commands, run as a new user would, with what they print.

    python scripts/record_session.py [--readme FILE] [--out FILE] [--commands N]

The commands run in the README's order, in an empty folder with the examples in it, and with a home of their own;
``make`` is left out, since installing is not part of it. The first command that fails ends the recording with exit
code 1, and the file stays as it was.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
OUT = ROOT / "docs" / "first-session.md"
COLUMNS = 110


@dataclass(frozen=True)
class Example:
    """A line of a bash block, or a whole python block."""

    language: str
    code: str


@dataclass(frozen=True)
class Recorded:
    """An example with what it printed."""

    example: Example
    output: str
    seconds: float
    code: int


def examples(markdown: str) -> list[Example]:
    """The ``continual-learning`` lines of bash blocks and the python blocks, in order."""
    found: list[Example] = []
    for language, body in re.findall(r"^```(bash|python)\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE):
        if language == "python":
            found.append(Example(language, body.rstrip("\n")))
            continue
        for line in body.replace("\\\n", " ").splitlines():
            if line.startswith("continual-learning "):
                found.append(Example(language, " ".join(line.split())))
    return found


def record(example: Example, folder: Path, environment: dict[str, str]) -> Recorded:
    """Run one example, with standard error among its output, as a terminal shows both."""
    command = [sys.executable, "-c", example.code] if example.language == "python" else ["bash", "-c", example.code]
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    return Recorded(example, done.stdout, time.perf_counter() - started, done.returncode)


def page(recorded: list[Recorded], places: dict[str, str]) -> str:
    """The document. ``places`` are folders of this machine and what stands for them."""
    lines = [
        "# A first session",
        "",
        "What the README's commands print, in order, in a fresh home. Written by `make session`; the seconds are those",
        "of the machine that recorded it.",
    ]
    for one in recorded:
        language = "console" if one.example.language == "bash" else "python"
        shown = f"$ {one.example.code}" if language == "console" else one.example.code
        output = one.output.rstrip("\n")
        for place, name in places.items():
            output = output.replace(place, name)
        lines += ["", f"```{language}", shown]
        if language == "python":  # a script and what it prints are two things
            lines += ["```", "", "```text"]
        lines += [*([output] if output else []), "```", "", f"{one.seconds:.0f} s"]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Record, and write the file if every command succeeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--commands", type=int, metavar="N", help="record the first N only")
    given = parser.parse_args(arguments)
    found = examples(given.readme.read_text(encoding="utf-8"))[: given.commands]
    if not found:
        print(f"{given.readme}: holds no continual-learning command; expected some in bash blocks", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as place:
        folder, home = Path(place).resolve() / "notes", Path(place).resolve() / "home"
        home.mkdir()
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        environment = os.environ | {
            "CONTINUAL_LEARNING_HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "COLUMNS": str(COLUMNS),
        }
        _share_model(home)
        recorded: list[Recorded] = []
        for example in found:
            print(f"$ {example.code.splitlines()[0]}", flush=True)
            recorded.append(record(example, folder, environment))
            if recorded[-1].code != 0:
                print(recorded[-1].output, file=sys.stderr)
                print(f"exit code {recorded[-1].code}; {given.out} stays as it was", file=sys.stderr)
                return 1
        packages = Path(sys.prefix)
        places = {str(folder): "~/notes", str(home): "~/.local/share/continual-learning", str(packages): ".venv"}
        given.out.write_text(page(recorded, places), encoding="utf-8")
    print(f"wrote {given.out}")
    return 0


def _share_model(home: Path) -> None:
    """The dequantised copy of the embedded model, if this machine has one: half a minute less to wait."""
    from continual_learning.paths import model_cache_home

    there = model_cache_home()
    if there.is_dir():
        (home / "models").mkdir()
        (home / "models" / "cache").symlink_to(there, target_is_directory=True)


if __name__ == "__main__":
    sys.exit(main())
