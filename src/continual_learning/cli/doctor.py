"""`doctor`: checks the installation, the model and the memories, and suggests fixes."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from continual_learning import __version__
from continual_learning.cli import options
from continual_learning.cli.output import Output, plain, size
from continual_learning.errors import ContinualLearningError

OK, WARN, FAIL = "ok", "warn", "fail"
ENOUGH_DISK = 2_000_000_000
"""The dequantised embedded model takes 540 MB, and is written next to the old one."""
LEAST_DISK = 50_000_000


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    status: str
    """ok, warn or fail."""
    detail: str
    fix: str = ""
    """The command or setting that fixes it."""


def doctor(as_json: options.Json = False) -> None:
    """Check the installation, the model and every memory. Exit code 1 if something fails."""
    out = Output(as_json)
    found: list[Check] = []
    for check in (_python, _packages, _threads, _settings, _model, _strategies, _speaker, _data_home, _disk, _memories):
        for result in _run(check):
            found.append(result)
            out.line(f"{result.status:<4}  {result.name}: {result.detail}{'; ' if result.fix else ''}{result.fix}")
    failed = sum(check.status == FAIL for check in found)
    out.result({"version": __version__, "checks": plain(found), "failed": failed})
    if failed:
        raise typer.Exit(1)


def _run(check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Run a check. One that itself fails is a finding, and must not hide the rest."""
    name = check.__name__.strip("_").replace("_", " ")
    try:
        yield from check()
    except ContinualLearningError as error:
        yield Check(name, FAIL, str(error))
    except Exception as error:
        yield Check(name, FAIL, f"{type(error).__name__}: {error}", "run with --debug for the traceback")


def _python() -> Iterator[Check]:
    yield Check("python", OK, f"{sys.version.split()[0]} on {sys.platform}")  # pip refuses one that is too old


def _packages() -> Iterator[Check]:
    import importlib.metadata  # slow, and --help reads this file

    for package in ("torch", "transformers", "safetensors", "gguf", "accelerate"):
        try:
            version = importlib.metadata.version(package)
            if package == "torch":
                import torch  # a broken shared library shows only here

                version = f"{torch.__version__}, {'GPU' if torch.cuda.is_available() else 'no GPU'}"
        except (ImportError, OSError) as error:  # PackageNotFoundError is an ImportError
            yield Check(package, FAIL, f"cannot be imported: {error}", f"pip install --force-reinstall {package}")
        else:
            yield Check(package, OK, version)


def _threads() -> Iterator[Check]:
    import torch

    threads = torch.get_num_threads()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads > usable:
        found = f"{threads} threads on {usable} cores: they get in each other's way"
        yield Check("threads", WARN, found, f"export OMP_NUM_THREADS={usable}")
    else:
        yield Check("threads", OK, f"{threads} of {usable} cores, {torch.backends.cpu.get_cpu_capability()}")


def _settings() -> Iterator[Check]:
    from continual_learning.settings.schema import config_files, load_config

    config = load_config()
    for name in config.settings.strategies:
        config.strategy_options(name)
    used = [str(path) for path in config_files() if path.exists()]
    yield Check("settings", OK, ", ".join(used) or "all at their defaults")


def _model() -> Iterator[Check]:
    from continual_learning.model.copies import copies
    from continual_learning.model.embedded import EMBEDDED, is_available, locate
    from continual_learning.model.licences import is_accepted, notice
    from continual_learning.settings.schema import load_config

    name = load_config().settings.model.name
    if name not in EMBEDDED:
        path = Path(name).expanduser()
        kind = "a local folder" if path.is_dir() else "a file" if path.is_file() else "from the Hugging Face hub"
        yield Check("model", OK, f"{name} ({kind})")
        return
    fetch = f"continual-learning model pull {name}"
    if not is_available(name):
        yield Check("model", FAIL, f"{name} is not installed", fetch)
        return
    if not is_accepted(name):
        yield Check("model", FAIL, f"{notice(name)}, which were not accepted yet", fetch)
        return
    file = locate(name)
    where = f"in {file.parent}" if file else "in parts, which the first use joins"
    ready = "its dequantised copy is there" if copies(name) else "the first use takes half a minute to dequantise it"
    yield Check("model", OK, f"{name} {where}; {ready}")


def _strategies() -> Iterator[Check]:
    """What each strategy needs with its settings, and whether strategies of other packages can be loaded."""
    from continual_learning.settings.schema import load_config, strategy_names
    from continual_learning.strategies.base import make_strategy

    config = load_config()
    for name in strategy_names():
        try:
            findings = make_strategy(name, config.strategy_options(name)).checks()
        except ContinualLearningError as error:
            yield Check(f"strategy {name}", FAIL, str(error))
            continue
        for found in findings:
            yield Check(found.name, OK if found.ok else FAIL, found.detail, found.fix)


def _speaker() -> Iterator[Check]:
    """Whether the speaker of the settings can be used, if one is set."""
    from continual_learning.cli.session import open_speaker
    from continual_learning.settings.schema import load_config

    config = load_config()
    if open_speaker(config) is not None:
        yield Check("speaker", OK, f"{config.settings.speaker.model}")


def _data_home() -> Iterator[Check]:
    from continual_learning.io.paths import data_home

    home = data_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        fix = "change its permissions, or set CONTINUAL_LEARNING_HOME to a folder of yours"
        yield Check("data folder", FAIL, f"{home} cannot be written: {error.strerror}", fix)
    else:
        yield Check("data folder", OK, f"{home} can be written")


def _disk() -> Iterator[Check]:
    from continual_learning.io.paths import data_home

    folder = data_home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    status = OK if free >= ENOUGH_DISK else WARN if free >= LEAST_DISK else FAIL
    fix = "" if status == OK else f"free {size(ENOUGH_DISK)}, or set CONTINUAL_LEARNING_HOME to another disk"
    yield Check("disk", status, f"{size(free)} free", fix)


def _memories() -> Iterator[Check]:
    from continual_learning.cli.session import memory_names
    from continual_learning.memory.store import Store

    names = memory_names()
    if not names:
        yield Check("memories", OK, "none yet")
    for name in names:
        store = Store.open(name, create=False)
        problems = store.verify()
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            fix = f"continual-learning memory rollback {name}"
            yield Check(f"memory {name}", FAIL, f"{problems[0]}{more}", fix)
        else:
            yield Check(f"memory {name}", OK, f"every file is intact, {size(store.bytes_on_disk())}")
