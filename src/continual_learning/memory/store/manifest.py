"""The manifest of one version: what it holds, where it came from, and a checksum over both."""

from __future__ import annotations

import builtins
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from continual_learning.errors import MismatchError

LAYOUT_VERSION = 2
"""Of the files: 1 has all metadata in the manifest, 2 has it in pages. The state has its own `state.FORMAT_VERSION`."""

_VERSION_ID = re.compile(r"\d{6,}-[0-9a-f]{6}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class DamagedFile(Exception):
    """A file is missing, truncated or edited. `Store` turns it into CorruptMemoryError with the next step."""


@dataclass(frozen=True)
class Version:
    """One saved state, as lists show it."""

    id: str
    """Counter and the start of the content's SHA-256, such as ``000007-3fa9c2``."""
    parent: str | None
    """The version that was current when this one was made."""
    created_at: str
    """UTC, ISO 8601."""
    action: str
    """What made it: learn, forget, clear, rollback, load, import, feedback … or ``damaged``."""
    note: str
    documents: int
    """How many documents it holds."""
    bytes: int
    """Size of its objects on disk; versions share them."""
    checkpoints: tuple[str, ...] = ()
    undo: str | None = None
    """The version that `Store.rollback` goes back to from here."""


@dataclass(frozen=True)
class StoredPart:
    """Address of an object: a part (``objects/<sha256>.safetensors``) or a page of metadata (``….json``)."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What ``versions/<id>.json`` says."""

    id: str
    parent: str | None
    undo: str | None
    created_at: str
    action: str
    note: str
    state: Any
    """`StateMeta.to_json`, in pages; `pages.join` puts it together."""
    parts: Any
    """Part name to the fields of its `StoredPart`, in pages."""
    documents: int
    """How many documents the version holds."""
    bytes: int
    """Size of its objects on disk."""
    layout: int = LAYOUT_VERSION

    def to_bytes(self) -> builtins.bytes:
        """JSON with a checksum over everything else in it."""
        fields = asdict(self)
        if self.layout == 1:  # an old version that is exported keeps its form
            del fields["documents"], fields["bytes"]
        fields["checksum"] = _digest(fields)
        return json.dumps(fields, indent=1, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: builtins.bytes, file: str) -> Manifest:
        """Inverse of `to_bytes`. Raises DamagedFile, or MismatchError for a newer layout."""
        try:
            fields = json.loads(data)
            layout = fields.pop("layout")
            checksum = fields.pop("checksum")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DamagedFile(f"{file} is truncated or edited: it is not a manifest") from None
        if isinstance(layout, int) and layout > LAYOUT_VERSION:
            raise MismatchError(
                f"{file} has layout {layout}, expected at most {LAYOUT_VERSION}; "
                f"a newer version wrote it: upgrade with 'pip install --upgrade continual-learning-slm'"
            )
        if checksum != _digest({"layout": layout, **fields}):
            raise DamagedFile(f"{file} was edited: its checksum does not match")
        try:
            if layout == 1:
                sizes = {part["sha256"]: int(part["bytes"]) for part in fields["parts"].values()}
                fields |= {"documents": len(fields["state"].get("documents", ())), "bytes": sum(sizes.values())}
            manifest = cls(layout=layout, **fields)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DamagedFile(f"{file} does not have the fields of a manifest") from None
        # The checksum only guards against accidents: a file from elsewhere may carry a right one, and
        # these two become file names.
        if not all(is_version_id(v) for v in (manifest.id, manifest.parent, manifest.undo) if v is not None):
            raise DamagedFile(f"{file} holds a version id that is not one")
        return manifest

    def version(self, checkpoints: Mapping[str, str]) -> Version:
        """As lists show it; ``checkpoints`` maps names to version ids."""
        names = tuple(sorted(name for name, version_id in checkpoints.items() if version_id == self.id))
        return Version(
            self.id, self.parent, self.created_at, self.action, self.note, self.documents, self.bytes, names, self.undo
        )


def is_version_id(text: object) -> bool:
    """Whether it has the form of a version id."""
    return isinstance(text, str) and _VERSION_ID.fullmatch(text) is not None


def is_sha256(text: object) -> bool:
    """Whether it has the form of a SHA-256."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def make_version_id(counter: int, state: Any, parts: Any) -> str:
    """The id of a version: its place in the history and the start of its content's SHA-256."""
    return f"{counter:06d}-{_digest({'state': state, 'parts': parts})[:6]}"


def counter_of(version_id: str | None) -> int:
    """The place of a version in the history; 0 for None."""
    return int(version_id.partition("-")[0]) if version_id else 0


def _digest(value: Any) -> str:
    # ASCII with escapes also holds the lone surrogates of file names that are not UTF-8
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
