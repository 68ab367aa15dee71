"""Checkpoints of a training run: written to a temporary file and renamed, so that a kill leaves the last complete one.

A checkpoint is one safetensors file: the tensors, and a JSON document in its header. Nothing in it is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from continual_learning.io.artifacts import damage_reported, read_artifact, write_artifact
from continual_learning.io.files import storage_errors

CHECKPOINT_FILE = "checkpoint.safetensors"
_HEADER = "run"


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to resume exactly where it stopped."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    """JSON values: the step, the settings, the curve so far."""


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Replace the checkpoint of a run, wholly or not at all. Raises StorageError."""
    with storage_errors("the checkpoint cannot be written"):
        copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}  # some share memory
        write_artifact(folder / CHECKPOINT_FILE, copies, {_HEADER: dict(facts)})


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint of a run, or None if there is none. Raises CorruptMemoryError for one that cannot be read."""
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    with damage_reported(
        str(path), "expected a checkpoint of a training run: delete it to start again, or choose another folder"
    ):
        artifact = read_artifact(path)
        tensors = {name: tensor.clone() for name, tensor in artifact.tensors.items()}
        return Checkpoint(tensors, dict(artifact.header[_HEADER]))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state for each parameter: ``<place>.<name>``, the place being its order in the groups."""
    found: dict[str, Tensor] = {}
    for place, parameter in enumerate(_parameters(optimizer)):
        for name, value in optimizer.state.get(parameter, {}).items():
            found[f"{place}.{name}"] = torch.as_tensor(value)
    return found


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Inverse of `optimizer_tensors`, for an optimizer over the same parameters in the same order."""
    parameters = _parameters(optimizer)
    for key, value in tensors.items():
        place, _, name = key.partition(".")
        parameter = parameters[int(place)]
        # The step count stays on the CPU, where Adam keeps it.
        optimizer.state[parameter][name] = value.clone() if value.ndim == 0 else value.to(parameter.device).clone()


def _parameters(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
