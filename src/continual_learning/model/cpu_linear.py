"""Matrix products with few rows on a CPU: the base's own weights, laid out once for this purpose.

For one to some dozens of rows MKL's product with a weight as PyTorch stores it runs at a third of the speed that the
memory or the cores allow. oneDNN multiplies a weight that it has reordered beforehand two to three times as fast, and
one in 8 or 4 bits faster still (benchmarks/README.md). The reordered weights are a copy; the original ones
are unchanged. Only weights that are the base's own, and have not been written to since it was loaded, are taken from
a copy.

Shapes: N = rows, D = inputs, F = outputs, G = groups of inputs, I = inputs of a group.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Precision = Literal["full", "int8", "int4"]
LinearMap = Callable[[Tensor], Tensor]

# With more rows the ordinary product is as fast.
_MOST_ROWS = 64
# Inputs that share a scale and an offset in 4 bits, as in GGUF's Q4_1; outputs that PyTorch's product takes at a time.
_GROUP, _INT4_OUTPUTS = 32, 16
# With more rows its arithmetic takes longer than reading whole weights (one thread: 22 against 40 ms a token for one
# row, 121 against 105 for 16).
_MOST_INT4_ROWS = 8
# A copy takes as much memory as the weights. The first is made of a model that takes at most this share of all memory,
# and a second one, with changed weights, of one that takes at most half of it.
_MOST_MEMORY = 0.2


class FastLinears:
    """The copies of one model's weights, made when they are first asked for."""

    def __init__(self, model: nn.Module, precision: Precision = "full"):
        self.precision = precision
        weights = {id(p): p for p in model.parameters()}
        size = sum(p.numel() * p.element_size() for p in weights.values())
        plain = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in weights.values())
        room = _MOST_MEMORY * psutil.virtual_memory().total
        self._usable = plain and size <= room and (precision != "full" or torch.backends.mkldnn.is_available())
        self._room_for_changed = self._usable and precision == "full" and 2 * size <= room
        # Kept alive here, so that an id never comes to mean another parameter.
        self._own = {key: (p, p._version) for key, p in weights.items()} if self._usable else {}
        self._maps: dict[tuple[int, ...], LinearMap] = {}

    @classmethod
    def none(cls) -> FastLinears:
        """An instance without copies: every product is the ordinary one."""
        return cls(nn.Module())

    def together(self, modules: Sequence[nn.Module], rounded_in: Collection[Precision] = ("int8", "int4")) -> LinearMap:
        """The outputs of linear maps of one input, side by side: [..., D] to [..., F].

        ``rounded_in``: the precisions in which these weights are rounded; in others they are not.
        """
        if all(self.has_own(module) for module in modules):
            linears = [module for module in modules if isinstance(module, nn.Linear)]
            return self._map(linears, self.precision if self.precision in rounded_in else "full")
        if len(modules) == 1:
            return modules[0]
        return lambda x: torch.cat([module(x) for module in modules], dim=-1)

    def with_low_rank(self, module: nn.Module, a_RD: Tensor, b_FR: Tensor) -> LinearMap:
        """The outputs of a linear map with ``b a`` added to its weight: [..., D] to [..., F].

        Where the memory allows, few rows are multiplied by a copy of the sum.
        """
        own = self.together([module])

        def apart(x: Tensor) -> Tensor:
            found = own(x)
            return found + F.linear(F.linear(x.to(a_RD.dtype), a_RD), b_FR).to(found.dtype)

        if not self._room_for_changed or not self.has_own(module):
            return apart
        assert isinstance(module, nn.Linear)
        few = _reordered(module.weight.detach() + b_FR @ a_RD, _bias(module))

        def product(x: Tensor) -> Tensor:
            return few(x) if x.numel() <= _MOST_ROWS * x.shape[-1] else apart(x)

        return product

    def _map(self, modules: Sequence[nn.Linear], precision: Precision) -> LinearMap:
        key = tuple(id(module.weight) for module in modules)
        if key not in self._maps:
            biases = [_bias(module) for module in modules]
            none = [torch.zeros(len(module.weight)) for module in modules]
            whole = [given if given is not None else zero for given, zero in zip(biases, none, strict=True)]
            bias_F = None if all(b is None for b in biases) else torch.cat(whole)
            self._maps[key] = self._laid_out([module.weight for module in modules], bias_F, precision)
        return self._maps[key]

    def _laid_out(self, weights: Sequence[Tensor], bias_F: Tensor | None, precision: Precision) -> LinearMap:
        weight_FD = weights[0].detach() if len(weights) == 1 else torch.cat([w.detach() for w in weights])
        if precision == "int8":
            return _int8(weight_FD, bias_F)
        fits = weight_FD.shape[1] % _GROUP == 0 and weight_FD.shape[0] % _INT4_OUTPUTS == 0
        few = _reordered(weight_FD, bias_F)
        fewest = _int4(weight_FD, bias_F) if precision == "int4" and fits else few

        def product(x: Tensor) -> Tensor:
            rows = x.numel() // x.shape[-1]
            if rows <= _MOST_ROWS:
                return fewest(x) if rows <= _MOST_INT4_ROWS else few(x)
            found = torch.cat([F.linear(x, w) for w in weights], dim=-1)
            return found if bias_F is None else found + bias_F

        return product

    def has_own(self, module: nn.Module) -> bool:
        """Whether a module is a linear map with the base's own weights, as they were loaded."""
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


def _int4(weight_FD: Tensor, bias_F: Tensor | None) -> LinearMap:
    """Weights in 4 bits, with a scale and an offset for each output and group of inputs; inputs in bfloat16.

    A group's codes run from its least weight to its greatest. That is how GGUF's Q4_1 is made, so that the codes of a
    model read from it are reproduced exactly: only the rounding to bfloat16 is lost.
    """
    groups_FGI = weight_FD.unflatten(1, (-1, _GROUP))
    low_FG, high_FG = groups_FGI.amin(-1), groups_FGI.amax(-1)
    scale_FG = ((high_FG - low_FG) / 15).clamp_min(1e-12)
    code_FGI = ((groups_FGI - low_FG[..., None]) / scale_FG[..., None]).round_().int()
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(code_FGI.flatten(1), 1)
    # The product takes codes from -8 to 7, and the value that a code of 0 represents.
    rule_GF2 = torch.stack([scale_FG, low_FG + 8 * scale_FG], dim=-1).transpose(0, 1).contiguous().bfloat16()

    def product(x: Tensor) -> Tensor:
        rows_ND = x.reshape(-1, x.shape[-1]).bfloat16()
        found_NF = torch.ops.aten._weight_int4pack_mm_for_cpu(rows_ND, packed, _GROUP, rule_GF2)
        found: Tensor = found_NF.to(x.dtype).view(*x.shape[:-1], -1)
        return found if bias_F is None else found + bias_F

    return product
