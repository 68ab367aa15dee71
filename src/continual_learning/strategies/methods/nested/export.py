"""Comparison of levels, and their export as a PEFT adapter.

The sum of low-rank levels is one low-rank change with their ranks concatenated, so the adapter is exact: nothing is
fitted or rounded. Full weights cannot be exported as an adapter.

Shapes: D = inputs, F = outputs of a linear layer, R = rank of a level, S = the ranks of all levels together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from continual_learning.errors import InputError
from continual_learning.io.files import make_folder, storage_errors, write_atomic
from continual_learning.memory.state import State
from continual_learning.model.published_names import adapter_metadata, published_name
from continual_learning.strategies.methods.nested.levels import Level, change

_MOST_CHANGED = 3


def level_differences(a: State, b: State) -> list[dict[str, Any]]:
    """Return JSON values for each level, going from a to b: ``level``, ``distance``, ``cosine``, ``most_changed``.

    They compare the changes to the weights, not the factors: different factors may make the same change.
    """
    names = sorted({part for s in (a, b) for part in s.parts if part.startswith("level")})
    return [{"level": name, **_difference(a.parts.get(name, {}), b.parts.get(name, {}))} for name in names]


def _difference(a: Level, b: Level) -> dict[str, Any]:
    left, right = change(a), change(b)
    moved: dict[str, float] = {}
    dot = square_left = square_right = 0.0
    for path in sorted({*left, *right}):
        x, y = left.get(path), right.get(path)
        x = torch.zeros_like(right[path]) if x is None else x
        y = torch.zeros_like(x) if y is None else y
        moved[path] = float((x.double() - y.double()).norm())
        dot += float((x.double() * y.double()).sum())
        square_left += float(x.double().square().sum())
        square_right += float(y.double().square().sum())
    norms = (square_left * square_right) ** 0.5
    most = sorted(moved.items(), key=lambda item: -item[1])[:_MOST_CHANGED]
    return {
        "distance": sum(d * d for d in moved.values()) ** 0.5,
        "cosine": max(-1.0, min(1.0, dot / norms)) if norms else None,
        "most_changed": [{"weight": path, "distance": d} for path, d in most if d > 0],
    }


def peft_adapter(state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of ``adapter_model.safetensors`` and the values of ``adapter_config.json``.

    Raises InputError for a memory that no adapter represents exactly, or that is empty.
    """
    levels = [dict(tensors) for part, tensors in state.parts.items() if part.startswith("level")]
    if not levels:
        raise InputError("this memory has learned nothing yet; expected one with levels to export")
    paths = [name.removesuffix(".A") for name in levels[0] if name.endswith(".A")]
    if not paths:
        raise InputError("a memory with weights = full is no PEFT adapter; export it without --peft")
    tensors: dict[str, Tensor] = {}
    for path in paths:
        a_SD = torch.cat([level[f"{path}.A"] for level in levels])
        b_FS = torch.cat([level[f"{path}.B"] for level in levels], dim=1)
        tensors[f"base_model.model.{path}.lora_A.weight"] = a_SD.contiguous()
        tensors[f"base_model.model.{path}.lora_B.weight"] = b_FS.contiguous()
    rank = sum(level[f"{paths[0]}.A"].shape[0] for level in levels)
    return tensors, {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": published_name(state.meta.base_name),
        "r": rank,
        "lora_alpha": rank,  # a scale of one
        "target_modules": sorted(paths),
        "fan_in_fan_out": state.meta.extra["nested"]["transposed"],
        "inference_mode": True,
        "bias": "none",
        "lora_dropout": 0.0,
    }


def write_peft(state: State, folder: Path) -> Path:
    """Write an adapter that PEFT loads. Returns the folder. Raises InputError and StorageError."""
    tensors, config = peft_adapter(state)
    metadata = adapter_metadata(state.meta.base_name, state.meta.base_fingerprint)
    with storage_errors(f"adapter {folder.name!r}"):
        make_folder(folder)
        write_atomic(folder / "adapter_model.safetensors", save(tensors, dict(metadata)))
        write_atomic(folder / "adapter_config.json", json.dumps(config, indent=2).encode())
    return folder
