"""The text network of Gemma 3, which the second embedded model is.

What differs from Llama: norms after attention and MLP, too, and of queries and keys; norms that multiply by 1 + weight;
a scaled embedding; and blocks that attend to a window of the last tokens, with rotary positions of a base of their own.

Source: Gemma Team, "Gemma 3 Technical Report" (2503.19786), section 2.

Shapes: B = rows of a batch, T = tokens of a row, D = hidden size, H = query heads, K = key heads, C = channels of a
head.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from continual_learning.model.network.parts import (
    FULL,
    MLP,
    SLIDING,
    Attention,
    Backbone,
    KeyValueCache,
    NetworkConfig,
    Rotary,
    Turn,
    check,
)


@dataclass(frozen=True, kw_only=True)
class Gemma3Config(NetworkConfig):
    """The fields of a ``config.json`` that this network reads."""

    EXPECTED: ClassVar[Mapping[str, tuple[Any, Any]]] = {
        "hidden_activation": (None, "gelu_pytorch_tanh"),
        "attention_bias": (False, False),
        "final_logit_softcapping": (None, None),
        "use_bidirectional_attention": (False, False),
        "tie_word_embeddings": (True, True),
    }

    layer_types: Sequence[str]
    """The kind of each block."""
    sliding_window: int
    """Tokens that a block of kind `SLIDING` attends to, its own included."""
    query_pre_attn_scalar: float
    pad_token_id: int | None = None

    def backbone(self) -> Backbone:
        """See `NetworkConfig`."""
        return Gemma3Backbone(self)

    @classmethod
    def ropes(cls, rope_parameters: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        """See `NetworkConfig`."""
        check({"rope_parameters of blocks": (sorted(rope_parameters), [FULL, SLIDING])})
        return rope_parameters.values()


class OffsetRMSNorm(nn.Module):
    """``(1 + weight) · x / sqrt(mean(x²) + eps)``, computed in fp32."""

    def __init__(self, channels: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, device="meta"))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C]."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * (1.0 + self.weight.float())).type_as(x)


class ScaledEmbedding(nn.Embedding):
    """Embeddings times the root of their size, rounded to the dtype of the weights."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, T] to [B, T, D]."""
        return super().forward(input) * torch.tensor(self.embedding_dim**0.5).to(self.weight.dtype)


class DualRotaryEmbedding(Rotary):
    """Rotary positions, of one base for each kind of block."""

    def __init__(self, config: Gemma3Config):
        super().__init__(config.head_dim, {kind: rope["rope_theta"] for kind, rope in config.rope_parameters.items()})

    def forward(self, x: Tensor, position_ids: Tensor, layer_type: str) -> Turn:
        """[B, T, C] each, in the dtype of ``x``, of positions [B, T]."""
        return self.turn(x, position_ids, layer_type)


class NormedAttention(Attention):
    """`Attention` with a norm of each head's queries and one of its keys."""

    def __init__(self, config: Gemma3Config, layer_idx: int):
        super().__init__(config, layer_idx, config.query_pre_attn_scalar**-0.5)
        self.q_norm = OffsetRMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = OffsetRMSNorm(config.head_dim, config.rms_norm_eps)

    def normed(self, query_BHTC: Tensor, key_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        """See `Attention`."""
        return self.q_norm(query_BHTC), self.k_norm(key_BKTC)


class Block(nn.Module):
    """``x + norm(attention(norm(x)))``, then ``x + norm(mlp(norm(x)))``."""

    def __init__(self, config: Gemma3Config, layer_idx: int):
        super().__init__()
        size, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = NormedAttention(config, layer_idx)
        self.mlp = MLP(config, nn.GELU(approximate="tanh"))
        self.input_layernorm = OffsetRMSNorm(size, eps)
        self.post_attention_layernorm = OffsetRMSNorm(size, eps)
        self.pre_feedforward_layernorm = OffsetRMSNorm(size, eps)
        self.post_feedforward_layernorm = OffsetRMSNorm(size, eps)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: Turn,
        attention_mask: Tensor | None = None,
        past_key_values: KeyValueCache | None = None,
    ) -> Tensor:
        """[B, T, D] to [B, T, D]; ``attention_mask`` as in `Attention.forward`."""
        seen_BTD = self.self_attn(
            self.input_layernorm(hidden_states), position_embeddings, attention_mask, past_key_values
        )
        hidden_states = hidden_states + self.post_attention_layernorm(seen_BTD)
        found_BTD = self.mlp(self.pre_feedforward_layernorm(hidden_states))
        found: Tensor = hidden_states + self.post_feedforward_layernorm(found_BTD)
        return found


class Gemma3Backbone(Backbone):
    """A Gemma 3 without its head."""

    def __init__(self, config: Gemma3Config):
        size = (config.vocab_size, config.hidden_size)
        super().__init__(
            config,
            ScaledEmbedding(*size, config.pad_token_id, _weight=torch.empty(size, device="meta")),
            lambda i: Block(config, i),
            OffsetRMSNorm(config.hidden_size, config.rms_norm_eps),
            {FULL: None, SLIDING: config.sliding_window},
            config.layer_types,
        )
        self.rotary_emb = DualRotaryEmbedding(config)

    def turns(self, hidden_BTD: Tensor, position_ids: Tensor) -> Mapping[str, Turn]:
        """See `Backbone`."""
        return {kind: self.rotary_emb(hidden_BTD, position_ids, kind) for kind in (FULL, SLIDING)}
