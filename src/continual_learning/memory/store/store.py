"""`Store`: one memory's folder, its versions and checkpoints."""

from __future__ import annotations

import builtins
import contextlib
import difflib
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from continual_learning.errors import CorruptMemoryError, InputError, MismatchError, StorageError, UnknownNameError
from continual_learning.io.files import check_name, make_folder, storage_errors, sync_folder
from continual_learning.io.paths import data_home
from continual_learning.memory.store.archive import read_archive, write_archive
from continual_learning.memory.store.codec import decode_state
from continual_learning.memory.store.compatibility import check_compatible
from continual_learning.memory.store.difference import state_difference
from continual_learning.memory.store.folder import MemoryFolder
from continual_learning.memory.store.maintenance import CleanupReport, clean, find_problems, size_on_disk
from continual_learning.memory.store.manifest import DamagedFile, Version, is_version_id

if TYPE_CHECKING:
    from continual_learning.memory.state import State

LOCK_SECONDS = 10.0
"""How long a write waits for another process by default."""


class Store:
    """One memory on disk. Methods that write take the lock; methods that only read need none.

    A reference (``ref``) is a version id, a unique start of one, or a checkpoint's name.

    Raises CorruptMemoryError (a damaged file; it names the newest intact version and the command that
    goes back to it), StorageError (disk full, read-only, in use), UnknownNameError (no such reference),
    MismatchError (a newer format) and UnsafeNameError.
    """

    def __init__(self, root: Path):
        """The memory in the folder ``root``, which the first save creates."""
        self.root = Path(root).absolute()
        self.name = self.root.name
        self._folder = MemoryFolder(self.root)
        # Beside the folder, not in it: deleting the memory must not delete the lock that is held.
        self._lock = filelock.FileLock(self.root.parent / f".{self.name}.lock")

    @classmethod
    def open(cls, name: str, home: Path | None = None, create: bool = True) -> Store:
        """The memory called ``name`` under ``home`` (default: the data home).

        Nothing is written before the first save. With ``create=False`` it must be there already.
        """
        check_name(name, "memory")
        store = cls((home or data_home()) / "memories" / name)
        if not create and not store.exists:
            names = cls.list(home)
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none yet'}"
            raise UnknownNameError(f"no memory {name!r}; {hint}; 'continual-learning memory list' shows them")
        return store

    @classmethod
    def list(cls, home: Path | None = None) -> builtins.list[str]:
        """Names of all memories, sorted."""
        folder = (home or data_home()) / "memories"
        with storage_errors("list of memories"):
            if not folder.is_dir():
                return []
            return sorted(p.name for p in folder.iterdir() if p.name[0] != "." and MemoryFolder(p).exists())

    @property
    def exists(self) -> bool:
        """Whether a memory was made here."""
        with storage_errors(f"memory {self.name!r}"):
            return self._folder.exists()

    @contextlib.contextmanager
    def lock(self, timeout: float = LOCK_SECONDS) -> Iterator[None]:
        """Keep other processes and threads from writing. May be nested within one thread.

        Raises StorageError when the memory is still held after ``timeout`` seconds.
        """
        with storage_errors(f"memory {self.name!r}"):
            make_folder(self.root.parent)
            try:
                self._lock.acquire(timeout=timeout)
            except filelock.Timeout:
                raise StorageError(
                    f"memory {self.name!r} is in use: another process holds it (waited {timeout:g} s); "
                    f"wait for that one or stop it, then try again"
                ) from None
        try:
            yield
        finally:
            self._lock.release()

    def save(self, state: State, action: str, note: str = "") -> Version:
        """Write ``state`` as a new version and make it the current one. On an error nothing changes.

        Raises ValueError for a state that cannot be written exactly: metadata that is not JSON, a tensor
        name that is not ``<part>/<name>``.
        """
        with self._writing():
            parent = self._folder.head_id()
            return self._folder.commit(state, action, note, parent, undo=parent).version({})

    def load(self, ref: str | None = None) -> State:
        """The state of a version, bit for bit as it was saved. None: the current one."""
        with self._reading():
            while True:
                version_id = self._resolve(ref)
                try:
                    return self._folder.state(version_id)
                except DamagedFile:
                    # Another process may have saved and cleaned up in between; then HEAD has moved.
                    if self._resolve(ref) == version_id:
                        raise

    def meta(self, ref: str | None = None) -> dict[str, Any]:
        """What a version knows about itself, as `StateMeta.to_json` gave it, without torch. None: the current one."""
        with self._reading():
            while True:
                version_id = self._resolve(ref)
                try:
                    return self._folder.content(version_id).meta
                except DamagedFile:
                    # Another process may have saved and cleaned up in between; then HEAD has moved.
                    if self._resolve(ref) == version_id:
                        raise

    @property
    def head(self) -> Version | None:
        """The current version; None while nothing was saved."""
        with self._reading():
            head_id = self._folder.head_id()
            return None if head_id is None else self._folder.manifest(head_id).version(self._folder.checkpoints())

    def history(self) -> builtins.list[Version]:
        """All versions, newest first. One whose manifest is damaged has the action ``damaged``."""
        with self._reading():
            unfinished, checkpoints = self._folder.unfinished(), self._folder.checkpoints()
            versions = []
            for version_id in self._folder.version_ids():
                if version_id in unfinished:
                    continue
                try:
                    versions.append(self._folder.manifest(version_id).version(checkpoints))
                except (DamagedFile, MismatchError) as problem:
                    names = tuple(sorted(n for n, v in checkpoints.items() if v == version_id))
                    versions.append(Version(version_id, None, "", "damaged", str(problem), 0, 0, names))
            return versions

    def rollback(self, ref: str | None = None) -> Version:
        """Go back: write a new version with the content of ``ref`` and make it current.

        History is never rewritten, so a rollback can itself be rolled back by naming the version left.
        Without ``ref`` it goes back to what came before the current *content*: after A, B, C the first
        call restores B, the second A (and not C again), and a third raises UnknownNameError. What is
        learned after a rollback rolls back to it. If the current version is damaged, the newest intact
        one is restored.
        """
        with self._writing():
            target = self._undo_target() if ref is None else self._resolve(ref)
            undo = self._folder.manifest(target).undo
            state = self._folder.state(target)
            parent, ids = None, self._folder.version_ids()
            with contextlib.suppress(DamagedFile):
                parent = self._folder.head_id()
            if parent not in ids:  # which version was current is lost; the newest keeps all others in the history
                parent = ids[0]
            return self._folder.commit(state, "rollback", f"to {target}", parent, undo).version({})

    def checkpoint(self, name: str, overwrite: bool = False) -> Version:
        """Name the current version; named versions survive cleanup. InputError if the name is taken."""
        check_name(name, "checkpoint")
        if is_version_id(name):
            raise InputError(f"checkpoint name {name!r} reads like a version id; choose another name")
        with self._writing():
            head_id = self._resolve(None)
            checkpoints = self._folder.checkpoints()
            if checkpoints.get(name, head_id) != head_id and not overwrite:
                raise InputError(
                    f"checkpoint {name!r} names version {checkpoints[name]} already; "
                    f"choose another name, delete that one, or ask to overwrite it"
                )
            manifest = self._folder.manifest(head_id)
            checkpoints[name] = head_id
            self._folder.write_checkpoints(checkpoints)
            return manifest.version(checkpoints)

    def checkpoints(self) -> dict[str, Version]:
        """Checkpoints by name, sorted."""
        with self._reading():
            found = self._folder.checkpoints()
            return {name: self._folder.manifest(found[name]).version(found) for name in sorted(found)}

    def delete_checkpoint(self, name: str) -> None:
        """Remove a name; its version stays until a cleanup."""
        with self._writing():
            checkpoints = self._folder.checkpoints()
            if name not in checkpoints:
                known = ", ".join(sorted(checkpoints)) or "none"
                raise UnknownNameError(f"memory {self.name!r} has no checkpoint {name!r}; it has: {known}")
            del checkpoints[name]
            self._folder.write_checkpoints(checkpoints)

    def diff(self, a: str, b: str) -> dict[str, Any]:
        """What changed from version ``a`` to ``b``; see `state_difference`. JSON values."""
        with self._reading():
            id_a, id_b = self._resolve(a), self._resolve(b)
        return {"a": id_a, "b": id_b, **state_difference(self.load(id_a), self.load(id_b))}

    def export(self, path: Path, ref: str | None = None, overwrite: bool = False) -> Path:
        """Write one version to one zip file, checked while it is read. Returns the path."""
        path = Path(path)
        with self._reading():
            version_id = self._resolve(ref)
            manifest, content = self._folder.manifest(version_id), self._folder.content(version_id)
            write_archive(path, manifest, content, self._folder.read_page, self._folder.read_object, overwrite)
        return path

    def import_(self, path: Path) -> Version:
        """Add an exported version as the new current one. A bad file leaves the memory untouched.

        The file is checked in full first: names, sizes, checksums, metadata, and that it belongs to the
        strategy and base model of what this memory holds.
        """
        path = Path(path)
        try:
            with storage_errors(f"import of {str(path)!r}"):
                manifest, content, objects = read_archive(path)
                state = decode_state(content.meta, content.parts, lambda p: objects[p.sha256], "manifest.json")
        except DamagedFile as damage:
            raise CorruptMemoryError(
                f"cannot import {str(path)!r}: {damage}; memory {self.name!r} is unchanged; export it again"
            ) from None
        with self._writing():
            head_id = self._folder.head_id()
            if head_id is not None:
                mine = self._folder.content(head_id).meta
                try:
                    check_compatible(state, mine["strategy"], mine["base_fingerprint"], mine["base_name"])
                except MismatchError as error:
                    raise MismatchError(f"cannot import {str(path)!r} into memory {self.name!r}: {error}") from None
            return self.save(state, "import", f"{path.name}, version {manifest.id}")

    def cleanup(self, keep: int = 10, dry_run: bool = True) -> CleanupReport:
        """Drop all but the newest ``keep`` versions, HEAD and checkpoints; then what nothing refers to.

        Damaged versions do not count and are dropped, unless HEAD or a checkpoint names them: then
        nothing is removed and CorruptMemoryError says so.
        """
        if keep < 0:
            raise InputError(f"cannot keep {keep} versions, expected 0 or more; HEAD and checkpoints always stay")
        with self._writing():
            return clean(self._folder, keep, self._half_deleted(), dry_run)

    def delete(self) -> None:
        """Remove the whole memory: versions, checkpoints and all."""
        with self.lock(), storage_errors(f"memory {self.name!r}"):
            if not self.root.is_dir():
                raise UnknownNameError(
                    f"no memory {self.name!r} to delete; 'continual-learning memory list' shows them"
                )
            # One rename deletes it; a kill during the rest leaves rubbish, not half a memory.
            grave = self.root.with_name(f".{self.name}.{secrets.token_hex(8)}.deleted")
            self.root.rename(grave)
            sync_folder(self.root.parent)
            for path in self._half_deleted():
                shutil.rmtree(path)

    def bytes_on_disk(self) -> int:
        """Size of all files of this memory."""
        with storage_errors(f"memory {self.name!r}"):
            return size_on_disk(self.root)

    def verify(self) -> builtins.list[str]:
        """Read and check every file; a list of problems, empty if there is none."""
        with storage_errors(f"memory {self.name!r}"):
            return find_problems(self._folder)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        with storage_errors(f"memory {self.name!r}"):
            try:
                yield
            except DamagedFile as damage:
                raise self._corrupt(damage) from None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self.lock(), self._reading():
            yield

    def _resolve(self, ref: str | None) -> str:
        if ref is not None:
            return self._folder.resolve(ref, self.name)
        head_id = self._folder.head_id()
        if head_id is None:
            raise UnknownNameError(f"memory {self.name!r} is empty, expected a saved version; learn something first")
        return head_id

    def _undo_target(self) -> str:
        try:
            head_id = self._resolve(None)
            damaged = bool(self._folder.problems(head_id))
        except DamagedFile:
            damaged = True
        if damaged:
            newest = self._folder.newest_intact()
            if newest is None:
                raise DamagedFile("no version of it is intact")
            return newest
        undo = self._folder.manifest(head_id).undo
        if undo is None:
            raise UnknownNameError(f"memory {self.name!r} has nothing before version {head_id}; it stays as it is")
        if undo not in self._folder.version_ids():
            raise UnknownNameError(f"version {undo} of memory {self.name!r} was cleaned up; name one from the history")
        return undo

    def _corrupt(self, damage: DamagedFile) -> CorruptMemoryError:
        newest = self._folder.newest_intact()
        try:
            current = self._folder.head_id()
        except DamagedFile:
            current = None
        if newest is None:
            step = "no version is intact: import an export of it, or delete it and learn again"
        elif newest == current:
            step = f"the current version, {newest}, is intact"
        else:
            step = (
                f"the newest intact version is {newest}: "
                f"'continual-learning memory rollback {self.name}' goes back to it"
            )
        return CorruptMemoryError(f"memory {self.name!r} is damaged: {damage}; {step}")

    def _half_deleted(self) -> builtins.list[Path]:
        pattern = re.compile(rf"\.{re.escape(self.name)}\.[0-9a-f]{{16}}\.deleted")
        return [p for p in sorted(self.root.parent.iterdir()) if pattern.fullmatch(p.name)]
