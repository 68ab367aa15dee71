"""A start: meta-learned initial branches for every passage, trained once per base model (`outer_loop`).

Without one, a branch begins as a copy of neurons chosen for the passage, with zero output weights. A start fixes
the neurons and the initial values of their output weights. Its file is safetensors: ``<block>.neurons`` and
``<block>.<weight>`` hold what `dual_mlp.branch_deltas` gives, and the metadata say which base it belongs to and
how it was made. What is learned from a start is kept whole, so that a memory can be answered from, exported and
forgotten without the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from torch import Tensor

from continual_learning.errors import ConfigError
from continual_learning.io.artifacts import check_base, damage_reported, read_artifact, write_artifact
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.model.prepared import find_prepared
from continual_learning.strategies.methods.ttt.config import PACKAGED, TTTConfig
from continual_learning.strategies.methods.ttt.dual_mlp import NeuronBranch, branch_deltas, branch_from_deltas

FORMAT = "continual-learning start 1"
START_FILE = "start.safetensors"
_TRAIN = "continual-learning train start"


@dataclass(frozen=True)
class Start:
    """Meta-learned initial branches."""

    fingerprint: str
    """Fingerprint of the base that it was made for."""
    deltas: Mapping[int, Mapping[str, Tensor]]
    """`branch_deltas` by block."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How it was made: JSON values only."""

    @property
    def blocks(self) -> range:
        """From the first block with a branch to the last."""
        return range(min(self.deltas), max(self.deltas) + 1)

    def branches(self, base: BaseModel) -> dict[int, NeuronBranch]:
        """Return a new branch for each block, ready to learn. Raises MismatchError for a base other than its own."""
        check_base("start", self.fingerprint, base.fingerprint, base.name, _TRAIN)
        return {b: branch_from_deltas(mlp_parts(base.mlp(b)), deltas) for b, deltas in sorted(self.deltas.items())}

    @classmethod
    def of(cls, base: BaseModel, branches: Mapping[int, NeuronBranch], facts: Mapping[str, Any]) -> Start:
        """Return a start made of these branches."""
        deltas = {block: branch_deltas(branch) for block, branch in branches.items()}
        return cls(base.fingerprint, deltas, facts)


def save_start(start: Start, path: Path) -> None:
    """Write a start, completely or not at all."""
    tensors = {f"{b:03d}.{n}": t for b, deltas in start.deltas.items() for n, t in deltas.items()}
    write_artifact(path, tensors, {"format": FORMAT, "base": start.fingerprint, "facts": dict(start.facts)})


def chosen_start(config: TTTConfig, base: BaseModel) -> Start | None:
    """Return the start of these settings; None if branches begin in the passage's own neurons.

    ``packaged`` is the one that ships for the base, or else the one that `model prepare` made; without either, or if a
    setting that a start overrides is not at its default, it is None.

    Raises ConfigError if there is no such file, CorruptMemoryError if it cannot be read, MismatchError if it belongs to
    another base.
    """
    if config.start == PACKAGED:
        return None if config.chooses_neurons else packaged_start(base) or prepared_start(base)
    return None if config.start is None else load_start(Path(config.start).expanduser(), base)


def load_start(path: Path, base: BaseModel) -> Start:
    """Load the start in a file. Raises as `chosen_start` does."""
    start = read_start(path)
    check_base(f"start {path}", start.fingerprint, base.fingerprint, base.name, _TRAIN)
    return start


def read_start(path: Path) -> Start:
    """Read the start in a file, whatever base it is for. Raises ConfigError and CorruptMemoryError."""
    if not path.is_file():
        raise ConfigError(
            f"start {path}: no such file; expected `{PACKAGED}` or a file that `continual-learning train start` wrote"
        )
    with damage_reported(f"start {path}", "train it again or fetch it again"):
        artifact = read_artifact(path, kind=FORMAT)
        return Start(artifact.header["base"], artifact.by_block(), artifact.header["facts"])


def packaged_start(base: BaseModel) -> Start | None:
    """Return the start that ships for this base, if there is one."""
    return _packaged().get(base.fingerprint)


def prepared_start(base: BaseModel) -> Start | None:
    """Return the start that `model prepare` made for this base, if there is one. Raises as `chosen_start` does."""
    path = find_prepared(base.fingerprint, START_FILE)
    if path is None:
        return None
    return base.remember(("start", str(path), path.stat().st_mtime_ns), lambda: load_start(path, base))


@cache
def _packaged() -> dict[str, Start]:
    folder = files("continual_learning") / "data" / "starts"
    found = []
    for entry in sorted(folder.iterdir(), key=lambda e: e.name) if folder.is_dir() else ():
        if entry.name.endswith(".safetensors"):
            with as_file(entry) as path:
                found.append(read_start(path))
    return {start.fingerprint: start for start in found}
