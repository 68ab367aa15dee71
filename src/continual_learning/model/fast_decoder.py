"""The fast decoder, for the common kinds of blocks.

Transformers spends more time between the matrix products of a small model than in them. The fast decoder runs blocks
of the kind ``x + attention(norm(x))``, ``x + mlp(norm(x))`` itself: query, key and value in one product, gate and
up in another, keys and values in buffers that do not grow, and the start that all prompts of a batch share (a system
prompt, worked examples) computed once. Blocks with a window keep all keys and read those that are near. It reads the
modules anew for every batch, so that patches take effect.

Shapes: B = rows of a batch, T = tokens of the prompts, padding included, N = any number of tokens, S = places in the
buffers, D = hidden size, H = query heads, K = key heads, G = H / K, C = channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from continual_learning.errors import UnsupportedModelError
from continual_learning.model.cpu_linear import FastLinears, LinearMap, Precision
from continual_learning.model.families import BlockLayout, mlp_layout
from continual_learning.model.network.parts import FULL, SLIDING

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel

# A shared start shorter than this costs more to treat separately than it saves.
_MIN_SHARED_TOKENS = 8
# Tokens of a prompt that are read at a time: few enough that a reading can be stopped within seconds on a CPU.
_PIECE = 512
# The inputs of an MLP's output weights have outliers, which leave little precision for the rest when rounded to 8 bits;
# with 4-bit weights the inputs are not rounded.
_IN_INT4: tuple[Precision, ...] = ("int4",)


class _Seen(NamedTuple):
    """What one pass through the blocks of a kind has in common."""

    turn: tuple[Tensor, Tensor]
    """Cosines and sines of the positions, [B, T, 1, C]."""
    bias: Tensor | None
    """What keys each token attends to, of those from ``first`` on: added, [B * K, 1, S], for a single token a row, else
    bool, [T, S] or [B, 1, T, S]. None: all."""
    first: int
    """The first place whose key is read."""


class FastDecoder:
    """Decoder for blocks of ``x + attention(norm(x))``, ``x + mlp(norm(x))``, with rotary positions."""

    def __init__(self, base: BaseModel, layout: BlockLayout, room: int, linears: FastLinears | None = None):
        linears = linears or base.linears
        self._base, self._room = base, room
        self._head = linears.together([base.model.get_output_embeddings()], rounded_in=())
        backbone: Any = base.backbone
        self._embedding = base.model.get_input_embeddings()
        self._rotary, self._final_norm = backbone.rotary_emb, _norm(backbone.norm, layout)
        self._rotary_kinds = layout.rotary_kinds
        self._blocks = [_Block(base, block, layout, linears) for block in base.blocks]
        self._kinds = block_kinds(base)
        self._windows = {kind: sliding_window(base) if kind == SLIDING else None for kind in self._kinds}

    def read(self, prompts: Sequence[Sequence[int]], check: Callable[[], None] = lambda: None) -> Tensor:
        """See `decoding.Decoder`."""
        device, longest = self._base.device, max(map(len, prompts))
        shared = _worth_sharing(prompts)
        rows = len(prompts)
        pads = [longest - len(ids) for ids in prompts]
        # Padding goes between the shared start and the rest, so that the start is the same in every row.
        ids_BT = torch.tensor(
            [[*ids[:shared], *[0] * pad, *ids[shared:]] for pad, ids in zip(pads, prompts, strict=True)], device=device
        )
        place_1T = torch.arange(longest, device=device)[None]
        pads_B1 = torch.tensor(pads, device=device)[:, None]
        padding_BT = (place_1T >= shared) & (place_1T < shared + pads_B1)
        positions_BT = torch.where(place_1T < shared, place_1T, (place_1T - pads_B1).clamp(min=0))

        self._used = 0
        places = longest + self._room
        dtype: torch.dtype = self._base.model.dtype
        embedded_1SD = torch.empty(1, 1, 1, device=device, dtype=dtype)
        places_1S = torch.arange(places, device=device)[None]
        self._turns = {
            kind: _cosines_and_sines(*self._rotary(embedded_1SD, places_1S, *([kind] if self._rotary_kinds else [])))
            for kind in self._windows
        }
        self._next_B = positions_BT[:, -1] + 1
        self._bias_BS: Tensor | None = None
        self._most_padding = max(pads)
        if any(pads):
            self._bias_BS = torch.zeros(rows, places, device=device, dtype=dtype)
            self._bias_BS[:, :longest].masked_fill_(padding_BT, float("-inf"))
            self._position_BS = torch.where(places_1S < shared, places_1S, (places_1S - pads_B1).clamp(min=0))
        alone = shared if rows > 1 else 0
        for block in self._blocks:
            block.make_room(1 if alone else rows, places, device, dtype)
        if alone:
            self._read(ids_BT[:1, :alone], positions_BT[:1, :alone], None, check)
            for block in self._blocks:
                block.spread(rows)
        return self._read(ids_BT[:, alone:], positions_BT[:, alone:], padding_BT if any(pads) else None, check)

    def _read(
        self, ids_BT: Tensor, positions_BT: Tensor, padding_BS: Tensor | None, check: Callable[[], None]
    ) -> Tensor:
        """`_forward`, piece by piece: it can be stopped, and no token is compared with all of the later ones."""
        total, start = ids_BT.shape[1], 0
        while total - start > _PIECE + 1:  # a last piece of one token would be taken for a step
            self._forward(ids_BT[:, start : start + _PIECE], positions_BT[:, start : start + _PIECE], padding_BS)
            start += _PIECE
            check()
        return self._forward(ids_BT[:, start:], positions_BT[:, start:], padding_BS)

    def step(self, ids_B: Tensor) -> Tensor:
        """See `decoding.Decoder`."""
        last_BD = self._forward(ids_B[:, None], self._next_B[:, None], None)
        self._next_B = self._next_B + 1
        return last_BD

    def select(self, rows_B: Tensor) -> None:
        """See `decoding.Decoder`."""
        self._next_B = self._next_B[rows_B]
        if self._bias_BS is not None:
            self._bias_BS, self._position_BS = self._bias_BS[rows_B], self._position_BS[rows_B]
        for block in self._blocks:
            block.select(rows_B)

    def logits(self, last_BD: Tensor) -> Tensor:
        """See `decoding.Decoder`."""
        return self._base.soft_capped(self._head(last_BD))

    def _forward(self, ids_BT: Tensor, positions_BT: Tensor, padding_BS: Tensor | None) -> Tensor:
        """Read tokens into the next places; the final hidden states of the last ones, [B, D]."""
        start, end = self._used, self._used + ids_BT.shape[1]
        of_kind: dict[str, _Seen] = {}
        for kind, window in self._windows.items():
            cos_SC, sin_SC = self._turns[kind]
            turn = (cos_SC[positions_BT][:, :, None], sin_SC[positions_BT][:, :, None])
            # A window that is not full yet hides nothing.
            near = window if window is not None and end > window else None
            first = 0 if near is None else max(0, start + 1 - near - self._most_padding)
            see = self._seen_by_one if end - start == 1 else self._seen_by_each
            of_kind[kind] = _Seen(turn, see(positions_BT, padding_BS, near, first, end), first)
        hidden_BTD = self._embedding(ids_BT)
        for kind, block in zip(self._kinds, self._blocks, strict=True):
            hidden_BTD = block(hidden_BTD, of_kind[kind], start, end)
        self._used = end
        return self._final_norm(hidden_BTD[:, -1])

    def _seen_by_one(
        self, positions_B1: Tensor, _padding: Tensor | None, window: int | None, first: int, end: int
    ) -> Tensor | None:
        """The bias of a single token in each row; see `_Seen`."""
        if self._bias_BS is None:
            return None  # without padding, the window is what the places from the first on are
        bias_BS = self._bias_BS[:, first:end]
        if window is not None:
            far_BS = positions_B1 - self._position_BS[:, first:end] >= window
            bias_BS = bias_BS.masked_fill(far_BS, float("-inf"))
        return bias_BS.repeat_interleave(self._blocks[0].key_heads, 0)[:, None]

    def _seen_by_each(
        self, positions_BT: Tensor, padding_BS: Tensor | None, window: int | None, first: int, end: int
    ) -> Tensor:
        """The bias of several tokens in each row; see `_Seen`."""
        rows, tokens = positions_BT.shape
        start = end - tokens
        seen_TS = torch.ones(tokens, end, dtype=torch.bool, device=positions_BT.device).tril(start)
        if padding_BS is None:
            return seen_TS if window is None else seen_TS.triu(start + 1 - window)[:, first:]
        seen_BTS = seen_TS & ~padding_BS[:, None, :end]
        if window is not None:
            seen_BTS &= positions_BT[:, :, None] - self._position_BS[:rows, None, :end] < window
        # Padding attends to itself: a row of only masked keys would be NaN and reach the other rows as 0 · NaN.
        seen_BTS |= torch.eye(tokens, end, dtype=torch.bool, device=positions_BT.device).roll(start, 1)
        return seen_BTS[:, None, :, first:]


class _Block:
    """One block as a function, with its keys and values: [B, K, S, C] each."""

    def __init__(self, base: BaseModel, block: Any, layout: BlockLayout, linears: FastLinears):
        attention = getattr(block, layout.attention)
        projections = [getattr(attention, name) for name in (layout.query, layout.key, layout.value)]
        self._channels = int(attention.head_dim)
        self._scale = float(attention.scaling)
        self._project = linears.together(projections)
        self._out = linears.together([getattr(attention, layout.output)])
        config = base.model.config.get_text_config()
        self._heads, self.key_heads = int(config.num_attention_heads), int(config.num_key_value_heads)
        of_heads = [getattr(attention, name, None) for name in (layout.query_norm, layout.key_norm)]
        self._head_norm = _norm_of_heads(of_heads, (self._heads, self.key_heads), layout) if all(of_heads) else None
        self._softcap: float | None = getattr(attention, layout.score_softcap) if layout.score_softcap else None
        self._before_attention = _norm(getattr(block, layout.before_attention), layout)
        self._before_mlp = _norm(getattr(block, layout.before_mlp), layout)
        self._after_attention, self._after_mlp = (
            _norm(getattr(block, name), layout) if name else _unchanged
            for name in (layout.after_attention, layout.after_mlp)
        )
        self._mlp = _mlp(base, getattr(block, base.family.mlp_name), linears)

    def make_room(self, rows: int, places: int, device: torch.device, dtype: torch.dtype) -> None:
        shape = (rows, self.key_heads, places, self._channels)
        self._keys, self._values = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))

    def spread(self, rows: int) -> None:
        """Repeat the single cached row ``rows`` times."""
        self._keys, self._values = (x.repeat(rows, 1, 1, 1) for x in (self._keys, self._values))

    def select(self, rows_B: Tensor) -> None:
        self._keys, self._values = self._keys[rows_B], self._values[rows_B]

    def __call__(self, hidden_BTD: Tensor, seen: _Seen, start: int, end: int) -> Tensor:
        attended_BTD = self._attention(self._before_attention(hidden_BTD), seen, start, end)
        hidden_BTD = hidden_BTD + self._after_attention(attended_BTD)
        return hidden_BTD + self._after_mlp(self._mlp(self._before_mlp(hidden_BTD)))

    def _attention(self, x_BTD: Tensor, seen: _Seen, start: int, end: int) -> Tensor:
        rows, tokens, _ = x_BTD.shape
        heads, key_heads, channels = self._heads, self.key_heads, self._channels
        all_BTHC = self._project(x_BTD).view(rows, tokens, heads + 2 * key_heads, channels)
        turned_BTHC, value_BTKC = all_BTHC.split([heads + key_heads, key_heads], dim=2)
        if self._head_norm is not None:
            turned_BTHC = self._head_norm(turned_BTHC)
        cos_BT1C, sin_BT1C = seen.turn
        turned_BTHC = torch.addcmul(turned_BTHC * cos_BT1C, turned_BTHC.roll(channels // 2, -1), sin_BT1C)
        query_BTHC, key_BTKC = turned_BTHC.split([heads, key_heads], dim=2)
        self._keys[:, :, start:end] = key_BTKC.transpose(1, 2)
        self._values[:, :, start:end] = value_BTKC.transpose(1, 2)
        keys_BKSC, values_BKSC = self._keys[:, :, seen.first : end], self._values[:, :, seen.first : end]
        group = heads // key_heads
        if tokens == 1:
            query_PGC = query_BTHC.reshape(rows * key_heads, group, channels) * self._scale
            keys_PSC, values_PSC = keys_BKSC.flatten(0, 1), values_BKSC.flatten(0, 1)
            scores_PGS = self._capped(torch.bmm(query_PGC, keys_PSC.transpose(1, 2)))
            if seen.bias is not None:
                scores_PGS = scores_PGS + seen.bias
            seen_BTD = torch.bmm(scores_PGS.softmax(-1), values_PSC).view(rows, 1, heads * channels)
        else:
            query_BHTC = query_BTHC.transpose(1, 2)
            keys_BHSC, values_BHSC = (x.repeat_interleave(group, 1) for x in (keys_BKSC, values_BKSC))
            if self._softcap is None:
                seen_BHTC = F.scaled_dot_product_attention(
                    query_BHTC, keys_BHSC, values_BHSC, attn_mask=seen.bias, scale=self._scale
                )
            else:
                assert seen.bias is not None
                scores_BHTS = self._capped(query_BHTC @ keys_BHSC.transpose(2, 3) * self._scale)
                seen_BHTC = scores_BHTS.masked_fill(~seen.bias, float("-inf")).softmax(-1) @ values_BHSC
            seen_BTD = seen_BHTC.transpose(1, 2).reshape(rows, tokens, heads * channels)
        return self._out(seen_BTD)

    def _capped(self, scores: Tensor) -> Tensor:
        return scores if self._softcap is None else torch.tanh(scores / self._softcap) * self._softcap


def shared_start(sequences: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The longest common start of all sequences."""
    length = min(map(len, sequences))
    first = sequences[0]
    same = (n for n in range(length) if any(other[n] != first[n] for other in sequences))
    return tuple(first[: next(same, length)])


