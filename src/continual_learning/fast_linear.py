"""Matrix products with few rows on a CPU: the base's own weights, laid out once for it.

For one to some dozens of rows MKL's product with a weight as PyTorch stores it runs at a third of the speed that the
memory or the cores allow. oneDNN multiplies a weight that it has reordered beforehand two to three times as fast, and
one in 8 bits faster still (benchmarks/decoding.md). What is reordered is a copy: the weights stay as they are.
Only weights that are the base's own, and have not been written to since it was loaded, are taken from a copy.

Shapes: N = rows, D = inputs, F = outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Precision = Literal["full", "int8"]
LinearMap = Callable[[Tensor], Tensor]

# With more rows the ordinary product is as fast.
_MOST_ROWS = 64
# The copy takes as much memory as the weights: none is made of a model that takes more than this share of all there is.
_MOST_MEMORY = 0.2


class FastLinears:
    """The copies of one model's weights, made when they are first asked for."""

    def __init__(self, model: nn.Module, precision: Precision = "full"):
        self.precision = precision
        weights = {id(p): p for p in model.parameters()}
        size = sum(p.numel() * p.element_size() for p in weights.values())
        plain = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in weights.values())
        fits = size <= _MOST_MEMORY * psutil.virtual_memory().total
        self._usable = plain and fits and (precision == "int8" or torch.backends.mkldnn.is_available())
        # Kept alive here, so that an id never comes to mean another parameter.
        self._own = {key: (p, p._version) for key, p in weights.items()} if self._usable else {}
        self._maps: dict[tuple[int, ...], LinearMap] = {}

    @classmethod
    def none(cls) -> FastLinears:
        """Without copies: every product is the ordinary one."""
        return cls(nn.Module())

    def together(self, modules: Sequence[nn.Module], exact: bool = False) -> LinearMap:
        """The outputs of linear maps of one input, side by side: [..., D] to [..., F].

        ``exact`` ones are not rounded to 8 bits: those whose inputs have outliers, or that choose the next token.
        """
        if all(self._is_own(module) for module in modules):
            return self._map([module for module in modules if isinstance(module, nn.Linear)], exact)
        if len(modules) == 1:
            return modules[0]
        return lambda x: torch.cat([module(x) for module in modules], dim=-1)

    def _map(self, modules: Sequence[nn.Linear], exact: bool) -> LinearMap:
        key = tuple(id(module.weight) for module in modules)
        if key not in self._maps:
            biases = [_bias(module) for module in modules]
            none = [torch.zeros(len(module.weight)) for module in modules]
            whole = [given if given is not None else zero for given, zero in zip(biases, none, strict=True)]
            bias_F = None if all(b is None for b in biases) else torch.cat(whole)
            self._maps[key] = self._laid_out([module.weight for module in modules], bias_F, exact)
        return self._maps[key]

    def _laid_out(self, weights: Sequence[Tensor], bias_F: Tensor | None, exact: bool) -> LinearMap:
        rounded = self.precision == "int8" and not exact
        weight_FD = weights[0].detach() if len(weights) == 1 else torch.cat([w.detach() for w in weights])
        few = _int8(weight_FD, bias_F) if rounded else _reordered(weight_FD, bias_F)

        def product(x: Tensor) -> Tensor:
            if x.numel() // x.shape[-1] <= _MOST_ROWS or rounded:
                return few(x)
            return torch.cat([F.linear(x, w) for w in weights], dim=-1) if bias_F is None else few(x)

        return product

    def _is_own(self, module: nn.Module) -> bool:
        if type(module) is not nn.Linear:
            return False
        bias = _bias(module)
        return self._unchanged(module.weight) and (bias is None or self._unchanged(bias))

    def _unchanged(self, parameter: Tensor) -> bool:
        own = self._own.get(id(parameter))
        return own is not None and own[0] is parameter and own[1] == parameter._version


def _bias(module: nn.Linear) -> Tensor | None:
    bias: Tensor | None = module.bias
    return bias


def _reordered(weight_FD: Tensor, bias_F: Tensor | None) -> LinearMap:
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight_FD.contiguous(), 16)

    def product(x: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, laid_out, bias_F, "none", [], "")
        return found

    return product


def _int8(weight_FD: Tensor, bias_F: Tensor | None) -> LinearMap:
    """Weights in 8 bits with a scale for each output, activations in 8 bits with a scale for each product."""
    scale_F = (weight_FD.abs().amax(1) / 127).clamp_min(1e-12).double()
    zero_F = torch.zeros(len(weight_FD), dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch will replace these functions one day
        quantised = torch.quantize_per_channel(weight_FD, scale_F, zero_F, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(quantised, bias_F)

    def product(x: Tensor) -> Tensor:
        found: Tensor = torch.ops.quantized.linear_dynamic(x.contiguous(), packed, True)
        return found

    return product
