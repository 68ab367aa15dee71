"""Playbooks in files: by name in the folder that ``ace.playbook_dir`` names, or by path."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from continual_learning.errors import InputError
from continual_learning.io.files import check_name, is_stream
from continual_learning.strategies.methods.ace.config import ACEConfig
from continual_learning.strategies.methods.ace.playbook import Playbook

SUFFIXES = (".json", ".md")


@dataclass(frozen=True)
class Saved:
    """A playbook in the folder."""

    name: str
    file: Path
    entries: int | None
    """None if the file is not a playbook."""
    saved_at: str
    """UTC, ISO 8601."""
    problem: str = ""
    """Why the file cannot be loaded."""


def folder_of(options: Mapping[str, Any]) -> Path:
    """The folder of playbooks that the options of ace name; the working folder for None."""
    folder = options.get("playbook_dir", ACEConfig.model_fields["playbook_dir"].default)
    return Path(".") if folder is None else Path(str(folder)).expanduser()


def is_name(text: str) -> bool:
    """Whether this is the name of a playbook or of a file in the folder, rather than a path."""
    return not text.startswith("~") and not any(s in text for s in (os.sep, os.altsep) if s)


def placed(text: str, folder: Path) -> Path:
    """The file for a name, which is in the folder and ends in ``.json`` if it has no suffix, or for a path.

    Raises InputError for another suffix than .json and .md.
    """
    file = folder / text if is_name(text) else Path(text).expanduser()
    if is_name(text) and not file.suffix:
        return folder / f"{text}.json"
    if file.suffix not in SUFFIXES:
        raise InputError(f"{text}: suffix {file.suffix!r}; expected a name without one, .json, or .md for people")
    return file


def new_file(text: str, folder: Path) -> Path:
    """As `placed`, for a file to write. Raises InputError for a name that not every platform allows, too."""
    file = placed(text, folder)
    if is_name(text):
        check_name(text, "playbook")
    return file


def found(text: str, folder: Path) -> Path:
    """As `placed`, for a file to read: one of the working folder if the folder of playbooks has none of that name.

    Raises InputError for a name that is in neither, with those that are there.
    """
    file = placed(text, folder)
    if not is_name(text) or file.exists():
        return file
    if Path(text).is_file():
        return Path(text)
    names = ", ".join(saved.name for saved in listed(folder)) or "nothing"
    raise InputError(
        f"{text}: cannot be read: {folder} has no {file.name}; it holds {names}: see continual-learning ace list"
    )


def listed(folder: Path) -> list[Saved]:
    """The playbooks in the folder, by name; none if there is no such folder. Raises InputError if it cannot be read."""
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix == ".json") if folder.is_dir() else []
        return [_saved(file) for file in files]
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}; expected a folder of playbooks") from None


def _saved(file: Path) -> Saved:
    saved_at = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds")
    try:
        return Saved(file.stem, file, len(read(file)), saved_at)
    except InputError as error:
        return Saved(file.stem, file, None, saved_at, str(error))


def write(playbook: Playbook, text: str, folder: Path, overwrite: bool) -> Path:
    """Write a playbook as JSON, or as Markdown if the file ends in ``.md``, and return its file (see `new_file`).

    The folder of playbooks is made. Raises InputError if the file is there, unless ``overwrite``, and if it cannot be
    written.
    """
    file = new_file(text, folder)
    content = json.dumps(playbook.to_json(), indent=1, ensure_ascii=False) + "\n"
    try:
        if is_name(text):
            folder.mkdir(parents=True, exist_ok=True)
        with file.open("w" if overwrite or is_stream(file) else "x", encoding="utf-8") as stream:
            stream.write(content if file.suffix == ".json" else playbook.markdown())
    except FileExistsError:
        raise InputError(f"{file} is there already; choose another name, or add --overwrite") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror}; choose another place") from None
    return file


def read(file: Path) -> Playbook:
    """The playbook in a file. Raises InputError for a file that cannot be read or is not a playbook."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{file}: cannot be read: {reason}; expected what `ace save NAME` wrote") from None
    return Playbook.from_json(data, str(file))
