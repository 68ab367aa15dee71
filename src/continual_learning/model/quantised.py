"""Frozen weights in 8 or 4 bits: linear layers that keep codes and scales, for a base that would not fit otherwise.

    int8   w = scale_f · code               one scale for each output, code from -127 to 127
    nf4    w = scale_g · level[code]        one scale for each 64 weights, 16 levels, the quantiles of a normal
                                            distribution: Dettmers et al. 2023 (QLoRA, arXiv 2305.14314, section 3)

Activations and what learns keep their types. The weight is made anew for every product and for its backward pass, in
the type of the activations, so that neither keeps it: a layer takes 8 or 4.25 bits a weight, and gradients reach
whatever learns below it. This saves memory, not time; `cpu_linear` is what answers faster on a CPU. Embeddings, norms
and the head are not rounded.

Shapes: D = inputs, F = outputs, G = groups of 64 weights, N = any number of tokens.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from continual_learning.errors import UnsupportedModelError

FrozenWeights = Literal["full", "int8", "nf4"]

_GROUP = 64
# Quantiles of N(0, 1), scaled to [-1, 1], with an exact zero: appendix E of the paper.
_NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


class QuantisedLinear(nn.Linear):
    """A frozen linear layer with its weight in 8 or 4 bits; ``weight`` is what these mean, made when asked for."""

    scale: Tensor

    def __init__(self, linear: nn.Linear, kind: FrozenWeights):
        nn.Module.__init__(self)  # a weight of this size is never allocated
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.kind, self._dtype = kind, linear.weight.dtype
        self.bias = linear.bias
        codes, scale = (_int8 if kind == "int8" else _nf4)(linear.weight.detach().float())
        # A parameter, for those that look for a module's device there, as PEFT does.
        self.codes = nn.Parameter(codes, requires_grad=False)
        self.register_buffer("scale", scale)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """[F, D], in the type that the model was loaded in."""
        return self.weight_in(self._dtype)

    def weight_in(self, dtype: torch.dtype) -> Tensor:
        """[F, D], in this type."""
        if self.kind == "int8":
            return self.codes.to(dtype) * self.scale.to(dtype)
        # a byte holds two weights
        levels = torch.tensor(_NF4, device=self.codes.device, dtype=dtype)
        pairs = torch.stack([levels.repeat_interleave(16), levels.repeat(16)], dim=1)
        found_G = F.embedding(self.codes.int(), pairs).view(-1, _GROUP) * self.scale.to(dtype)
        return found_G.flatten()[: self.out_features * self.in_features].view(self.out_features, self.in_features)

    def forward(self, input: Tensor) -> Tensor:
        """[..., D] to [..., F]."""
        found: Tensor = _Product.apply(input, self)
        bias: Tensor | None = self.bias
        return found if bias is None else found + bias.to(found.dtype)


class _Product(torch.autograd.Function):
    """``x W^T`` that keeps the codes for its backward pass, and not W."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x_ND, layer.weight_in(x_ND.dtype))

    @staticmethod
    def backward(ctx: Any, gradient_NF: Tensor) -> tuple[Tensor, None]:
        return gradient_NF @ ctx.layer.weight_in(gradient_NF.dtype), None


@torch.no_grad()
def quantise(model: nn.Module, kind: FrozenWeights, device: torch.device) -> None:
    """Replace the linear layers of a loaded model, all but the head, in place; one after the other is on ``device``.

    Raises UnsupportedModelError for a model without such layers.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and child is not head
    ]
    if not places:
        raise UnsupportedModelError(
            f"frozen_weights = {kind!r}: {type(model).__name__} has no torch.nn.Linear in its blocks; expected "
            "frozen_weights = 'full' for this model"
        )
    for parent, name, linear in places:
        setattr(parent, name, QuantisedLinear(linear.to(device), kind).requires_grad_(False))


def parameter_count(model: nn.Module) -> int:
    """Number of a model's parameters, however many bits each is held in."""
    rounded = [m for m in model.modules() if isinstance(m, QuantisedLinear)]
    packed = sum(m.in_features * m.out_features - m.codes.numel() for m in rounded)
    return packed + sum(p.numel() for p in model.parameters())


def weight_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights, with the scales of those that are held in fewer bits."""
    scales = [m.scale for m in model.modules() if isinstance(m, QuantisedLinear)]
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *scales))


def _int8(weight_FD: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [F, D] and scales [F, 1]."""
    scale_F1 = (weight_FD.abs().amax(1, keepdim=True) / 127).clamp_min(1e-12)
    return (weight_FD / scale_F1).round().to(torch.int8), scale_F1


def _nf4(weight_FD: Tensor) -> tuple[Tensor, Tensor]:
    """Codes, two to a byte, [32 G], and scales [G, 1]."""
    flat = weight_FD.flatten()
    weight_GI = F.pad(flat, (0, -len(flat) % _GROUP)).view(-1, _GROUP)
    scale_G1 = weight_GI.abs().amax(1, keepdim=True).clamp_min(1e-12).bfloat16()
    levels = torch.tensor(_NF4, device=flat.device)
    middles = (levels[1:] + levels[:-1]) / 2
    nearest = torch.bucketize(weight_GI / scale_G1.float(), middles).to(torch.uint8).flatten()
    return nearest[::2] * 16 + nearest[1::2], scale_G1
