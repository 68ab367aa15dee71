"""The optimisers of the levels, and their state as plain tensors, so that it persists between updates."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from continual_learning.strategies.methods.nested.config import NestedConfig
from continual_learning.strategies.methods.nested.m3 import M3
from continual_learning.training.muon import Muon

OptimizerState = dict[str, Tensor]
"""Tensors by ``<parameter>.<what is remembered of it>``."""


def make_optimizer(
    config: NestedConfig, level: int, parameters: Mapping[str, nn.Parameter], kept: Mapping[str, Tensor]
) -> torch.optim.Optimizer:
    """Return the optimiser of a level, with its earlier state."""
    weights, rate, decay = list(parameters.values()), config.learning_rates[level], config.weight_decay
    optimizer: torch.optim.Optimizer
    match config.optimizers[level]:
        case "sgd":
            optimizer = torch.optim.SGD(weights, lr=rate, weight_decay=decay)
        case "adamw":
            optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.95), weight_decay=decay)
        case "muon":
            optimizer = Muon(weights, rate, weight_decay=decay)
        case "m3":
            optimizer = M3(weights, rate, weight_decay=decay)
    for name, weight in parameters.items():
        remembered = {
            key.removeprefix(f"{name}."): t.clone() for key, t in kept.items() if key.rpartition(".")[0] == name
        }
        for key, tensor in remembered.items():
            optimizer.state[weight][key] = tensor if tensor.ndim == 0 else tensor.to(weight.device)
    return optimizer


def optimizer_state(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> OptimizerState:
    """Return what the optimiser remembers, copied to the CPU without rounding."""
    return {
        f"{name}.{key}": value.detach().to("cpu", copy=True)
        for name, weight in parameters.items()
        for key, value in optimizer.state.get(weight, {}).items()
        if isinstance(value, Tensor)
    }
