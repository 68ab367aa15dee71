"""M3, multi-scale momentum Muon: two momenta of different pace, both orthogonalised.

    M1 <- b1 M1 + (1 - b1) g                         at every step
    M2 <- b3 M2 + (1 - b3) mean of g over C steps    at every C-th step
    W  <- W - lr s (NS(M1) + a NS(M2))

after Nested Learning (Behrouz et al. 2025, the section on optimisers as associative memories); NS is the
Newton-Schulz iteration of `training.muon`, and s = 0.2 sqrt(max(rows, columns)) its scale, so that rates compare with
AdamW's. The paper's division by a second moment is left out.

Shapes: R, C = rows and columns of a matrix; N = matrices of one shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from continual_learning.training.muon import orthogonalised


class M3(torch.optim.Optimizer):
    """For matrices only. ``slow_every`` is C, ``slow_share`` is a."""

    def __init__(
        self,
        matrices: Iterable[Tensor],
        lr: float,
        momentum: float = 0.9,
        slow_momentum: float = 0.9,
        slow_every: int = 5,
        slow_share: float = 0.5,
        weight_decay: float = 0.0,
    ):
        settings = {"lr": lr, "momentum": momentum, "slow_momentum": slow_momentum, "slow_every": slow_every}
        super().__init__(matrices, {**settings, "slow_share": slow_share, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    self._remember(weight, group)
                    by_shape[weight.shape].append(weight)
            for shape, weights in by_shape.items():
                fast_NRC = orthogonalised(torch.stack([self.state[w]["momentum"] for w in weights]))
                slow_NRC = orthogonalised(torch.stack([self.state[w]["slow_momentum"] for w in weights]))
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                for weight, fast_RC, slow_RC in zip(weights, fast_NRC, slow_NRC, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(fast_RC + group["slow_share"] * slow_RC, alpha=-rate)

    def _remember(self, weight: Tensor, group: dict[str, float]) -> None:
        """Update both momenta with the gradient."""
        gradient = weight.grad
        assert gradient is not None
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            for name in ("momentum", "slow_momentum", "collected"):
                state[name] = torch.zeros_like(weight)
        state["step"] += 1
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        state["collected"].add_(gradient, alpha=1 / group["slow_every"])
        if int(state["step"]) % int(group["slow_every"]) == 0:
            state["slow_momentum"].lerp_(state["collected"], 1 - group["slow_momentum"])
            state["collected"].zero_()
