"""The Llama network, without Transformers: importing that library takes longer than answering a question.

The embedded model runs on this network. Modules and weights have the names that Transformers gives them, and the
forward pass gives the same values, bit for bit, so that strategies, memories and adapters work on either.

Source: Touvron et al., "LLaMA: Open and Efficient Foundation Language Models" (2302.13971), section 2.2; grouped
queries: Ainslie et al. (2305.13245).

Shapes: B = rows of a batch, T = tokens of a row, S = tokens of a row with those in the cache, D = hidden size,
H = query heads, K = key heads, C = channels of a head, V = vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from continual_learning.errors import ModelError

Turn = tuple[Tensor, Tensor]
"""Cosines and sines of the rotary positions, [B, T, C] each."""


@dataclass(frozen=True)
class NetworkConfig:
    """The fields of a ``config.json`` that this network reads."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    eos_token_id: int | list[int] | None = None
    model_type: str = "llama"

    @classmethod
    def from_fields(cls, given: Mapping[str, Any]) -> NetworkConfig:
        """The configuration in the fields of a ``config.json``.

        Raises ModelError for a model that needs more than this network computes.
        """
        rope = given.get("rope_parameters") or {}
        expected = {
            "model_type": (given.get("model_type"), "llama"),
            "hidden_act": (given.get("hidden_act"), "silu"),
            "attention_bias": (given.get("attention_bias", False), False),
            "mlp_bias": (given.get("mlp_bias", False), False),
            "tie_word_embeddings": (given.get("tie_word_embeddings"), True),
            "rope_type": (rope.get("rope_type", "default"), "default"),
        }
        for field, (found, wanted) in expected.items():
            if found != wanted:
                raise ModelError(f"{field} = {found!r}; expected {wanted!r}: load this model with Transformers")
        known = {field.name: given[field.name] for field in fields(cls) if field.name in given}
        return cls(**{**known, "rope_theta": rope["rope_theta"]})

    def get_text_config(self) -> NetworkConfig:
        """This configuration: the model reads nothing but text."""
        return self


class KeyValueCache:
    """Keys and values of the tokens that were read, for each block [B, K, S, C]."""

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, keys_BKTC: Tensor, values_BKTC: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """Append the keys and values of new tokens; returns those of all tokens."""
        if block in self._blocks:
            before = self._blocks[block]
            keys_BKTC = torch.cat([before[0], keys_BKTC], dim=2)
            values_BKTC = torch.cat([before[1], values_BKTC], dim=2)
        self._blocks[block] = (keys_BKTC, values_BKTC)
        return keys_BKTC, values_BKTC

    def get_seq_length(self) -> int:
        """Number of tokens read."""
        return next((keys.shape[2] for keys, _ in self._blocks.values()), 0)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        self._blocks = {
            block: (keys.repeat_interleave(repeats, 0), values.repeat_interleave(repeats, 0))
            for block, (keys, values) in self._blocks.items()
        }

    def batch_select_indices(self, rows_B: Tensor) -> None:
        """Keep only these rows."""
        self._blocks = {block: (keys[rows_B], values[rows_B]) for block, (keys, values) in self._blocks.items()}


class BackboneOutput(NamedTuple):
    """What the network computes before its head."""

    last_hidden_state: Tensor
    """After the final norm, [B, T, D]."""


class CausalOutput(NamedTuple):
    """What the whole network computes."""

    logits: Tensor
    """[B, T, V]."""


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


class RotaryEmbedding(nn.Module):
    """Cosines and sines of rotary positions (Su et al., 2104.09864, section 3.2.2)."""

    inv_freq: Tensor

    def __init__(self, config: NetworkConfig):
        super().__init__()
        exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float) / config.head_dim
        self.register_buffer("inv_freq", 1.0 / (config.rope_theta**exponent), persistent=False)

    @torch.no_grad()
    def forward(self, x: Tensor, position_ids: Tensor) -> Turn:
        """[B, T, C] each, in the dtype of ``x``, of positions [B, T]."""
        angles = position_ids[..., None].float() * self.inv_freq.float()
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