def _worth_sharing(prompts: Sequence[Sequence[int]]) -> int:
    """Number of tokens with which all prompts begin; each keeps one of its own. 0 if sharing does not pay."""
    count = len(shared_start([ids[:-1] for ids in prompts]))
    return count if count >= _MIN_SHARED_TOKENS and len(prompts) > 1 else 0


def block_kinds(base: BaseModel) -> tuple[str, ...]:
    """The kind of each block."""
    config = base.model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    return tuple(kinds or [SLIDING if sliding_window(base) else FULL] * base.block_count)


def sliding_window(base: BaseModel) -> int | None:
    """Number of last tokens that a block of kind `SLIDING` attends to."""
    window: int | None = getattr(base.model.config.get_text_config(), "sliding_window", None)
    return window


def layout_fits(base: BaseModel, layout: BlockLayout) -> bool:
    """Whether the blocks match the layout and no hooks are on modules that would not be called."""
    for block in base.blocks:
        attention = getattr(block, layout.attention, None)
        names = (layout.query, layout.key, layout.value, layout.output, "head_dim", "scaling")
        if attention is None or not all(hasattr(attention, name) for name in names):
            return False
        norms = (layout.before_attention, layout.before_mlp, layout.after_attention, layout.after_mlp)
        if any(name and not hasattr(getattr(block, name, None), layout.epsilon) for name in norms):
            return False
        if any(_listened_to(module) for module in block.modules()):
            return False
    return not _listened_to(base.backbone) and hasattr(base.backbone, "rotary_emb")


