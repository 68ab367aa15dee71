"""A run on disk: ``checkpoint.safetensors`` to resume from, and ``start.safetensors``, the best start so far.

A checkpoint holds everything that the next step depends on, bit for bit: the values, the optimizer's moments, the
step's number, the best start so far and the validation curve. Which passages are drawn depends on the seed and the
step's number alone. It is written to another file and renamed, so that a killed process leaves a complete one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from continual_learning.errors import InputError
from continual_learning.io.artifacts import damage_reported, read_artifact, write_artifact

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Point:
    """One validation: passages of held-out articles, each learned from the initial values by the inner loop."""

    step: int
    loss_before: float
    """Loss of the learned tokens before the inner steps, in nats per token; mean over passages."""
    loss: float
    """The same after them."""
    right_before: float
    """Share of the learned tokens that are the first choice before the inner steps."""
    right: float
    """The same after them."""
    steps_to_recite: float
    """Inner steps until all of a passage is recited; mean over passages."""


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


def save_checkpoint(folder: Path, run: Checkpoint) -> None:
    """Write the checkpoint of a run."""
    tensors = {f"{kind}.{n:03d}": t for kind in ("weights", "best") for n, t in enumerate(getattr(run, kind))}
    for number, moments in enumerate(run.moments):
        tensors |= {f"moments.{number:03d}.{name}": tensor for name, tensor in moments.items()}
    curve = [asdict(point) for point in run.curve]
    header = {"identity": run.identity, "step": run.step, "seconds": run.seconds, "curve": curve}
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
        header, kinds = artifact.header, defaultdict[str, list[Tensor]](list)
        moments = defaultdict[str, dict[str, Tensor]](dict)
        for name, tensor in sorted(artifact.tensors.items()):
            kind, number, *rest = name.split(".")
            if rest:
                moments[number][rest[0]] = tensor
            else:
                kinds[kind].append(tensor)
        curve = [Point(**point) for point in header["curve"]]
        run = Checkpoint(
            header["identity"], header["step"], kinds["weights"], list(moments.values()), kinds["best"], curve,
            header["seconds"],
        )  # fmt: skip
    wanted = json.loads(json.dumps(identity))
    for key in sorted(wanted.keys() | run.identity.keys()):
        if wanted.get(key) != run.identity.get(key):
            raise InputError(
                f"{folder}: holds a run with {key} = {run.identity.get(key)!r}, not {wanted.get(key)!r}; give the same "
                "settings to resume it, another --out, or --overwrite"
            )
    return run
