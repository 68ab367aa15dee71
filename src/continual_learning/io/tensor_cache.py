"""Tensors computed once in a training run: kept in memory, and on disk for when the run is resumed."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from continual_learning.io.artifacts import DAMAGED, read_artifact, write_artifact


class Kept:
    """Tensors by key. A file that cannot be read is computed anew."""

    def __init__(self, folder: Path | None, limit_bytes: float = math.inf):
        """``folder``: where to keep them on disk as well; it must belong to this run alone.

        ``limit_bytes`` applies to memory and to disk, each; what would exceed both is computed anew each time.
        """
        self._folder, self._limit = folder, limit_bytes
        self._known: dict[str, dict[str, Tensor]] = {}
        self._bytes = 0

    def get(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of ``key``, computed if they are not known."""
        if key in self._known:
            return self._known[key]
        found = self._from_disk(key, compute)
        size = _bytes(found)
        if self._bytes + size <= self._limit:
            self._known[key] = found
            self._bytes += size
        return found

    def clear(self) -> None:
        """Forget everything, also on disk."""
        self._known.clear()
        self._bytes = 0
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _from_disk(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        if self._folder is None:
            return dict(compute())
        path = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
        if path.exists():
            try:
                # Copies: products of tensors that lie in a file's memory round differently if it is not aligned.
                return {name: tensor.clone() for name, tensor in read_artifact(path).tensors.items()}
            except DAMAGED:
                path.unlink(missing_ok=True)
        found = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in compute().items()}
        if self._bytes + _bytes(found) <= self._limit:
            write_artifact(path, found, {}, sync=False)
        return found


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
