"""What the networks of this package share: cache, masks, attention, MLP, backbone.

Modules are made without storage: their weights are assigned when a model is read.

Shapes: B = rows of a batch, T = tokens of a row, S = tokens of a row with those in the cache, D = hidden size,
H = query heads, K = key heads, G = H / K, C = channels of a head, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from continual_learning.errors import ModelError

Turn = tuple[Tensor, Tensor]
"""Cosines and sines of the rotary positions, [B, T, C] each."""

FULL, SLIDING = "full_attention", "sliding_attention"
"""Kinds of blocks, in a configuration's ``layer_types``: attention to all earlier tokens, or to the last ones alone."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The fields of a ``config.json`` that every network reads."""

    EXPECTED: ClassVar[Mapping[str, tuple[Any, Any]]] = {}
    """Fields of what some models of a family have and its network does not compute: their default, and what they must
    be."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_parameters: Mapping[str, Any]
    model_type: str
    eos_token_id: int | list[int] | None = None

    @classmethod
    def from_fields(cls, given: Mapping[str, Any]) -> Self:
        """The configuration in the fields of a ``config.json``.

        Raises ModelError for a model that needs more than this network computes.
        """
        check({name: (given.get(name, default), wanted) for name, (default, wanted) in cls.EXPECTED.items()})
        for rope in cls.ropes(given.get("rope_parameters") or {}):
            check({"rope_type": (rope.get("rope_type", "default"), "default")})
        return cls(**{field.name: given[field.name] for field in fields(cls) if field.name in given})

    def backbone(self) -> Backbone:
        """The network without its head, of this configuration; its weights are missing."""
        raise NotImplementedError

    @classmethod
    def ropes(cls, rope_parameters: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        """The rotary positions of every kind of block."""
        return [rope_parameters]

    def get_text_config(self) -> Self:
        """This configuration: the model reads nothing but text."""
        return self


def check(values: Mapping[str, tuple[Any, Any]]) -> None:
    """Raise ModelError if a field's value (first) is not the one that a network computes (second)."""
    for field, (value, wanted) in values.items():
        if value != wanted:
            raise ModelError(f"{field} = {value!r}; expected {wanted!r}: load this model with Transformers")


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
    """What a network computes before its head."""

    last_hidden_state: Tensor
    """After the final norm, [B, T, D]."""


class Rotary(nn.Module):
    """Cosines and sines of rotary positions (Su et al., 2104.09864, section 3.2.2), of one base for a kind of block."""

    def __init__(self, channels: int, thetas: Mapping[str, float]):
        super().__init__()
        exponent = torch.arange(0, channels, 2, dtype=torch.float) / channels
        # Not buffers: in bf16, as the weights may be, the angles of late tokens would be off by radians.
        self._frequencies = {kind: 1.0 / (theta**exponent) for kind, theta in thetas.items()}

    @torch.no_grad()
    def turn(self, x: Tensor, position_ids: Tensor, kind: str) -> Turn:
        """[B, T, C] each, in the dtype of ``x``, of positions [B, T]."""
        angles = position_ids[..., None].float() * self._frequencies[kind].to(position_ids.device)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


