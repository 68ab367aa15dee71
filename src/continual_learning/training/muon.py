"""Muon: momentum whose singular values are all brought to about one.

The update of a weight matrix is the orthogonal matrix nearest to its momentum, found by Newton-Schulz
iteration with the quintic of Jordan et al. (2024, "Muon: an optimizer for hidden layers"), and scaled by
0.2 sqrt(max(rows, columns)), so that it is about as large as AdamW's (Moonlight, arXiv 2502.16982, eq. 4).

`torch.optim.Muon` iterates in bfloat16, which is about fifty times slower than float32 on a CPU without bf16 units.

Shapes: R, C = rows and columns of a matrix; N = matrices of one shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315  # coefficients of the quintic a X + b (X X') X + c (X X')^2 X


def orthogonalised(matrices_NRC: Tensor, steps: int = 5) -> Tensor:
    """Each matrix with its singular values brought to about one (0.7 to 1.2): [N, R, C]."""
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x = matrices_NRC.mT if tall else matrices_NRC
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + torch.baddbmm(_B * gram, gram, gram, alpha=_C) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For matrices only. ``momentum`` is Nesterov's; ``weight_decay`` is scaled by the learning rate, as in AdamW."""

    def __init__(
        self,
        matrices: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for shape, weights in by_shape.items():
                directions = []
                for weight in weights:
                    gradient = weight.grad
                    assert gradient is not None
                    state = self.state[weight]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(weight)
                    state["momentum"].lerp_(gradient, 1 - group["momentum"])
                    directions.append(gradient.lerp(state["momentum"], group["momentum"]))
                scale = 0.2 * max(shape) ** 0.5
                for weight, update in zip(weights, orthogonalised(torch.stack(directions)), strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(update, alpha=-group["lr"] * scale)
