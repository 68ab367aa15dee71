"""The Llama network, which the embedded model is.

Source: Touvron et al., "LLaMA: Open and Efficient Foundation Language Models" (2302.13971), section 2.2.

Shapes: B = rows of a batch, T = tokens of a row, D = hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from continual_learning.model.network.parts import (
    FULL,
    MLP,
    Attention,
    Backbone,
    KeyValueCache,
    NetworkConfig,
    Rotary,
    Turn,
)


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(NetworkConfig):
    """The fields of a ``config.json`` that this network reads."""

    EXPECTED: ClassVar[Mapping[str, tuple[Any, Any]]] = {
        "hidden_act": (None, "silu"),
        "attention_bias": (False, False),
        "mlp_bias": (False, False),
        "tie_word_embeddings": (None, True),
    }

    def backbone(self) -> Backbone:
        """See `NetworkConfig`."""
        return LlamaBackbone(self)


class RMSNorm(nn.Module):
    """``weight · x / sqrt(mean(x²) + eps)``, computed in fp32."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.hidden_size, device="meta"))
        self.variance_epsilon = config.rms_norm_eps

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        wide_BTD = x_BTD.to(torch.float32)
        scale_BT1 = torch.rsqrt(wide_BTD.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * (wide_BTD * scale_BT1).to(x_BTD.dtype)


class RotaryEmbedding(Rotary):
    """Rotary positions, the same in every block."""

    def __init__(self, config: NetworkConfig):
        super().__init__(config.head_dim, {FULL: config.rope_parameters["rope_theta"]})

    def forward(self, x: Tensor, position_ids: Tensor) -> Turn:
        """[B, T, C] each, in the dtype of ``x``, of positions [B, T]."""
        return self.turn(x, position_ids, FULL)


class SiLU(nn.Module):
    """``x · sigmoid(x)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return F.silu(x)


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""

    def __init__(self, config: NetworkConfig, layer_idx: int):
        super().__init__()
        self.self_attn = Attention(config, layer_idx, config.head_dim**-0.5)
        self.mlp = MLP(config, SiLU())
        self.input_layernorm = RMSNorm(config)
        self.post_attention_layernorm = RMSNorm(config)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: Turn,
        attention_mask: Tensor | None = None,
        past_key_values: KeyValueCache | None = None,
    ) -> Tensor:
        """[B, T, D] to [B, T, D]; ``attention_mask`` as in `Attention.forward`."""
        normed_BTD = self.input_layernorm(hidden_states)
        hidden_states = hidden_states + self.self_attn(normed_BTD, position_embeddings, attention_mask, past_key_values)
        found: Tensor = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        return found


class LlamaBackbone(Backbone):
    """A Llama without its head."""

    def __init__(self, config: LlamaConfig):
        # Given its weight, it draws none: drawing without storage would import PyTorch's compiler, in two seconds.
        without = torch.empty(config.vocab_size, config.hidden_size, device="meta")
        super().__init__(
            config,
            nn.Embedding(config.vocab_size, config.hidden_size, _weight=without),
            lambda i: Block(config, i),
            RMSNorm(config),
            {FULL: None},
            [FULL] * config.num_hidden_layers,
        )
        self.rotary_emb = RotaryEmbedding(config)

    def turns(self, hidden_BTD: Tensor, position_ids: Tensor) -> Mapping[str, Turn]:
        """See `Backbone`."""
        return {FULL: self.rotary_emb(hidden_BTD, position_ids)}
