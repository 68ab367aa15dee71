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

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from continual_learning.model.families import MLPParts

Train = Literal["values", "all"]


class NeuronBranch(nn.Module):
    """Copies of K neurons of an MLP, their output weights zeroed.

    With ``train="values"`` only the output weights learn, as in Sparse Memory Finetuning
    (arXiv 2510.15103), where only the values of a memory change; with ``"all"`` the neurons' input
    weights learn too. Learned weights are fp32 whatever the base's type is.
    """

    neurons_K: Tensor

    def __init__(self, parts: MLPParts, neurons_K: Tensor, train: Train = "all"):
        super().__init__()
        pick = neurons_K.to(parts.down_w.device)
        learn_inputs = train == "all"
        self.activation = parts.activation
        self.register_buffer("neurons_K", pick)
        self.up_KD = nn.Parameter(parts.up_w[pick].detach().float().clone(), requires_grad=learn_inputs)
        self.down_KD = nn.Parameter(torch.zeros_like(self.up_KD))
        self.gate_KD: nn.Parameter | None = None
        if parts.gate_w is not None:
            gate_KD = parts.gate_w[pick].detach().float().clone()
            self.gate_KD = nn.Parameter(gate_KD, requires_grad=learn_inputs)
        self.up_bias_K = None if parts.up_b is None else parts.up_b[pick].detach().float()
        self.gate_bias_K = None if parts.gate_b is None else parts.gate_b[pick].detach().float()

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D], in the input's type."""
        x_BTD = hidden_BTD.float()
        neurons_BTK = F.linear(x_BTD, self.up_KD, self.up_bias_K)
        if self.gate_KD is None:
            neurons_BTK = self.activation(neurons_BTK)
        else:
            neurons_BTK = self.activation(F.linear(x_BTD, self.gate_KD, self.gate_bias_K)) * neurons_BTK
        return (neurons_BTK @ self.down_KD).to(hidden_BTD.dtype)

    def learned(self) -> dict[str, nn.Parameter]:
        """The weights that learn, by name."""
        return {n: p for n, p in self.named_parameters() if p.requires_grad}


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


class JointDualMLP(nn.Module):
    """A Dual MLP for several passages at once: each has its own rows of the batch, which go through its own branch.

    ``rows`` holds the number of rows of each, in order; the caller sets it, in place, before every batch.
    """

    def __init__(self, frozen: nn.Module, branches: Sequence[NeuronBranch], alphas: Sequence[float], rows: list[int]):
        super().__init__()
        self.frozen = frozen
        self.branches = nn.ModuleList(branches)
        self.alphas = alphas
        self.rows = rows

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        each = zip(hidden_BTD.split(self.rows), self.branches, self.alphas, strict=True)
        added = [(1.0 - alpha) * branch(rows_BTD) for rows_BTD, branch, alpha in each if len(rows_BTD)]
        return self.frozen(hidden_BTD) + torch.cat(added)


def branch_deltas(branch: NeuronBranch, parts: MLPParts, dtype: torch.dtype) -> dict[str, Tensor]:
    """What the branch learned, on the CPU in ``dtype``: the change of each learned weight, and the neurons' numbers."""
    start = {"up_KD": parts.up_w, "gate_KD": parts.gate_w}
    deltas = {"neurons": branch.neurons_K.to("cpu", torch.int32)}
    for name, weight_KD in branch.learned().items():
        base_ID = start.get(name)
        delta_KD = weight_KD.detach() if base_ID is None else weight_KD.detach() - base_ID[branch.neurons_K].float()
        deltas[name.removesuffix("_KD")] = delta_KD.to("cpu", dtype).contiguous()
    return deltas


def branch_from_deltas(parts: MLPParts, deltas: Mapping[str, Tensor]) -> NeuronBranch:
    """Inverse of `branch_deltas`, up to its rounding. The branch is frozen."""
    train: Train = "all" if "up" in deltas else "values"
    branch = NeuronBranch(parts, deltas["neurons"].long(), train)
    device = branch.down_KD.device
    with torch.no_grad():
        for name, weight_KD in branch.learned().items():
            weight_KD.add_(deltas[name.removesuffix("_KD")].to(device, torch.float32))
    return branch.requires_grad_(False)


def rounded(branch: NeuronBranch, parts: MLPParts, dtype: torch.dtype) -> NeuronBranch:
    """Return the branch, frozen, as it is after what it learned was stored in ``dtype`` and read back."""
    return branch_from_deltas(parts, branch_deltas(branch, parts, dtype))
