"""SHA-256 of large files, computed again only when a file has changed.

A hash is kept with the file's size, modification time and inode. As in git's index, a file that changed less than two
seconds ago is not trusted yet: within the clock's resolution it could change again unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from pathlib import Path

from continual_learning.io.files import write_atomic

log = logging.getLogger(__name__)

_SETTLED_NS = 2_000_000_000


def file_sha256(path: Path, known: Path) -> str:
    """The SHA-256 of a file, in hex; ``known`` is the JSON file that keeps the hashes. Raises OSError of ``path``."""
    before = path.stat()
    stamp = [before.st_size, before.st_mtime_ns, before.st_ino]
    kept = _read(known)
    entry = kept.get(str(path.absolute()))
    if isinstance(entry, dict) and entry.get("stamp") == stamp and isinstance(entry.get("sha256"), str):
        return str(entry["sha256"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    after = path.stat()
    unchanged = [after.st_size, after.st_mtime_ns, after.st_ino] == stamp
    if unchanged and time.time_ns() - before.st_mtime_ns > _SETTLED_NS:
        there = {name: value for name, value in kept.items() if Path(name).exists()}
        text = json.dumps({**there, str(path.absolute()): {"stamp": stamp, "sha256": digest}}, indent=1)
        try:
            known.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(known, text.encode(), sync=False)
        except OSError as error:  # the hash is right all the same; it is computed again next time
            log.info("cannot keep the hash of %s: %s", path, error)
    return digest


def _read(known: Path) -> dict[str, object]:
    try:
        kept = json.loads(known.read_bytes())
    except (OSError, ValueError):  # none yet, or damaged: the files are hashed
        return {}
    return kept if isinstance(kept, dict) else {}
