"""Record docs/first-session.md: what the commands of the README's first session print, as a new user runs them.

    python scripts/record_session.py [--readme FILE] [--out FILE] [--reuse]

The commands run one after another in a terminal of 100 columns, in a fresh copy of the repository and with a home of
their own, from ``make install`` on; nothing is found that they did not install or write. ``--reuse`` takes the
environment that runs this and its copy of the model instead and leaves ``make`` out, for a quick try. What differs
from run to run is left out: times, and the places of the copy and of its home. The first command that fails ends the
recording with exit code 1, and the file stays as it was.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pyte

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
OUT = ROOT / "docs" / "first-session.md"
SECTION = "First session"
COLUMNS, ROWS = 100, 200

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)?")
_SECONDS = re.compile(r"\b\d+(?:\.\d+)?(?= s\b)")
_LAST_NUMBER = re.compile(r"[\d.]+$")


@dataclass(frozen=True)
class Recorded:
    """A command with what stood on the terminal after it."""

    command: str
    screen: list[str]
    code: int


def commands(markdown: str) -> list[str]:
    """The lines of the bash blocks of the section, in order. A line that ends in a backslash goes on in the next."""
    found: list[str] = []
    section = re.search(rf"^## {SECTION}\n(.*?)(?=^## |\Z)", markdown, re.DOTALL | re.MULTILINE)
    for body in re.findall(r"^```bash\n(.*?)^```", section[1] if section else "", re.DOTALL | re.MULTILINE):
        lines = re.split(r"(?<!\\)\n", body)
        found += [line for line in lines if line.strip() and not line.startswith("#")]
    return found


def record(command: str, before: list[str], folder: Path, environment: dict[str, str]) -> Recorded:
    """Run one command at a terminal. ``before`` are the lines that changed the shell, such as an activation."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    shell = pexpect.spawn(
        "bash", ["--norc", "-c", "\n".join([*before, command])], cwd=str(folder), env=environment, timeout=None,
        dimensions=(ROWS, COLUMNS),
    )  # fmt: skip
    stream.feed(shell.read())
    shell.close()
    code = shell.exitstatus if shell.exitstatus is not None else 128 + shell.signalstatus
    return Recorded(command, [line.rstrip() for line in "\n".join(screen.display).rstrip().split("\n")], code)


def without_times(screen: list[str]) -> list[str]:
    """The lines without what the clock has to do with; columns stay where they are."""
    found, in_seconds = [], False
    for line in screen:
        line = _TIMESTAMP.sub(lambda match: "…".ljust(len(match[0])), line).rstrip()
        line = _SECONDS.sub("…", line)
        if in_seconds:
            line = _LAST_NUMBER.sub("…", line)
        in_seconds = bool(line) and (in_seconds or line.endswith(" seconds"))
        found.append(line)
    return found


def page(recorded: list[Recorded], places: dict[str, str]) -> str:
    """The document. ``places`` are folders of this machine and what stands for them."""
    lines = [
        "# A first session",
        "",
        f"What the commands of the README's section “{SECTION}” print, on a machine that had only Python. Written by",
        "`make session`; … stands for times.",
    ]
    for one in recorded:
        output = "\n".join(without_times(one.screen)).rstrip()
        for place, name in places.items():
            output = output.replace(place, name)
        lines += ["", "```console", f"$ {one.command}", *([output] if output else []), "```"]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Record, and write the file if every command succeeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--reuse", action="store_true", help="install nothing: take this environment and its copy of the model"
    )
    given = parser.parse_args(arguments)
    found = commands(given.readme.read_text(encoding="utf-8"))
    if given.reuse:
        found = [command for command in found if not command.startswith("make ")]
    if not found:
        print(f"{given.readme}: no bash block under '## {SECTION}'; expected the commands to record", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as place:
        folder, home = Path(place).resolve() / "clone", Path(place).resolve() / "home"
        home.mkdir()
        _copy_repository(folder)
        if given.reuse:
            _share(folder, home)
        recorded: list[Recorded] = []
        for command in found:
            print(f"$ {command}", flush=True)
            before = [one.command for one in recorded if one.command.startswith(". ")]
            recorded.append(record(command, before, folder, _environment(home)))
            if recorded[-1].code != 0:
                print("\n".join(recorded[-1].screen), file=sys.stderr)
                print(f"exit code {recorded[-1].code}; {given.out} stays as it was", file=sys.stderr)
                return 1
        places = {str(folder): "~/continual-learning-slm", str(home): "~/.local/share/continual-learning"}
        given.out.write_text(page(recorded, places), encoding="utf-8")
    print(f"wrote {given.out}")
    return 0


def _copy_repository(folder: Path) -> None:
    """All files that git does not ignore, as a clone would have them after a commit."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():  # else it was deleted and that is not committed yet
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def _share(folder: Path, home: Path) -> None:
    from continual_learning.io.paths import model_cache_home

    (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    if model_cache_home().is_dir():
        (home / "models").mkdir()
        (home / "models" / "cache").symlink_to(model_cache_home(), target_is_directory=True)


def _environment(home: Path) -> dict[str, str]:
    """This one without its virtual environment, so that a command is found only where the session put it."""
    ours = ("VIRTUAL_ENV", "NO_COLOR", "COLUMNS", "LINES", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    own = str(Path(sys.prefix) / "bin")
    kept["PATH"] = os.pathsep.join(p for p in kept["PATH"].split(os.pathsep) if p != own)
    return kept | {"CONTINUAL_LEARNING_HOME": str(home), "TERM": "xterm"}


if __name__ == "__main__":
    sys.exit(main())
