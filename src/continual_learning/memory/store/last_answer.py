"""The last answer of a memory, so that feedback can be given on it by another process.

It is kept next to the versions and is not one itself: asking changes nothing that could be rolled back.
"""

from __future__ import annotations

import json
from pathlib import Path

from continual_learning.io.files import storage_errors, write_atomic

_FILE = "last_answer.json"


def write_last_answer(root: Path, question: str, text: str) -> None:
    """Remember an answer. Raises StorageError."""
    with storage_errors(f"memory {root.name!r}"):
        write_atomic(root / _FILE, json.dumps({"question": question, "text": text}).encode(), sync=False)


def read_last_answer(root: Path) -> tuple[str, str] | None:
    """Question and answer, or None if none was saved or the saved one is damaged. Raises StorageError."""
    with storage_errors(f"memory {root.name!r}"):
        try:
            found = json.loads((root / _FILE).read_bytes())
            return str(found["question"]), str(found["text"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None
