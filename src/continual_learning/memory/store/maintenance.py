"""Checking every file of a memory, and removing what nothing needs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from continual_learning.io.files import sync_folder
from continual_learning.memory.store.folder import MemoryFolder
from continual_learning.memory.store.manifest import DamagedFile


@dataclass(frozen=True)
class CleanupReport:
    """What `Store.cleanup` removed, or would remove."""

    versions: tuple[str, ...]
    objects: tuple[str, ...]
    """SHA-256 of objects that no version holds any more."""
    temporary: tuple[str, ...]
    """What interrupted writes left."""
    bytes: int
    """Freed on disk."""
    dry_run: bool


def clean(folder: MemoryFolder, keep: int, extra: Sequence[Path], dry_run: bool) -> CleanupReport:
    """`Store.cleanup`; ``extra`` is rubbish outside the folder. The caller holds the lock."""
    needed = _needed(folder, keep)
    old = [folder.manifest_path(i) for i in folder.version_ids() if i not in needed]
    used: set[Path] = set()
    for content in map(folder.content, sorted(needed)):
        used |= {folder.object_path(part.sha256) for part in content.parts.values()}
        used |= {folder.page_path(page.sha256) for page in content.pages}
    files = sorted(folder.objects.iterdir()) if folder.objects.is_dir() else []
    unused = [p for p in files if p.suffix in (".safetensors", ".json") and p not in used]
    left = [*folder.temporaries(), *extra]
    size = sum(size_on_disk(p) for p in (*old, *unused, *left))
    if not dry_run:
        # Manifests first: a kill in between leaves objects without a version, never the reverse.
        for group in (old, unused, left):
            for path in group:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            for parent in sorted({p.parent for p in group}):
                sync_folder(parent)
    versions, hashes = tuple(p.stem for p in old), tuple(p.stem for p in unused)
    return CleanupReport(versions, hashes, tuple(p.name for p in left), size, dry_run)


def _needed(folder: MemoryFolder, keep: int) -> set[str]:
    """Versions to keep. A newer format (MismatchError) stops the cleanup: its objects are not known here."""
    named = {version_id: f"checkpoint {name!r}" for name, version_id in folder.checkpoints().items()}
    head_id = folder.head_id()
    if head_id is not None:
        named[head_id] = "HEAD"
    unfinished = folder.unfinished()
    recent: list[str] = []
    for version_id in folder.version_ids():
        try:
            folder.content(version_id)
        except DamagedFile as damage:  # nobody can load it
            if version_id in named:
                raise DamagedFile(f"{damage}, and {named[version_id]} names it, so nothing was removed") from None
        else:
            if version_id not in unfinished:
                recent.append(version_id)
    return {*recent[:keep], *named}


def find_problems(folder: MemoryFolder) -> list[str]:
    """`Store.verify`."""
    problems: list[str] = []
    checked: dict[str, str | None] = {}
    ids = folder.version_ids()
    try:
        unfinished = folder.unfinished()
        ids = [i for i in ids if i not in unfinished]
    except DamagedFile as problem:
        problems.append(str(problem))
    for version_id in ids:
        problems += folder.problems(version_id, checked)
    try:
        for name, version_id in folder.checkpoints().items():
            if version_id not in ids:
                problems.append(f"checkpoint {name!r} names version {version_id}, which is not there")
    except DamagedFile as problem:
        problems.append(str(problem))
    return problems


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 for neither."""
    if path.is_dir():
        return sum(p.lstat().st_size for p in path.rglob("*") if not p.is_dir())
    return path.stat().st_size if path.exists() else 0
