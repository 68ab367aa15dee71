"""The reader's weights: a low-rank adapter beside the linear layers of a base's upper blocks.

    out = linear(x) + B A x        Hu et al. 2021 (arXiv 2106.09685), equation 3; the scale alpha / rank is part of B

Shapes: R = rank, D = inputs, F = outputs of a linear layer, N = any number of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from continual_learning.model.base_model import BaseModel
from continual_learning.model.cpu_linear import LinearMap
from continual_learning.model.families import is_transposed, linear_sizes


class AdaptedLinear(nn.Module):
    """A linear layer of the base with its low-rank change. ``quick``: the same map without gradients."""

    def __init__(self, linear: nn.Module, a_RD: Tensor, b_FR: Tensor, quick: LinearMap | None = None):
        super().__init__()
        self.linear = linear
        self.a_RD, self.b_FR = a_RD, b_FR
        self._quick = quick

    def forward(self, x_ND: Tensor) -> Tensor:
        """[..., D] to [..., F]."""
        if self._quick is not None:
            return self._quick(x_ND)
        found: Tensor = self.linear(x_ND)
        # in fp32, the type of what learns, whatever the base's is
        return found + F.linear(F.linear(x_ND.float(), self.a_RD), self.b_FR).to(found.dtype)


def adapted_layers(base: BaseModel, first_block: int) -> dict[str, nn.Module]:
    """The linear layers that get an adapter, by path: all of the blocks from ``first_block`` on."""
    found: dict[str, nn.Module] = {}
    for number in range(first_block, base.block_count):
        path = base.block_path(number)
        for name, module in base.model.get_submodule(path).named_modules():
            if isinstance(module, nn.Linear) or is_transposed(module):
                found[f"{path}.{name}"] = module
    return found


def new_weights(base: BaseModel, first_block: int, rank: int) -> dict[str, Tensor]:
    """A random A and a zero B for each layer: with them the base is unchanged."""
    weights: dict[str, Tensor] = {}
    for path, module in adapted_layers(base, first_block).items():
        inputs, outputs = linear_sizes(module)
        weights[f"{path}.A"] = torch.randn(rank, inputs) / inputs**0.5
        weights[f"{path}.B"] = torch.zeros(outputs, rank)
    return weights


def adapted(base: BaseModel, weights: Mapping[str, Tensor], quick: bool = False) -> dict[str, AdaptedLinear]:
    """The adapted layers, by path, to be put into the base (`BaseModel.patched`).

    ``quick`` takes products with few rows from copies of the weights (`model.cpu_linear`), which give no gradients.
    """
    layers: dict[str, AdaptedLinear] = {}
    for name in weights:
        if name.endswith(".A"):
            path = name.removesuffix(".A")
            linear = base.model.get_submodule(path)
            a_RD, b_FR = (weights[f"{path}.{half}"].to(base.device) for half in "AB")
            product = base.linears.with_low_rank(linear, a_RD, b_FR) if quick else None
            layers[path] = AdaptedLinear(linear, a_RD, b_FR, product)
    return layers
