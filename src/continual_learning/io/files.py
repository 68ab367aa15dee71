"""Names that are safe as file names, and file writes that either happen or do not."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from continual_learning.errors import InputError, StorageError, UnsafeNameError

TEMPORARY_SUFFIX = ".tmp"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# File systems allow 255 bytes; what a temporary name has besides the file's own takes up to 31.
_NAME_BYTES = 200
_TOO_LONG = "the name is longer than the file system allows, usually 255 bytes"
# Windows opens a device under these names, with any extension.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def check_name(name: str, what: str) -> str:
    """``name`` itself if it is safe as a file name on every platform, else UnsafeNameError."""
    device = name.partition(".")[0].lower() in _RESERVED
    if device or not _NAME.fullmatch(name) or name.endswith("."):
        reason = "it is a device name on Windows; " if device else ""
        raise UnsafeNameError(
            f"{what} name {name[:80]!r} is not allowed: {reason}expected 1 to 64 letters, digits, '.', '_' or '-', "
            f"with a letter or digit first and no '.' last; choose another name"
        )
    return name


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn an OSError into a one-line StorageError about ``what``."""
    try:
        yield
    except OSError as error:
        place = f" at {os.fspath(error.filename)!r}" if isinstance(error.filename, str | os.PathLike) else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full"
            step = "free some space and try again"
        elif error.errno == errno.EROFS:
            reason = "the file system is read-only"
            step = "mount it writable or set CONTINUAL_LEARNING_HOME to another folder"
        elif error.errno in (errno.EACCES, errno.EPERM):
            reason = "permission denied"
            step = "change the folder's permissions or set CONTINUAL_LEARNING_HOME to another folder"
        elif error.errno == errno.ENAMETOOLONG:
            reason, step = _TOO_LONG, "choose a shorter name"
        else:
            reason = error.strerror or str(error)
            step = "check the disk and try again"
        raise StorageError(f"{what}: {reason}{place}; what was saved before is intact; {step}") from error


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename in it survives a power cut."""
    if os.name == "nt":  # Windows cannot open a folder; its renames are journalled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and the missing ones above it, flushed to the disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):  # another process may make the shared parents
        os.mkdir(folder)
    sync_folder(folder.parent)


@contextlib.contextmanager
def atomic_file(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """A binary file to write that takes the place of ``path`` at the end, or leaves it alone on an error.

    With ``sync=False`` the caller flushes the folder, once for many files.
    """
    name = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])
    temporary = path.with_name(f".{name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to report; cleanup finds what is left
            os.unlink(temporary)
        raise
    if sync:
        sync_folder(path.parent)


def write_atomic(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Put ``data`` at ``path``, wholly or not at all."""
    with atomic_file(path, sync=sync) as file:
        file.write(data)


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write for a ``path`` that a user chose: as `atomic_file`, but of a link, the target is written.

    A pipe or a device is written to, not replaced. Raises InputError for a path that cannot be written, and
    StorageError when the disk is full or broken, both one line.
    """
    try:
        if is_stream(path):
            with open(path, "wb") as file:
                yield file
        else:
            with atomic_file(Path(os.path.realpath(path))) as file:
                yield file
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            reason = "the disk is broken" if error.errno == errno.EIO else "the disk is full"
            step = "free some space or choose another disk"
            raise StorageError(f"{path}: cannot be written: {reason} ({error.strerror}); {step}") from None
        reason = _TOO_LONG if error.errno == errno.ENAMETOOLONG else error.strerror or str(error)
        step = "choose a name in a folder that exists and can be written to"
        raise InputError(f"{path}: cannot be written: {reason}; {step}") from None


def is_stream(path: Path) -> bool:
    """Whether ``path`` is a pipe, a device or a socket, or names an open file of this process, as /dev/stdout does."""
    if os.path.abspath(path).startswith(("/dev/", "/proc/")):
        return os.path.exists(path)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # not there yet, or no possible name: opening it will say
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def holds(path: Path, data: bytes) -> bool:
    """Whether the file is there with exactly these bytes."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except FileNotFoundError:
        return False
