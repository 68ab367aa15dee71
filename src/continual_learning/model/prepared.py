"""What `model prepare` made for a base: a folder in the data folder, named by the base's fingerprint.

    <data folder>/prepared/<the fingerprint's first 16 digits>/
        base.json                            the base's name and fingerprint, and how each thing was made
        NOTICE.md                            if the licence of the base asks for one
        reader.safetensors, start.safetensors, hypernetwork/
                                             what was made, complete: found by name, with or without base.json
        runs/                                training runs that have not ended

Nothing here imports PyTorch.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continual_learning.io.files import make_folder, storage_errors, write_atomic
from continual_learning.io.paths import prepared_home
from continual_learning.model.embedded import EMBEDDED, kept_notices

MANIFEST, NOTICE, RUNS = "base.json", "NOTICE.md", "runs"
_FORMAT = 1
_QUICK, _OLD = "-quick", "-old"
_DIGITS = 16


@dataclass(frozen=True)
class Prepared:
    """What was prepared for one base."""

    folder: Path
    name: str
    """The name that the base had."""
    fingerprint: str
    source: str | None
    """The base's file or folder, if it was on this machine."""
    made: Mapping[str, Mapping[str, Any]]
    """How each thing was made, by its name: ``file``, ``quick``, ``command``, ``seconds``, ``version``."""

    @property
    def things(self) -> list[str]:
        """What there is: ``reader``, ``reader (quick)`` if it was made quickly, ``reader (unfinished)`` for a run."""
        found = [name for name in self.made if (self.folder / self.made[name]["file"]).exists()]
        runs = sorted({path.name.removesuffix(_QUICK) for path in (self.folder / RUNS).glob("*")})
        return [
            *(f"{name} (quick)" if self.made[name]["quick"] else name for name in found),
            *(f"{name} (unfinished)" for name in runs),
        ]

    @property
    def bytes(self) -> int:
        """Bytes on disk, runs that have not ended included."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())

    def is_for(self, name: str, source: Path | None) -> bool:
        """Whether it was prepared for the model of this name, or in this file or folder."""
        return name == self.name or (source is not None and str(source.absolute()) == self.source)


def prepared_folder(fingerprint: str) -> Path:
    """The folder of what is prepared for a base. Not created."""
    return prepared_home() / fingerprint[:_DIGITS]


def find_prepared(fingerprint: str, file: str) -> Path | None:
    """A file or folder that was prepared for a base, if it is there."""
    path = prepared_folder(fingerprint) / file
    return path if path.exists() else None


def prepared(fingerprint: str) -> Prepared | None:
    """What `model prepare` noted about a base; None before it made something."""
    return _read(prepared_folder(fingerprint))


def all_prepared() -> Iterator[Prepared]:
    """What was prepared, for each base."""
    for folder in sorted(prepared_home().glob("*")):
        if (found := _read(folder)) is not None:
            yield found


def stamp(fingerprint: str) -> list[list[Any]]:
    """Changes whenever something that was prepared for a base changes; empty if there is nothing."""
    folder = prepared_folder(fingerprint)
    files = sorted(f for f in folder.rglob("*.safetensors") if RUNS not in f.relative_to(folder).parts)
    return [[f.relative_to(folder).as_posix(), f.stat().st_size, f.stat().st_mtime_ns] for f in files]


def run_folder(fingerprint: str, name: str, quick: bool) -> Path:
    """Folder of the run that makes something. Not created."""
    return prepared_folder(fingerprint) / RUNS / (name + _QUICK if quick else name)


def note(fingerprint: str, base: Mapping[str, Any], made: Mapping[str, Mapping[str, Any]]) -> None:
    """Write down for which base something is made, and the notice that its licence asks for.

    ``base`` has its ``name``, ``source`` and ``licence``; ``made`` is added to `Prepared.made`. Raises StorageError.
    """
    folder, before, source = prepared_folder(fingerprint), prepared(fingerprint), base["source"]
    content = {
        "format": _FORMAT,
        "name": base["name"],
        "fingerprint": fingerprint,
        "source": None if source is None else str(Path(source).absolute()),
        "licence": base["licence"],
        "made": {**(before.made if before else {}), **made},
    }
    with storage_errors(f"what is prepared for {base['name']} cannot be kept"):
        make_folder(folder)
        write_notice(folder, base["licence"])
        write_atomic(folder / MANIFEST, json.dumps(content, indent=1).encode())


def put(result: Path, fingerprint: str, file: str) -> None:
    """Put what a run made, a file or a folder, in place of what was there; Raises StorageError."""
    target = prepared_folder(fingerprint) / file
    with storage_errors(f"{file}: cannot be kept"):
        old = target.parent / RUNS / f"{target.name}{_OLD}"
        if target.is_dir():  # a folder cannot be replaced in one step
            shutil.rmtree(old, ignore_errors=True)
            make_folder(old.parent)
            os.replace(target, old)
        os.replace(result, target)
        shutil.rmtree(old, ignore_errors=True)


def write_notice(folder: Path, licence: str | None) -> Path | None:
    """Write the notice that the terms of a licence ask for next to what is made from a model; None if they do not.

    A copy of the terms is put next to it where the model came with one.
    """
    name = next((n for n, model in EMBEDDED.items() if model.terms and model.licence == licence), None)
    if name is None:
        return None
    terms = EMBEDDED[name].terms
    assert terms is not None  # such a name was looked for
    text = (
        f"# Notice\n\n{terms.notice}\n\n"
        "The files in this folder were made by training on what that model computes, for use with it: Model "
        f"Derivatives, in the words of its terms, <{terms.address}>. Whoever passes them on passes on this notice and "
        "a copy of the terms, and imposes the terms' restrictions of use.\n"
    )
    make_folder(folder)
    write_atomic(folder / NOTICE, text.encode())
    for kept in kept_notices(name):
        if kept.suffix == ".html":
            write_atomic(folder / kept.name, kept.read_bytes())
    return folder / NOTICE


def _read(folder: Path) -> Prepared | None:
    try:
        found = json.loads((folder / MANIFEST).read_text("utf-8"))
        made = {name: one for name, one in found["made"].items() if isinstance(one["file"], str) and "quick" in one}
        return Prepared(folder, str(found["name"]), str(found["fingerprint"]), found["source"], made)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # none yet, or damaged: what was made is found without it