class SiLU(nn.Module):
    """``x · sigmoid(x)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return F.silu(x)


class MLP(nn.Module):
    """``down(silu(gate(x)) · up(x))``."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = _linear(hidden, inner)
        self.up_proj = _linear(hidden, inner)
        self.down_proj = _linear(inner, hidden)
        self.act_fn = SiLU()

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        found: Tensor = self.down_proj(self.act_fn(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return found


class Attention(nn.Module):
    """Causal attention with rotary positions, H / K query heads to a key head."""

    def __init__(self, config: NetworkConfig, layer_idx: int):
        super().__init__()
        self.layer_idx, self.head_dim = layer_idx, config.head_dim
        self.scaling = config.head_dim**-0.5
        self._group = config.num_attention_heads // config.num_key_value_heads
        queries, keys = (heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads))
        self.q_proj = _linear(config.hidden_size, queries)
        self.k_proj = _linear(config.hidden_size, keys)
        self.v_proj = _linear(config.hidden_size, keys)
        self.o_proj = _linear(queries, config.hidden_size)

    def forward(
        self, x_BTD: Tensor, turn: Turn, attention_mask: Tensor | None, past_key_values: KeyValueCache | None
    ) -> Tensor:
        """[B, T, D] to [B, T, D]; ``attention_mask`` as in `Block.forward`."""
        rows, tokens, _ = x_BTD.shape

        def heads(projected: Tensor) -> Tensor:
            return projected.view(rows, tokens, -1, self.head_dim).transpose(1, 2)

        query_BHTC = _turned(heads(self.q_proj(x_BTD)), turn)
        key_BKSC, value_BKSC = _turned(heads(self.k_proj(x_BTD)), turn), heads(self.v_proj(x_BTD))
        if past_key_values is not None:
            key_BKSC, value_BKSC = past_key_values.update(key_BKSC, value_BKSC, self.layer_idx)
        shared = attention_mask is None
        if not shared:  # with a mask, grouped queries would take PyTorch's slow path
            key_BKSC, value_BKSC = (x.repeat_interleave(self._group, 1) for x in (key_BKSC, value_BKSC))
        seen_BHTC = F.scaled_dot_product_attention(
            query_BHTC,
            key_BKSC,
            value_BKSC,
            attn_mask=attention_mask,
            is_causal=shared and tokens > 1,
            scale=self.scaling,
            enable_gqa=shared and self._group > 1,
        )
        found: Tensor = self.o_proj(seen_BHTC.transpose(1, 2).reshape(rows, tokens, -1))
        return found


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""

    def __init__(self, config: NetworkConfig, layer_idx: int):
        super().__init__()
        self.self_attn = Attention(config, layer_idx)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config)
        self.post_attention_layernorm = RMSNorm(config)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: Turn,
        attention_mask: Tensor | None = None,
        past_key_values: KeyValueCache | None = None,
    ) -> Tensor:
        """[B, T, D] to [B, T, D].

        ``attention_mask``, [B or 1, 1, T, S]: True where a token attends, or added to the scores; without one, a token
        attends to all tokens up to itself.
        """
        normed_BTD = self.input_layernorm(hidden_states)
        hidden_states = hidden_states + self.self_attn(normed_BTD, position_embeddings, attention_mask, past_key_values)
        found: Tensor = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        return found


class Backbone(nn.Module):
    """Embedding, blocks and final norm."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        # Given its weight, it draws none: drawing without storage would import PyTorch's compiler, in two seconds.
        without = torch.empty(config.vocab_size, config.hidden_size, device="meta")
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, _weight=without)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config)
        self.rotary_emb = RotaryEmbedding(config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: KeyValueCache | None = None,
        use_cache: bool = False,
    ) -> BackboneOutput:
        """Hidden states of token ids [B, T] or of their embeddings [B, T, D].

        ``attention_mask``: [B, S], 1 for the tokens that are not padding; or [B, 1, T, S], used unchanged.
        With ``use_cache``, ``past_key_values`` grows by these tokens; else it is not used.
        """
        hidden_BTD = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        cache = past_key_values if use_cache else None
        tokens, before = hidden_BTD.shape[1], 0 if cache is None else cache.get_seq_length()
        if position_ids is None:
            position_ids = torch.arange(before, before + tokens, device=hidden_BTD.device)[None]
        mask = _attention_mask(attention_mask, tokens, before, hidden_BTD.device)
        turn = self.rotary_emb(hidden_BTD, position_ids)
        for block in self.layers:
            hidden_BTD = block(hidden_BTD, position_embeddings=turn, attention_mask=mask, past_key_values=cache)
        return BackboneOutput(self.norm(hidden_BTD))


class Network(nn.Module):
    """A causal language model: `Backbone` and a head that shares the embedding's weights."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = _linear(config.hidden_size, config.vocab_size)

    @classmethod
    def from_folder(cls, folder: Path) -> Network:
        """The model of a Hugging Face folder. Its weights are mapped: what is not used is not read.

        Raises ModelError for a model that needs more than this network computes, or lacks weights; OSError and
        SafetensorError for files that cannot be read.
        """
        network = cls(NetworkConfig.from_fields(json.loads((folder / "config.json").read_text("utf-8"))))
        weights = load_file(folder / "model.safetensors")
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
        try:
            network.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:160]  # it has a line, a long one, for each kind of mistake
            raise ModelError(f"{folder / 'model.safetensors'} does not fit its config.json: {reason}") from None
        network.lm_head.weight = network.model.embed_tokens.weight
        return network

    @property
    def base_model(self) -> Backbone:
        """The network without its head."""
        return self.model

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.model.embed_tokens.weight.dtype

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of tokens."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Linear:
        """The head."""
        return self.lm_head

    def forward(self, input_ids: Tensor | None = None, **given: Any) -> CausalOutput:
        """Logits; arguments as in `Backbone.forward`."""
        return CausalOutput(self.lm_head(self.model(input_ids, **given).last_hidden_state))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    # Without storage: the weights are assigned when they are loaded.
    return nn.Linear(inputs, outputs, bias=False, device="meta")


def _turned(x_BHTC: Tensor, turn: Turn) -> Tensor:
    cos_B1TC, sin_B1TC = (part[:, None] for part in turn)
    first, second = x_BHTC.chunk(2, dim=-1)
    return (x_BHTC * cos_B1TC) + (torch.cat((-second, first), dim=-1) * sin_B1TC)


def _attention_mask(given: Tensor | None, tokens: int, before: int, device: torch.device) -> Tensor | None:
    """[B or 1, 1, T, S] or None if every token attends to all tokens up to itself."""
    if given is not None and given.dim() == 4:
        return given
    if given is None and (tokens == 1 or before == 0):
        return None
    allowed_11TS = torch.ones(tokens, before + tokens, dtype=torch.bool, device=device).tril(before)[None, None]
    if given is None:
        return allowed_11TS
    allowed_B1TS = allowed_11TS & given.bool()[:, None, None]
    # Padding that attends to nothing would be NaN, and reach the other rows as 0 · NaN.
    return allowed_B1TS | ~allowed_B1TS.any(-1, keepdim=True)