class MLP(nn.Module):
    """``down(activation(gate(x)) · up(x))``."""

    def __init__(self, config: NetworkConfig, activation: nn.Module):
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = linear(hidden, inner)
        self.up_proj = linear(hidden, inner)
        self.down_proj = linear(inner, hidden)
        self.act_fn = activation

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        found: Tensor = self.down_proj(self.act_fn(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return found


class Attention(nn.Module):
    """Causal attention with rotary positions, H / K query heads to a key head (Ainslie et al., 2305.13245)."""

    def __init__(self, config: NetworkConfig, layer_idx: int, scaling: float):
        super().__init__()
        self.layer_idx, self.head_dim, self.scaling = layer_idx, config.head_dim, scaling
        self._group = config.num_attention_heads // config.num_key_value_heads
        queries, keys = (heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads))
        self.q_proj = linear(config.hidden_size, queries)
        self.k_proj = linear(config.hidden_size, keys)
        self.v_proj = linear(config.hidden_size, keys)
        self.o_proj = linear(queries, config.hidden_size)

    def normed(self, query_BHTC: Tensor, key_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys before they are turned: unchanged, if the family has no norms of heads."""
        return query_BHTC, key_BKTC

    def forward(
        self, x_BTD: Tensor, turn: Turn, attention_mask: Tensor | None, past_key_values: KeyValueCache | None
    ) -> Tensor:
        """[B, T, D] to [B, T, D].

        ``attention_mask``, [B or 1, 1, T, S]: True where a token attends, or added to the scores; without one, a token
        attends to all tokens up to itself. If S is smaller than the number of tokens, it is that of the last ones.
        """
        rows, tokens, _ = x_BTD.shape

        def heads(projected: Tensor) -> Tensor:
            return projected.view(rows, tokens, -1, self.head_dim).transpose(1, 2)

        query_BHTC, key_BKSC = self.normed(heads(self.q_proj(x_BTD)), heads(self.k_proj(x_BTD)))
        query_BHTC, key_BKSC, value_BKSC = _turned(query_BHTC, turn), _turned(key_BKSC, turn), heads(self.v_proj(x_BTD))
        if past_key_values is not None:
            key_BKSC, value_BKSC = past_key_values.update(key_BKSC, value_BKSC, self.layer_idx)
        shared = attention_mask is None
        if attention_mask is not None:  # with a mask, grouped queries would take PyTorch's slow path
            seen = attention_mask.shape[-1]
            key_BKSC, value_BKSC = key_BKSC[:, :, -seen:], value_BKSC[:, :, -seen:]
            if tokens == 1:  # the queries of a group are those of so many tokens
                query_BHTC = query_BHTC.reshape(rows, -1, self._group, self.head_dim)
            else:
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
        seen_BTHC = seen_BHTC.reshape(rows, -1, tokens, self.head_dim).transpose(1, 2)
        found: Tensor = self.o_proj(seen_BTHC.reshape(rows, tokens, -1))
        return found


class Backbone(nn.Module):
    """Embedding, blocks and final norm; the kinds of its blocks differ in their windows and positions."""

    def __init__(
        self,
        config: NetworkConfig,
        embedding: nn.Embedding,
        block: Callable[[int], nn.Module],
        norm: nn.Module,
        windows: Mapping[str, int | None],
        kinds: Iterable[str],
    ):
        super().__init__()
        self.embed_tokens = embedding
        self.layers = nn.ModuleList(block(i) for i in range(config.num_hidden_layers))
        self.norm = norm
        self._windows, self._kinds = dict(windows), tuple(kinds)

    def turns(self, hidden_BTD: Tensor, position_ids: Tensor) -> Mapping[str, Turn]:
        """The rotary positions for each kind of block."""
        raise NotImplementedError

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | Mapping[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        past_key_values: KeyValueCache | None = None,
        use_cache: bool = False,
    ) -> BackboneOutput:
        """Hidden states of token ids [B, T] or of their embeddings [B, T, D].

        ``attention_mask``: [B, S], 1 for the tokens that are not padding; or [B, 1, T, S], used unchanged, for all
        blocks or for each kind. With ``use_cache``, ``past_key_values`` grows by these tokens; else it is not used.
        """
        hidden_BTD = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        cache = past_key_values if use_cache else None
        tokens, before = hidden_BTD.shape[1], 0 if cache is None else cache.get_seq_length()
        if position_ids is None:
            position_ids = torch.arange(before, before + tokens, device=hidden_BTD.device)[None]
        masks = {
            kind: _attention_mask(
                attention_mask[kind] if isinstance(attention_mask, Mapping) else attention_mask,
                tokens,
                before,
                window,
                hidden_BTD.device,
            )
            for kind, window in self._windows.items()
        }
        turns = self.turns(hidden_BTD, position_ids)
        for kind, block in zip(self._kinds, self.layers, strict=True):
            hidden_BTD = block(
                hidden_BTD, position_embeddings=turns[kind], attention_mask=masks[kind], past_key_values=cache
            )
        return BackboneOutput(self.norm(hidden_BTD))


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map without bias, and without storage."""
    return nn.Linear(inputs, outputs, bias=False, device="meta")


def _turned(x_BHTC: Tensor, turn: Turn) -> Tensor:
    cos_B1TC, sin_B1TC = (part[:, None] for part in turn)
    first, second = x_BHTC.chunk(2, dim=-1)
    return (x_BHTC * cos_B1TC) + (torch.cat((-second, first), dim=-1) * sin_B1TC)


def _attention_mask(
    given: Tensor | None, tokens: int, before: int, window: int | None, device: torch.device
) -> Tensor | None:
    """[B or 1, 1, T, S], that of the tokens in a window of one of the T; None if each attends to all up to itself."""
    if given is not None and given.dim() == 4:
        return given
    total = before + tokens
    # Transformers, too, has a mask as soon as the window is full: with the same operation the values are the same.
    slides = window is not None and total >= window
    if given is None and not slides and (tokens == 1 or before == 0):
        return None
    allowed_11TS = torch.ones(tokens, total, dtype=torch.bool, device=device).tril(before)[None, None]
    if window is not None and slides:
        allowed_11TS = allowed_11TS.triu(before - window + 1)[..., -(window - 1 + tokens) :]
    if given is None:
        return allowed_11TS
    allowed_B1TS = allowed_11TS & given.bool()[:, None, None, -allowed_11TS.shape[-1] :]
    # Padding that attends to nothing would be NaN, and reach the other rows as 0 · NaN.
    return allowed_B1TS | ~allowed_B1TS.any(-1, keepdim=True)
