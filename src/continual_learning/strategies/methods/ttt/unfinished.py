"""Learned passages of long documents that are not finished, so that an interruption loses none of them.

Each is in a file of its own, named after what its weights depend on: the base, the settings and the contents of files
named there, the background, and the passage itself. So learning the same document again resumes where it stopped. The
files are deleted once the document is done; those of a document that nobody returns to, after a week.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from continual_learning.io.artifacts import DAMAGED, read_artifact, write_artifact
from continual_learning.model.base_model import BaseModel
from continual_learning.model.prepared import find_prepared
from continual_learning.strategies.methods.ttt.config import PACKAGED, TTTConfig
from continual_learning.strategies.methods.ttt.learning import LearnedPassage, Passage, parts_of
from continual_learning.strategies.methods.ttt.start import START_FILE

_KEPT_SECONDS = 7 * 24 * 3600.0


class Unfinished:
    """The learned passages of documents that are not finished."""

    def __init__(self, folder: Path, base: BaseModel, config: TTTConfig, background: Sequence[str]):
        self._folder, self._base, self._config = folder, base, config
        settings = config.model_dump(mode="json")
        made = find_prepared(base.fingerprint, START_FILE)  # one that ships is known by its base
        start = made if config.start == PACKAGED else Path(config.start).expanduser() if config.start else None
        contents = [hashlib.sha256(start.read_bytes()).hexdigest()] if start and start.is_file() else []
        self._given = json.dumps([base.fingerprint, settings, contents, list(background)], sort_keys=True)

    def _path(self, passage: Passage) -> Path:
        key = f"{self._given}\n{json.dumps(asdict(passage), sort_keys=True)}"
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"

    def has(self, passage: Passage) -> bool:
        """Whether something was learned of a passage before an interruption."""
        return self._path(passage).exists()

    def get(self, passage: Passage) -> LearnedPassage | None:
        """Return what was learned of a passage before an interruption; None if there is nothing, or it is damaged."""
        try:
            artifact = read_artifact(self._path(passage))
            facts = dict(artifact.header["facts"])
            parts = tuple(parts_of(self._base, passage, self._config))
            return LearnedPassage(artifact.by_block(), parts, **facts)
        except DAMAGED:
            return None  # it is learned anew: the file held nothing that the document does not say

    def keep(self, passage: Passage, learned: LearnedPassage) -> None:
        """Save a learned passage. Raises StorageError if that fails."""
        tensors = {f"{b}.{name}": t for b, weights in learned.deltas.items() for name, t in weights.items()}
        facts = {f.name: getattr(learned, f.name) for f in fields(learned) if f.name not in ("deltas", "parts")}
        write_artifact(self._path(passage), tensors, {"facts": facts}, sync=False)

    def drop(self, passages: Sequence[Passage]) -> None:
        """Delete these passages, which are done, and whatever is older than a week."""
        for passage in passages:
            self._path(passage).unlink(missing_ok=True)
        for path in self._folder.glob("*.safetensors"):
            try:
                if time.time() - path.stat().st_mtime > _KEPT_SECONDS:
                    path.unlink(missing_ok=True)
            except FileNotFoundError:  # another process was faster
                continue
