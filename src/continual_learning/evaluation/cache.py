"""Results on disk, found again by what they are results of.

A key is everything that a result depends on: the base's fingerprint and precision, the strategy with its settings, the
documents, the questions, this package's own source and data and the machine (seconds are results too). An interrupted
run started again with the same command goes on where it stopped; a changed document, setting or line of code is
measured anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from continual_learning.io.files import make_folder, storage_errors, write_atomic
from continual_learning.io.paths import data_home

# What cannot change a result: how it is called and shown, and how cached ones are put together.
_WITHOUT_EFFECT = ("cli/", "server/", "evaluation/")
_WITH_EFFECT = ("evaluation/sequence.py", "evaluation/machine.py")  # what is measured at a step


def digest(key: Any) -> str:
    """SHA-256 of plain JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@functools.cache
def source_digest() -> str:
    """SHA-256 of the package's own code and data (general questions, unrelated texts, trained networks), without the
    parts that only show results."""
    return folder_digest(Path(str(files("continual_learning"))))


def folder_digest(root: Path) -> str:
    """`source_digest` of the package in this folder."""
    h = hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *(p for p in (root / "data").rglob("*") if p.is_file())]):
        name = path.relative_to(root).as_posix()
        if name in _WITH_EFFECT or not name.startswith(_WITHOUT_EFFECT):
            h.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return h.hexdigest()


class ResultCache:
    """Plain JSON values by key. ``folder`` None: nothing is kept, nothing is found."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    @classmethod
    def default(cls) -> ResultCache:
        """The cache in the data folder. It may be deleted at any time."""
        return cls(data_home() / "results")

    def get(self, key: Mapping[str, Any]) -> Any | None:
        """The value, or None when there is none, or none that can be read."""
        path = self._path(key)
        if path is None:
            return None
        with storage_errors("cached results"):
            try:
                return json.loads(path.read_text(encoding="utf-8"))["value"]
            except FileNotFoundError:
                return None
            except (ValueError, KeyError, TypeError):  # damaged: it is measured again, and written over
                return None

    def put(self, key: Mapping[str, Any], value: Any) -> None:
        """Keep a value, wholly or not at all."""
        path = self._path(key)
        if path is not None:
            with storage_errors("cached results"):
                make_folder(path.parent)
                write_atomic(path, json.dumps({"key": key, "value": value}, ensure_ascii=False).encode(), sync=False)

    def _path(self, key: Mapping[str, Any]) -> Path | None:
        name = digest(key)
        return None if self.folder is None else self.folder / name[:2] / f"{name}.json"