def _listened_to(module: nn.Module) -> bool:
    """Whether the module has hooks other than Transformers' own, some of which stay and are idle while we decode."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return any(not getattr(hook, "__module__", "").startswith("transformers.") for hook in hooks)


def _cosines_and_sines(cos_1SC: Tensor, sin_1SC: Tensor) -> tuple[Tensor, Tensor]:
    """[S, C] each, for x·cos + roll(x)·sin with the sign of the first half in the sine: no concatenation in a step."""
    half = cos_1SC.shape[-1] // 2
    return cos_1SC[0], torch.cat([-sin_1SC[0, :, :half], sin_1SC[0, :, half:]], dim=-1)


def _norm(module: Any, layout: BlockLayout) -> LinearMap:
    return _rms_norm(module.weight, float(getattr(module, layout.epsilon)), layout)


def _norm_of_heads(modules: Sequence[Any], counts: Sequence[int], layout: BlockLayout) -> LinearMap:
    """The norms of queries and keys as one, [..., H + K, C]."""
    weights = [module.weight.expand(count, -1) for module, count in zip(modules, counts, strict=True)]
    return _rms_norm(torch.cat(weights), float(getattr(modules[0], layout.epsilon)), layout)


def _rms_norm(weight: Tensor, epsilon: float, layout: BlockLayout) -> LinearMap:
    offset = bool(layout.norm_offset)
    if offset:
        weight = weight.float() + layout.norm_offset

    def normed(x: Tensor) -> Tensor:
        # On a CPU F.rms_norm is ten small operations, and a mean is slow: a norm is one, and what follows is tiny.
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = norm.square_().mul_(1 / x.shape[-1]).add_(epsilon).rsqrt_()
        return (x * scale).mul_(weight).to(x.dtype) if offset else (x * scale).to(x.dtype).mul_(weight)

    return normed


def _unchanged(x: Tensor) -> Tensor:
    return x


def _mlp(base: BaseModel, module: Any, linears: FastLinears) -> LinearMap:
    """An MLP, with the base's own weights as they are laid out for few rows; anything else is called unchanged."""
    if hasattr(module, "beside"):
        found: LinearMap = module.beside(_mlp(base, module.frozen, linears))
        return found
    try:
        layout = mlp_layout(module)
    except UnsupportedModelError:
        return cast(LinearMap, module)
    if layout.gate is None or type(module) is not base.mlp_class:
        return cast(LinearMap, module)
    activation = getattr(module, layout.activation)
    gate_up = linears.together([getattr(module, layout.gate), getattr(module, layout.up)])
    down = linears.together([getattr(module, layout.down)], rounded_in=_IN_INT4)

    def run(x: Tensor) -> Tensor:
        gate, up = gate_up(x).chunk(2, dim=-1)
        return down(activation(gate).mul_(up))

    return run
