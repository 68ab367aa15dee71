"""One version as one file: a stored zip of its manifest and objects, checked in full before use; or its tensors."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from continual_learning.errors import InputError, UnsafeNameError
from continual_learning.io.files import is_stream, output_file
from continual_learning.memory.store.codec import check_object
from continual_learning.memory.store.manifest import DamagedFile, Manifest, StoredPart
from continual_learning.memory.store.pages import Content, read_content

if TYPE_CHECKING:
    from continual_learning.memory.state import State

_MANIFEST = "manifest.json"
_MANIFEST_LIMIT = 64 * 2**20
# A fixed time makes two exports of one version the same bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def write_archive(
    path: Path,
    manifest: Manifest,
    content: Content,
    read_page: Callable[[StoredPart], bytes],
    read_object: Callable[[StoredPart], bytes],
    overwrite: bool,
) -> None:
    """Write the zip at ``path``, wholly or not at all."""
    _check_free(path, overwrite)
    with output_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(_MANIFEST, _ZIP_TIME), manifest.to_bytes())
        for page in sorted(content.pages, key=lambda p: p.sha256):
            archive.writestr(zipfile.ZipInfo(_page_name(page.sha256), _ZIP_TIME), read_page(page))
        for part in {p.sha256: p for p in content.parts.values()}.values():
            archive.writestr(zipfile.ZipInfo(_object_name(part.sha256), _ZIP_TIME), read_object(part))


def write_tensors(state: State, path: Path, overwrite: bool) -> Path:
    """All tensors of a state as one safetensors file, with strategy, settings and base in its header. Returns the path.

    Texts and other data besides the tensors are left out. Raises InputError and StorageError.
    """
    from safetensors.torch import save

    _check_free(path, overwrite)
    meta = state.meta
    header = {"format": "pt", "strategy": meta.strategy, "config": json.dumps(meta.config), "base_name": meta.base_name,
              "base_fingerprint": meta.base_fingerprint}  # fmt: skip
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.tensors.items()}
    with output_file(path) as file:
        file.write(save(tensors, header))
    return path


def _check_free(path: Path, overwrite: bool) -> None:
    """Raise InputError unless a file can be put at ``path``."""
    if os.path.isdir(path) or not os.path.isdir(path.parent):
        expected = "a file name, not a folder" if os.path.isdir(path) else "a folder that exists"
        raise InputError(f"cannot export to {str(path)!r}: expected {expected}; give another path")
    if os.path.exists(path) and not is_stream(path) and not overwrite:
        raise InputError(f"{str(path)!r} exists; give another path, or ask to overwrite it")


def read_archive(path: Path) -> tuple[Manifest, Content, dict[str, bytes]]:
    """The manifest, its content and the parts by SHA-256, all checked: names, sizes, checksums.

    Nothing is extracted to disk, so no name in the file can choose a place to write.
    Raises InputError (not there), UnsafeNameError (a name that would leave its folder) or DamagedFile.
    """
    if not path.is_file():
        raise InputError(f"cannot import {str(path)!r}: no such file; give the path of an exported memory")
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    # what zipfile raises on bytes that are not a sound zip
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DamagedFile(f"it is not a sound zip file: {error}") from None


def _read(archive: zipfile.ZipFile) -> tuple[Manifest, Content, dict[str, bytes]]:
    infos = {info.filename: info for info in archive.infolist()}
    for name, info in infos.items():
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
            raise UnsafeNameError(f"the archive holds {name[:80]!r}, expected names inside it; do not trust this file")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise DamagedFile(f"{name[:80]!r} in it is compressed or encrypted, expected stored entries")
    if len(infos) != len(archive.infolist()):
        raise DamagedFile("it holds two entries of one name")
    if _MANIFEST not in infos or infos[_MANIFEST].file_size > _MANIFEST_LIMIT:
        raise DamagedFile(f"it holds no {_MANIFEST} of at most {_MANIFEST_LIMIT} bytes: it is not an exported memory")
    manifest = Manifest.from_bytes(archive.read(_MANIFEST), _MANIFEST)

    def read(name: str, part: StoredPart) -> bytes:
        if name not in infos:
            raise DamagedFile(f"it lacks {name!r}")
        if infos[name].file_size != part.bytes:  # before reading: a wrong size must not cost memory
            raise DamagedFile(f"{name} is {infos[name].file_size} bytes, expected {part.bytes}")
        data = archive.read(name)
        check_object(data, part, name)
        return data

    content = read_content(manifest, lambda page: read(_page_name(page.sha256), page), _MANIFEST)
    stored = {_object_name(part.sha256): part for part in content.parts.values()}
    different = sorted(set(infos) ^ {_MANIFEST, *stored, *(_page_name(page.sha256) for page in content.pages)})
    if different:
        kind = "lacks" if different[0] in stored else "holds an unexpected"
        raise DamagedFile(f"it {kind} {different[0][:100]!r}")
    return manifest, content, {part.sha256: read(name, part) for name, part in stored.items()}


def _page_name(sha256: str) -> str:
    return f"objects/{sha256}.json"


def _object_name(sha256: str) -> str:
    return f"objects/{sha256}.safetensors"
