"""The memory on disk: every state is a version, a checkpoint is a named version, nothing is ever half-written.

    <data home>/memories/<name>/
        objects/<sha256>.safetensors   one part of a state each, shared by all versions that hold it
        objects/<sha256>.json          a text, or a page of metadata, shared likewise
        versions/<id>.json             manifest: where the metadata and the parts are, its own checksum
        checkpoints.json               checkpoint name to version id
        HEAD                           the id of the current version
    <data home>/memories/.<name>.lock  held while a process writes

Every file is written aside, flushed to the disk and renamed; objects come before the manifest and the
manifest before HEAD. So a kill or a power cut at any moment leaves the version before or the version
after. There is no pickle: tensors are safetensors, everything else is JSON.
"""

from __future__ import annotations

from continual_learning.memory.store.compatibility import check_compatible
from continual_learning.memory.store.maintenance import CleanupReport
from continual_learning.memory.store.manifest import Version
from continual_learning.memory.store.store import Store

__all__ = ["CleanupReport", "Store", "Version", "check_compatible"]
