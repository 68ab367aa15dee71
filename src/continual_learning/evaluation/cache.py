"""Results on disk, looked up by everything they depend on.

A key is everything that a result depends on: the base's fingerprint and precision, the strategy with its settings, the
documents, the questions, the code and data that the strategy runs (`code_digest`) and the machine (seconds are results,
too). An interrupted run started again with the same command resumes; a changed document, setting or line of code that
the strategy reaches is measured anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from continual_learning.io.files import make_folder, storage_errors, write_atomic
from continual_learning.io.paths import data_home


def digest(key: Any) -> str:
    """SHA-256 of plain JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class ResultCache:
    """Plain JSON values by key. With ``folder`` None nothing is stored and nothing is found."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    @classmethod
    def default(cls) -> ResultCache:
        """The cache in the data folder. It may be deleted at any time."""
        return cls(data_home() / "results")

    def get(self, key: Mapping[str, Any]) -> Any | None:
        """The value, or None if there is none that can be read."""
        path = self._path(key)
        if path is None:
            return None
        with storage_errors("cached results"):
            try:
                return json.loads(path.read_text(encoding="utf-8"))["value"]
            except FileNotFoundError:
                return None
            except (ValueError, KeyError, TypeError):  # damaged: it is measured again and overwritten
                return None

    def put(self, key: Mapping[str, Any], value: Any) -> None:
        """Store a value, completely or not at all."""
        path = self._path(key)
        if path is not None:
            with storage_errors("cached results"):
                make_folder(path.parent)
                write_atomic(path, json.dumps({"key": key, "value": value}, ensure_ascii=False).encode(), sync=False)

    def _path(self, key: Mapping[str, Any]) -> Path | None:
        name = digest(key)
        return None if self.folder is None else self.folder / name[:2] / f"{name}.json"
