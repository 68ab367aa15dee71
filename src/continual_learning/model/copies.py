"""Dequantised copies of GGUF files in the data folder: finding them, and checking them. Imports nothing heavy."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continual_learning.io.file_hashes import file_sha256
from continual_learning.io.paths import model_cache_home

log = logging.getLogger(__name__)

USER_FILES = "gguf"
"""What the copies of a user's own GGUF files are named by; those of an embedded model are named by the model."""
MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1


@dataclass(frozen=True)
class Copy:
    """A dequantised copy in the data folder. ``manifest`` is empty if it cannot be read."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def of(cls, folder: Path) -> Copy:
        """The copy in this folder."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        except (OSError, ValueError):  # damaged: it is made anew when it is used
            manifest = None
        return cls(folder, manifest if isinstance(manifest, dict) else {})

    @property
    def source(self) -> Path | None:
        """The GGUF file that it was made from; None for a copy that does not say."""
        source = self.manifest.get("source")
        return Path(source) if isinstance(source, str) else None


def copies(name: str) -> list[Copy]:
    """The copies of an embedded model, or, for `USER_FILES`, those of all GGUF files of the user's own."""
    return [Copy.of(path) for path in sorted(model_cache_home().glob(f"{name}-*-transformers-*")) if path.is_dir()]


def read_copy(folder: Path) -> dict[str, Any] | None:
    """The manifest of an intact copy; None if there is none or if it is damaged, which is logged."""
    if not folder.exists():
        return None
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
        if manifest["format"] != MANIFEST_FORMAT or not isinstance(manifest["fingerprint"], str):
            raise ValueError(f"manifest of format {manifest['format']!r}")
        for file, expected in manifest["files"].items():
            size = (folder / file).stat().st_size
            if size != expected["bytes"]:
                raise ValueError(f"{file} has {size} bytes, expected {expected['bytes']}")
        for file, expected in manifest["files"].items():
            if file_sha256(folder / file, known_hashes()) != expected["sha256"]:
                raise ValueError(f"{file} is damaged")
        return manifest
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("the cached copy in %s cannot be used and is rebuilt: %s", folder, error)
        return None


def known_hashes() -> Path:
    """The file that keeps hashes of files that have not changed."""
    return model_cache_home() / "hashes.json"
