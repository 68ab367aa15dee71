"""The files of one memory: where each lies, how it is read and checked, and how a version is added.

Everything here raises DamagedFile and OSError; `Store` adds the memory's name and the next step.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from continual_learning.errors import MismatchError, UnknownNameError
from continual_learning.io.files import TEMPORARY_SUFFIX, holds, make_folder, sync_folder, write_atomic
from continual_learning.memory.store.codec import check_object, decode_state, encode_meta, encode_parts
from continual_learning.memory.store.manifest import (
    DamagedFile,
    Manifest,
    StoredPart,
    counter_of,
    is_version_id,
    make_version_id,
)
from continual_learning.memory.store.pages import Content, read_content, split_content

if TYPE_CHECKING:
    from continual_learning.memory.state import State

_NOTHING_YET = "none"
"""What HEAD holds before the first version. A missing HEAD next to versions is damage, not an empty memory."""


class MemoryFolder:
    """Reads and writes the files of the memory at ``root``. Writers hold the lock of `Store`."""

    def __init__(self, root: Path):
        self.root = root
        self.objects = root / "objects"
        self.versions = root / "versions"

    def exists(self) -> bool:
        """Whether a memory was made here."""
        return (self.root / "HEAD").is_file() or self.versions.is_dir()

    def object_path(self, sha256: str) -> Path:
        """Where a part of a state lies."""
        return self.objects / f"{sha256}.safetensors"

    def page_path(self, sha256: str) -> Path:
        """Where a page of metadata lies."""
        return self.objects / f"{sha256}.json"

    def manifest_path(self, version_id: str) -> Path:
        """Where a manifest lies."""
        return self.versions / f"{version_id}.json"

    def head_text(self) -> str | None:
        """What the HEAD file says, None if there is no such file."""
        try:
            return (self.root / "HEAD").read_text("utf-8", "replace").strip()
        except FileNotFoundError:
            return None

    def head_id(self) -> str | None:
        """The current version's id, None before the first."""
        text = self.head_text()
        if text is None and self.version_ids():
            raise DamagedFile("HEAD is missing")
        if text is None or text == _NOTHING_YET:
            return None
        if not is_version_id(text):
            raise DamagedFile(f"HEAD holds {text[:40]!r}, expected a version id")
        if not self.manifest_path(text).is_file():
            if self.head_text() == text:
                raise DamagedFile(f"HEAD names version {text}, and versions/{text}.json is missing")
            return self.head_id()  # another process saved and cleaned up in between
        return text

    def version_ids(self) -> list[str]:
        """Of all manifests that are there, newest first."""
        try:
            names = os.listdir(self.versions)
        except FileNotFoundError:
            return []
        ids = [n.removesuffix(".json") for n in names if n.endswith(".json")]
        return sorted((i for i in ids if is_version_id(i)), key=lambda i: (counter_of(i), i), reverse=True)

    def manifest(self, version_id: str) -> Manifest:
        """Read and check one manifest."""
        path = self.manifest_path(version_id)
        file = f"versions/{path.name}"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise DamagedFile(f"{file} is missing") from None
        manifest = Manifest.from_bytes(data, file)
        if manifest.id != version_id:
            raise DamagedFile(f"{file} was renamed: it holds version {manifest.id}")
        return manifest

    def read_object(self, stored: StoredPart) -> bytes:
        """Read and check one part of a state."""
        return self._read(self.object_path(stored.sha256), stored)

    def read_page(self, stored: StoredPart) -> bytes:
        """Read and check one page of metadata."""
        return self._read(self.page_path(stored.sha256), stored)

    def _read(self, path: Path, stored: StoredPart) -> bytes:
        file = f"objects/{path.name}"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise DamagedFile(f"{file} is missing") from None
        check_object(data, stored, file)
        return data

    def state(self, version_id: str) -> State:
        """Read and check one version."""
        content = self.content(version_id)
        return decode_state(content.meta, content.parts, self.read_object, f"versions/{version_id}.json")

    def content(self, version_id: str) -> Content:
        """Read and check the metadata of one version, and where its parts lie."""
        return read_content(self.manifest(version_id), self.read_page, f"versions/{version_id}.json")

    def checkpoints(self) -> dict[str, str]:
        """Checkpoint name to version id."""
        try:
            found = json.loads((self.root / "checkpoints.json").read_bytes())["checkpoints"]
            if not all(is_version_id(v) for v in found.values()):
                raise ValueError("a value is not a version id")
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DamagedFile("checkpoints.json is truncated or edited: delete it to continue without names") from None
        return dict(found)

    def write_checkpoints(self, checkpoints: dict[str, str]) -> None:
        """Replace all checkpoints."""
        text = json.dumps({"layout": 1, "checkpoints": dict(sorted(checkpoints.items()))}, indent=1)
        write_atomic(self.root / "checkpoints.json", text.encode())

    def problems(self, version_id: str, checked: dict[str, str | None] | None = None) -> list[str]:
        """What is wrong with one version and its objects. ``checked`` remembers objects between calls."""
        checked = {} if checked is None else checked
        try:
            content = self.content(version_id)
        except (DamagedFile, MismatchError) as problem:
            return [f"version {version_id}: {problem}" if "objects/" in str(problem) else str(problem)]
        for stored in content.parts.values():
            if stored.sha256 not in checked:
                try:
                    self.read_object(stored)
                    checked[stored.sha256] = None
                except DamagedFile as problem:
                    checked[stored.sha256] = str(problem)
        found = (checked[stored.sha256] for stored in content.parts.values())
        return [f"version {version_id}: {problem}" for problem in found if problem]

    def unfinished(self) -> set[str]:
        """Versions whose save was killed after the manifest and before HEAD.

        The next version has the HEAD of its time as its parent and takes the next free counter, so what
        lies between a version and its parent, or above HEAD, never was HEAD.
        """
        ids = self.version_ids()
        head = counter_of(self.head_id())
        gaps: set[int] = set()
        for version_id in ids:
            with contextlib.suppress(DamagedFile, MismatchError):  # history and verify show these
                manifest = self.manifest(version_id)
                gaps.update(range(counter_of(manifest.parent) + 1, counter_of(version_id)))
        return {i for i in ids if counter_of(i) > head or counter_of(i) in gaps}

    def newest_intact(self) -> str | None:
        """The newest version that loads; unfinished ones count only where HEAD cannot tell them."""
        skip: set[str] = set()
        with contextlib.suppress(DamagedFile):
            skip = self.unfinished()
        checked: dict[str, str | None] = {}
        return next((i for i in self.version_ids() if i not in skip and not self.problems(i, checked)), None)

    def resolve(self, ref: str, memory: str) -> str:
        """The version id that a reference means."""
        ids = self.version_ids()
        if ref in ids:
            return ref
        checkpoints = self.checkpoints()
        if ref in checkpoints:
            return checkpoints[ref]
        found = [i for i in ids if ref and i.startswith(ref)]
        if len(found) == 1:
            return found[0]
        names = ", ".join(checkpoints) or "none"
        if found:
            raise UnknownNameError(f"{ref!r} matches {len(found)} versions of memory {memory!r}; give more of the id")
        newest = ids[0] if ids else "none"
        raise UnknownNameError(
            f"memory {memory!r} has no version or checkpoint {ref[:80]!r}; checkpoints: {names}; newest version: "
            f"{newest}; 'continual-learning memory history' lists all"
        )

    def commit(self, state: State, action: str, note: str, parent: str | None, undo: str | None) -> Manifest:
        """Write a version and make it HEAD. On an error the folder is as it was before."""
        meta = encode_meta(state)
        self._make()
        made: list[Path] = []
        version_id = ""
        try:
            parts: dict[str, StoredPart] = {}
            for part, stored, data in encode_parts(state):
                parts[part] = stored
                self._put(self.object_path(stored.sha256), data, made)
            encoded, listed, pages = split_content(meta, parts)
            for page, data in pages.items():
                self._put(self.page_path(page.sha256), data, made)
            sync_folder(self.objects)
            newest = max(counter_of(i) for i in [*self.version_ids()[:1], parent])
            version_id = make_version_id(newest + 1, encoded, listed)
            created_at = datetime.now(UTC).isoformat(timespec="seconds")
            size = sum(p.bytes for p in {*parts.values(), *pages})
            documents = len(state.meta.documents)
            manifest = Manifest(version_id, parent, undo, created_at, action, note, encoded, listed, documents, size)
            made.append(self.manifest_path(version_id))
            write_atomic(made[-1], manifest.to_bytes())
            write_atomic(self.root / "HEAD", f"{version_id}\n".encode())
        except BaseException:
            self._withdraw(version_id, made)
            raise
        return manifest

    def _put(self, path: Path, data: bytes, made: list[Path]) -> None:
        """Write an object unless it is there, and note in ``made`` one that is new."""
        if not holds(path, data):  # also heals an object that was damaged
            if not path.exists():
                made.append(path)
            write_atomic(path, data, sync=False)

    def _withdraw(self, version_id: str, made: list[Path]) -> None:
        with contextlib.suppress(OSError):  # the first error is the one to report
            if version_id and self.head_text() == version_id:
                return  # only flushing the folder failed: HEAD needs these files
            for path in reversed(made):
                path.unlink(missing_ok=True)

    def _make(self) -> None:
        for folder in (self.root, self.objects, self.versions):
            make_folder(folder)
            head = self.root / "HEAD"
            if folder == self.root and not head.exists() and not self.version_ids():
                write_atomic(head, f"{_NOTHING_YET}\n".encode())

    def temporaries(self) -> Iterator[Path]:
        """What killed writes left."""
        for folder in (self.root, self.objects, self.versions):
            if folder.is_dir():
                yield from (p for p in sorted(folder.iterdir()) if p.name.endswith(TEMPORARY_SUFFIX))
