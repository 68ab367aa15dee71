"""Perceiver: a sequence of any length read into a fixed number of latents by cross-attention.

The Perceiver of Doc-to-LoRA (Charakorn et al. 2026, arXiv 2602.15902), after Perceiver IO (arXiv 2107.14795): a
SwiGLU projection of the context, an encoder whose latents read it, and a decoder whose queries read the latents.
A layer is

    x = x + RMS(attention(RMS(x), RMS(context)))
    x = x + RMS(SwiGLU(RMS(x)))

with grouped-query attention, no biases, no positions, no causal mask. Attributes are named as in the published
checkpoints, so that a state dict loads unchanged; `self_attn` is their name for what is mostly cross-attention.

Shapes: B = sequences, S = context tokens, D = context width, E = latent width, Q = latents or queries,
H = heads, K = key-value heads, G = H / K, N = G Q, C = head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6


@dataclass(frozen=True)
class Heads:
    """How attention is divided into heads. The published Perceiver has 16 query heads of 128 and 4 key-value heads."""

    queries: int = 16
    keys: int = 4
    width: int = 128

    def __post_init__(self) -> None:
        if min(self.queries, self.keys, self.width) < 1 or self.queries % self.keys:
            raise ValueError(
                f"{self.queries} query heads of {self.width} over {self.keys} key-value heads; expected at least one "
                "of each, and a whole number of query heads for each key-value head"
            )


class SwiGLU(nn.Module):
    """``down(silu(gate(x)) * up(x))``, without biases."""

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.gate_proj = nn.Linear(inputs, hidden, bias=False)
        self.up_proj = nn.Linear(inputs, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., inputs]`` to ``[..., outputs]``."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Attention(nn.Module):
    """Grouped-query attention of latents on a context; scale 1/sqrt(C)."""

    def __init__(self, width: int, heads: Heads):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, heads.queries * heads.width, bias=False)
        self.k_proj = nn.Linear(width, heads.keys * heads.width, bias=False)
        self.v_proj = nn.Linear(width, heads.keys * heads.width, bias=False)
        self.o_proj = nn.Linear(heads.queries * heads.width, width, bias=False)

    def forward(self, latents_BQE: Tensor, context_BSE: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """``[B, Q, E]``. ``mask_BS`` is True where the context is to be read; None reads all of it."""

        def split(x_BSF: Tensor) -> Tensor:
            return x_BSF.unflatten(-1, (-1, self.heads.width)).transpose(1, 2)

        key_BKSC, value_BKSC = split(self.k_proj(context_BSE)), split(self.v_proj(context_BSE))
        query_BHQC = split(self.q_proj(latents_BQE))
        # Queries that share keys are stacked as if they were additional latents: nothing is repeated, on any device.
        query_BKGQC = query_BHQC.unflatten(1, (self.heads.keys, -1))
        mask_B11S = None if mask_BS is None else mask_BS[:, None, None, :]
        read_BKNC = F.scaled_dot_product_attention(query_BKGQC.flatten(2, 3), key_BKSC, value_BKSC, mask_B11S)
        read_BHQC = read_BKNC.unflatten(2, query_BKGQC.shape[2:4]).flatten(1, 2)
        return self.o_proj(read_BHQC.transpose(1, 2).flatten(2))


class PerceiverLayer(nn.Module):
    """Attention on the context (``cross``) or among the latents, then a SwiGLU of four times the width."""

    def __init__(self, width: int, heads: Heads, cross: bool = True):
        super().__init__()
        self.input_latents_layernorm = nn.RMSNorm(width, EPS)
        self.input_context_layernorm = nn.RMSNorm(width, EPS) if cross else None
        self.self_attn = Attention(width, heads)
        self.post_attention_layernorm = nn.RMSNorm(width, EPS)
        self.pre_ff_layernorm = nn.RMSNorm(width, EPS)
        self.mlp = SwiGLU(width, 4 * width, width)
        self.post_ff_layernorm = nn.RMSNorm(width, EPS)

    def forward(self, latents_BQE: Tensor, context_BSE: Tensor, mask_BS: Tensor | None) -> Tensor:
        """``[B, Q, E]``; a self-attention layer does not read the context."""
        query_BQE = self.input_latents_layernorm(latents_BQE)
        if self.input_context_layernorm is None:
            read_BQE = self.self_attn(query_BQE, query_BQE)
        else:
            read_BQE = self.self_attn(query_BQE, self.input_context_layernorm(context_BSE), mask_BS)
        latents_BQE = latents_BQE + self.post_attention_layernorm(read_BQE)
        return latents_BQE + self.post_ff_layernorm(self.mlp(self.pre_ff_layernorm(latents_BQE)))


class Resampler(nn.Module):
    """Learned latents that read a context through a stack of layers."""

    def __init__(self, latents: int, width: int, heads: Heads, cross: Sequence[bool]):
        super().__init__()
        self.latents_q = nn.Parameter(torch.randn(latents, width))
        self.layers = nn.ModuleList(PerceiverLayer(width, heads, kind) for kind in cross)
        self.layernorm = nn.RMSNorm(width, EPS)

    def forward(self, context_BSE: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """``[B, S, E]`` to ``[B, Q, E]``."""
        latents_BQE = self.latents_q.expand(context_BSE.shape[0], -1, -1)
        for layer in self.layers:
            latents_BQE = layer(latents_BQE, context_BSE, mask_BS)
        return self.layernorm(latents_BQE)


class Perceiver(nn.Module):
    """Projection, encoder, decoder: ``[B, S, D]`` to ``[B, queries, E]``.

    ``encoder`` and ``decoder`` say for each layer whether it is cross-attention (True) or self-attention.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        latents: int,
        queries: int,
        encoder: Sequence[bool],
        decoder: Sequence[bool] = (True,),
        heads: Heads | None = None,
    ):
        super().__init__()
        heads = heads or Heads()
        self.modality_projection = SwiGLU(inputs, 4 * inputs, width)
        self.encoder = Resampler(latents, width, heads, encoder)
        self.decoder = Resampler(queries, width, heads, decoder)

    def forward(self, context_BSD: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """``mask_BS`` is True where a token is to be read. A row without any gives NaN."""
        latents_BQE = self.encoder(self.modality_projection(context_BSD), mask_BS)
        return self.decoder(latents_BQE)
