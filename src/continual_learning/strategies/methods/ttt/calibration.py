"""How often ordinary text accesses each neuron: the document frequency of the neuron gate.

Counted once per base model and background text, and kept on disk under the base's fingerprint, so that another
base is calibrated anew.

Shapes: T = tokens, I = neurons.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.strategies.methods.ttt.neuron_gate import accesses

# Short sequences: over long ones every neuron is accessed sooner or later and the frequencies say nothing.
SEQUENCE_TOKENS = 32
# Share of a block's neurons that a token counts as accessing.
ACCESS_SHARE = 0.03


@dataclass(frozen=True)
class Calibration:
    """Of each block, in how many of ``sequences`` background sequences each neuron was accessed: int32 [I]."""

    document_frequency: dict[int, Tensor]
    sequences: int


def neuron_accesses(base: BaseModel, ids: Sequence[int], blocks: Sequence[int]) -> dict[int, Tensor]:
    """Accesses of each neuron by a token sequence in each block: int64 [I] by block.

    A token accesses the `ACCESS_SHARE` of neurons that contribute most to its block's output.
    """
    counts: dict[int, Tensor] = {}
    handles = []
    try:
        for block in blocks:

            def count(module: torch.nn.Module, args: tuple[Tensor, ...], block: int = block) -> None:
                parts = mlp_parts(module)
                neurons_NI = parts.neurons(args[0].flatten(0, -2))
                top_k = max(1, round(ACCESS_SHARE * parts.intermediate_size))
                counts[block] = accesses(neurons_NI, parts.down_w.norm(dim=0), top_k).cpu()

            handles.append(base.mlp(block).register_forward_pre_hook(count))
        with torch.no_grad():
            ids_BT = torch.tensor([list(ids)], device=base.device)
            base.model.base_model(input_ids=ids_BT, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return counts


def calibrate(
    base: BaseModel,
    background: Sequence[str],
    blocks: Sequence[int],
    folder: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """The calibration for this base and background: from ``folder`` if it is there, else counted and kept there."""
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
    _write(path, calibration, base.fingerprint)
    return calibration


def calibration_file(base: BaseModel, background: Sequence[str], blocks: Sequence[int], folder: Path) -> Path:
    """Where `calibrate` keeps what it counted."""
    key = json.dumps([base.fingerprint, list(blocks), ACCESS_SHARE, SEQUENCE_TOKENS, list(background)])
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"


def _read(path: Path, fingerprint: str) -> Calibration | None:
    """What is on disk; None if nothing usable is: a damaged file is counted anew, it holds nothing of the user's."""
    if not path.exists():
        return None
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("base") != fingerprint:
                return None
            frequency = {int(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return Calibration(frequency, int(metadata["sequences"]))
    except (SafetensorError, OSError, KeyError, ValueError):
        return None


def _write(path: Path, calibration: Calibration, fingerprint: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    tensors = {str(block): t.contiguous() for block, t in calibration.document_frequency.items()}
    metadata = {"base": fingerprint, "sequences": str(calibration.sequences)}
    safetensors.torch.save_file(tensors, str(aside), metadata)
    os.replace(aside, path)
