"""The last answer of a memory, so that feedback can be given on it by another process.

It is kept next to the versions and is not one itself: asking changes nothing that could be rolled back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from continual_learning.io.files import storage_errors, write_atomic

_FILE = "last_answer.json"


class LastAnswer(NamedTuple):
    """An answer that feedback can be given on."""

    question: str
    text: str
    documents: tuple[str, ...] | None = None
    """Ids of the documents that it came from; None if that is not known."""


def write_last_answer(root: Path, answer: LastAnswer) -> None:
    """Remember an answer. Raises StorageError."""
    with storage_errors(f"memory {root.name!r}"):
        write_atomic(root / _FILE, json.dumps(answer._asdict()).encode(), sync=False)


def forget_last_answer(root: Path) -> None:
    """Remove the remembered answer, if there is one. Raises StorageError."""
    with storage_errors(f"memory {root.name!r}"):
        (root / _FILE).unlink(missing_ok=True)


def read_last_answer(root: Path) -> LastAnswer | None:
    """The remembered answer, or None if none was saved or the saved one is damaged. Raises StorageError."""
    with storage_errors(f"memory {root.name!r}"):
        try:
            found = json.loads((root / _FILE).read_bytes())
            ids = found.get("documents")
            return LastAnswer(str(found["question"]), str(found["text"]), None if ids is None else tuple(ids))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None
