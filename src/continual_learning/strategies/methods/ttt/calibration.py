"""How often ordinary text accesses each neuron: the document frequency of the neuron gate.

Counted once per base model and background text, and kept on disk under the base's fingerprint, so that another
base is calibrated anew.

Shapes: N = tokens, D = hidden size, I = neurons.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from continual_learning.io.artifacts import DAMAGED, read_artifact, write_artifact
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import captured_inputs, mlp_parts
from continual_learning.strategies.methods.ttt.neuron_gate import accesses

# Short sequences: over long ones every neuron is accessed sooner or later and the frequencies say nothing.
SEQUENCE_TOKENS = 32
# Share of a block's neurons that a token counts as accessing.
ACCESS_SHARE = 0.03


@dataclass(frozen=True)
class Calibration:
    """For each block, how many of the ``sequences`` background sequences accessed each neuron: int32 [I]."""

    document_frequency: dict[int, Tensor]
    sequences: int


def block_accesses(base: BaseModel, block: int, input_ND: Tensor) -> Tensor:
    """Count the accesses of each neuron of a block by what its MLP reads at some tokens: int64 [I].

    A token accesses the `ACCESS_SHARE` of neurons that contribute most to its block's output.
    """
    parts = mlp_parts(base.mlp(block))
    top_k = max(1, round(ACCESS_SHARE * parts.intermediate_size))
    return accesses(parts.neurons(input_ND), parts.down_w.norm(dim=0), top_k).cpu()


def neuron_accesses(base: BaseModel, ids: Sequence[int], blocks: Sequence[int]) -> dict[int, Tensor]:
    """Count the accesses of each neuron by a token sequence in each block: int64 [I] by block."""
    with torch.no_grad():
        with captured_inputs({block: base.mlp(block) for block in blocks}) as read:
            ids_BT = torch.tensor([list(ids)], device=base.device)
            base.model.base_model(input_ids=ids_BT, use_cache=False)
        return {block: block_accesses(base, block, input_BTD.flatten(0, -2)) for block, input_BTD in read.items()}


def calibrate(
    base: BaseModel,
    background: Sequence[str],
    blocks: Sequence[int],
    folder: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Return the calibration for this base and background, read from ``folder`` or else counted and kept there."""
    path = calibration_file(base, background, blocks, folder)
    cached = _read(path, base.fingerprint)
    if cached is not None:
        return cached
    frequency: dict[int, Tensor] = {}
    sequences = 0
    for done, text in enumerate(background):
        ids = base.encode(text)[:SEQUENCE_TOKENS]
        if len(ids) < 2:
            continue
        for block, counts_I in neuron_accesses(base, ids, blocks).items():
            accessed_I = (counts_I > 0).int()
            frequency[block] = frequency[block] + accessed_I if block in frequency else accessed_I
        sequences += 1
        if on_progress:
            on_progress(done + 1, len(background))
    calibration = Calibration(frequency, sequences)
    tensors = {str(block): t for block, t in frequency.items()}
    write_artifact(path, tensors, {"base": base.fingerprint, "sequences": sequences}, sync=False)
    return calibration


def calibration_file(base: BaseModel, background: Sequence[str], blocks: Sequence[int], folder: Path) -> Path:
    """Return the file in which `calibrate` keeps its counts."""
    key = json.dumps([base.fingerprint, list(blocks), ACCESS_SHARE, SEQUENCE_TOKENS, list(background)])
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"


def _read(path: Path, fingerprint: str) -> Calibration | None:
    """Return what is on disk; None if it is unusable: a damaged file is counted anew, since it holds no user data."""
    if not path.exists():
        return None
    try:
        artifact = read_artifact(path)
        if artifact.header.get("base") != fingerprint:
            return None
        frequency = {int(name): tensor for name, tensor in artifact.tensors.items()}
        return Calibration(frequency, artifact.header["sequences"])
    except DAMAGED:
        return None
