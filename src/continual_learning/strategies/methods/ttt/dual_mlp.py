"""Dual MLP: a frozen MLP with a small trainable one added to it.

    out = frozen(x) + (1 - alpha) * branch(x)

The branch is a copy of the frozen MLP's neurons whose output weights start at zero, so at the start the
sum is exactly the frozen output, bit for bit, for gated, ungated, biased and GELU MLPs alike. A
neuron whose output weights stay zero adds nothing, so a sparse branch holds only the neurons that
are trained: they alone are computed, in the forward and in the backward pass.

After End-to-End Test-Time Training for Long Context (arXiv 2512.23675, section 2.3), where the second
MLP is the only part that changes at test time.

Shapes: B = sequences, T = tokens, D = hidden size, I = neurons of the frozen MLP, K = neurons of the branch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import MLPParts


class NeuronBranch(nn.Module):
    """Copies of K neurons of an MLP, their output weights zeroed: these alone learn.

    As in Sparse Memory Finetuning (arXiv 2510.15103), where only the values of a memory change. They are fp32 whatever
    the base's type is.
    """

    neurons_K: Tensor

    def __init__(self, parts: MLPParts, neurons_K: Tensor):
        super().__init__()
        pick = neurons_K.to(parts.down_w.device)
        self.activation = parts.activation
        self.register_buffer("neurons_K", pick)
        self.up_KD = parts.up_w[pick].detach().float()
        self.gate_KD = None if parts.gate_w is None else parts.gate_w[pick].detach().float()
        self.down_KD = nn.Parameter(torch.zeros_like(self.up_KD))
        self.up_bias_K = None if parts.up_b is None else parts.up_b[pick].detach().float()
        self.gate_bias_K = None if parts.gate_b is None else parts.gate_b[pick].detach().float()

    def activations(self, hidden_BTD: Tensor) -> Tensor:
        """What the neurons' output weights are multiplied by: [B, T, K], fp32."""
        x_BTD = hidden_BTD.float()
        neurons_BTK = F.linear(x_BTD, self.up_KD, self.up_bias_K)
        if self.gate_KD is None:
            return self.activation(neurons_BTK)
        return self.activation(F.linear(x_BTD, self.gate_KD, self.gate_bias_K)) * neurons_BTK

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D], in the input's type."""
        return (self.activations(hidden_BTD) @ self.down_KD).to(hidden_BTD.dtype)


class DualMLP(nn.Module):
    """``frozen(x) + (1 - alpha) * branch(x)``; takes the place of a block's MLP."""

    def __init__(self, frozen: nn.Module, branch: nn.Module, alpha: float = 0.0):
        super().__init__()
        if not 0.0 <= alpha < 1.0:
            # At 1 both the branch's output and every gradient of it are zero: it could never learn.
            raise ValueError(f"alpha = {alpha} is out of range: expected 0 <= alpha < 1")
        self.frozen = frozen
        self.branch = branch
        self.alpha = alpha

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        return self.beside(self.frozen)(hidden_BTD)

    def beside(self, frozen: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return the same with another way to compute ``frozen``, such as one that decodes faster."""
        return lambda hidden_BTD: frozen(hidden_BTD) + (1.0 - self.alpha) * self.branch(hidden_BTD)


def dual_mlps(base: BaseModel, branches: Mapping[int, nn.Module], alpha: float) -> dict[str, nn.Module]:
    """Return the replacements for `BaseModel.patched`: a Dual MLP for each block that has a branch."""
    return {base.mlp_path(b): DualMLP(base.mlp(b), branch, alpha) for b, branch in branches.items()}


def quantised(values_KD: Tensor) -> tuple[Tensor, Tensor]:
    """Round each neuron's values to 8 bits: int8 [K, D], and the fp32 scale [K] that they are multiplied by."""
    scale_K = values_KD.abs().amax(dim=1) / 127
    rounded_KD = (values_KD / scale_K.clamp_min(1e-30)[:, None]).round()
    return rounded_KD.to(torch.int8), scale_K


def as_stored(values_KD: Tensor) -> Tensor:
    """The values as they are after they were stored and read back; the rounding has the gradient of the identity."""
    rounded_KD, scale_K = quantised(values_KD.detach())
    return values_KD + (rounded_KD * scale_K[:, None] - values_KD).detach()


def branch_deltas(branch: NeuronBranch) -> dict[str, Tensor]:
    """What is kept of a branch, on the CPU: ``neurons`` int32 [K], ``down`` int8 [K, D], its ``scale`` fp32 [K]."""
    rounded_KD, scale_K = quantised(branch.down_KD.detach())
    kept = {"neurons": branch.neurons_K.to(torch.int32), "down": rounded_KD, "scale": scale_K}
    return {name: tensor.to("cpu").contiguous() for name, tensor in kept.items()}


def branch_from_deltas(parts: MLPParts, deltas: Mapping[str, Tensor]) -> NeuronBranch:
    """Inverse of `branch_deltas`, up to its rounding. The branch is frozen.

    Memories of earlier versions hold ``down`` in half precision, without a scale, and what was added to the neurons'
    input weights, ``up`` and ``gate``.
    """
    branch = NeuronBranch(parts, deltas["neurons"].long())
    device = branch.down_KD.device
    down_KD = deltas["down"].to(device, torch.float32)
    branch.down_KD.data = down_KD * deltas["scale"].to(device)[:, None] if "scale" in deltas else down_KD
    if "up" in deltas:
        branch.up_KD += deltas["up"].to(device, torch.float32)
    if branch.gate_KD is not None and "gate" in deltas:
        branch.gate_KD += deltas["gate"].to(device, torch.float32)
    return branch.requires_grad_(False)
