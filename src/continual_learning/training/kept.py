"""What is computed once in a training run: in memory, and on disk for when the run goes on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from continual_learning.store.files import make_folder, write_atomic


class Kept:
    """Tensors by key. A file that cannot be read is computed anew."""

    def __init__(self, folder: Path | None):
        """``folder``: where to keep them on disk, too; it must belong to this run alone."""
        self._folder = folder
        self._known: dict[str, dict[str, Tensor]] = {}

    def get(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of ``key``, computed if they are not known."""
        if key not in self._known:
            self._known[key] = self._from_disk(key, compute)
        return self._known[key]

    def clear(self) -> None:
        """Forget everything, also on disk."""
        self._known.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _from_disk(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        if self._folder is None:
            return dict(compute())
        path = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
        if path.exists():
            try:
                # Copies: products of tensors that lie in a file's memory round differently where it is not aligned.
                return {name: tensor.clone() for name, tensor in load_file(path).items()}
            except (OSError, SafetensorError):
                path.unlink(missing_ok=True)
        found = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in compute().items()}
        make_folder(self._folder)
        write_atomic(path, save(found), sync=False)
        return found
