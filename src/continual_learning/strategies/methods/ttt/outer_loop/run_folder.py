"""A run on disk: ``checkpoint.safetensors`` to resume from, and ``start.safetensors``, the best start so far.

A checkpoint holds everything that the next step depends on, bit for bit: phi_0, the optimizer's moments, the number of
the step, the best start so far and the validation curve. What is drawn in a step depends on the seed and the step's
number alone. It is written to another file and renamed, so that a killed process leaves a complete one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from continual_learning.errors import InputError
from continual_learning.io.artifacts import damage_reported, read_artifact, write_artifact

CHECKPOINT, START = "checkpoint.safetensors", "start.safetensors"


@dataclass(frozen=True)
class Point:
    """One validation: passages of held-out articles, each learned from the start by the inner loop."""

    step: int
    loss_off: float
    """Loss of the questions before the inner loop, in nats per token; mean over passages."""
    loss_on: float
    """Loss of the questions after it."""
    right_off: float
    """Share of the answers' tokens that are the first choice, before the inner loop."""
    right_on: float


@dataclass
class Checkpoint:
    """The state of a run."""

    identity: dict[str, Any]
    """What identifies the run: settings, data, base. It is resumed only if these are the same."""
    step: int
    weights: list[Tensor]
    moments: list[dict[str, Tensor]]
    """The optimizer's moments, for each weight."""
    best: list[Tensor]
    curve: list[Point] = field(default_factory=list)
    seconds: float = 0.0
    """Duration of all sessions."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of a run."""
    tensors = _numbered("weights", checkpoint.weights) | _numbered("best", checkpoint.best)
    for number, moments in enumerate(checkpoint.moments):
        tensors |= {f"moments.{number:03d}.{name}": tensor for name, tensor in moments.items()}
    header = {
        "identity": checkpoint.identity,
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "curve": [asdict(point) for point in checkpoint.curve],
    }
    write_artifact(folder / CHECKPOINT, tensors, header)


def load_checkpoint(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """Return the checkpoint of the run in a folder; None if there is none.

    Raises InputError if it belongs to another run, naming the first difference, and CorruptMemoryError if it cannot
    be read.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    with damage_reported(str(path), "delete it to start over"):
        artifact = read_artifact(path)
        tensors, header = artifact.tensors, artifact.header
        found: dict[str, Any] = header["identity"]
        moments: dict[str, dict[str, Tensor]] = {}
        for name, tensor in sorted(tensors.items()):
            kind, number, *rest = name.split(".")
            if kind == "moments":
                moments.setdefault(number, {})[rest[0]] = tensor
        checkpoint = Checkpoint(
            found,
            int(header["step"]),
            _of_kind("weights", tensors),
            list(moments.values()),
            _of_kind("best", tensors),
            [Point(**point) for point in header["curve"]],
            float(header["seconds"]),
        )
    wanted = json.loads(json.dumps(identity))
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key):
            raise InputError(
                f"{folder}: holds a run with {key} = {found.get(key)!r}, not {wanted.get(key)!r}; give the same "
                "settings to resume it, another --out, or --overwrite"
            )
    return checkpoint


def _numbered(kind: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{kind}.{number:03d}": tensor for number, tensor in enumerate(tensors)}


def _of_kind(kind: str, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    return [tensors[name] for name in sorted(tensors) if name.startswith(f"{kind}.")]
