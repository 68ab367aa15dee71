"""One step of decoding: Transformers' own, for any model, and a fast one for the common kinds of blocks.

The fast decoder (`fast_decoder`) is used only for a model on which it was checked against Transformers' forward pass.

Shapes: B = rows of a batch, T = tokens of the prompts, padding included, D = hidden size, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from continual_learning.model.cpu_linear import FastLinears
from continual_learning.model.fast_decoder import FastDecoder, block_kinds, layout_fits, sliding_window
from continual_learning.model.network.parts import FULL, SLIDING

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel

# A longer window is not filled when the decoder is compared with the model: that would take seconds.
_MOST_CHECKED_WINDOW = 64


class Decoder(Protocol):
    """Decodes a batch of prompts step by step, and holds what was read so far."""

    def read(self, prompts: Sequence[Sequence[int]], check: Callable[[], None] = lambda: None) -> Tensor:
        """Read the prompts; the final hidden state of each one's last token, [B, D].

        ``check`` is called in between where the decoder reads a long prompt piece by piece; it may raise.
        """

    def step(self, ids_B: Tensor) -> Tensor:
        """Read one token more in each row; its final hidden state, [B, D]."""

    def select(self, rows_B: Tensor) -> None:
        """Keep only these rows."""

    def logits(self, last_BD: Tensor) -> Tensor:
        """Logits of the next token, [B, V]."""


def make_decoder(base: BaseModel, room: int) -> Decoder:
    """The fastest decoder that agrees with ``base`` as currently patched; ``room``: the most tokens to be added."""
    layout = base.family.block_layout
    if layout is not None and layout_fits(base, layout) and decodes_fast(base):
        return FastDecoder(base, layout, room)
    return TransformersDecoder(base)


def decodes_fast(base: BaseModel) -> bool:
    """Whether the fast decoder agrees with the model itself. Tried once, when the base first generates."""
    return base.own_network or base.remember("decodes fast", lambda: _agrees(base))


def _agrees(base: BaseModel) -> bool:
    """Compare both decoders on short, unequal prompts. They read the modules anew, so patches do not matter."""
    layout = base.family.block_layout
    if layout is None or not set(block_kinds(base)) <= {FULL, SLIDING} or not layout_fits(base, layout):
        return False
    window = sliding_window(base) or 0
    few = max(13, window + 6 if window <= _MOST_CHECKED_WINDOW else 0)  # enough for a shared start
    ids = [1 + i % (base.vocab_size - 1) for i in range(min(few, base.window - 2))]
    prompts = [ids, ids[:-3]]
    with torch.no_grad():
        results = []
        # Only the path through the blocks is checked; laying out the weights waits for the first answer.
        linears = FastLinears.none()
        for decoder in (TransformersDecoder(base), FastDecoder(base, layout, 2, linears)):
            first_BV = decoder.logits(decoder.read(prompts))
            second_BV = decoder.logits(decoder.step(torch.tensor([1, 2], device=base.device)))
            results.append(torch.stack([first_BV, second_BV]))
    expected, found = results
    tolerance = 1e-3 if expected.dtype == torch.float32 else 3e-2
    return float((expected - found).abs().max()) <= tolerance * float(expected.abs().max())


class TransformersDecoder:
    """The model's own forward pass, with its growing cache."""

    def __init__(self, base: BaseModel):
        self._base = base
        self._cache = base.new_cache()

    def read(self, prompts: Sequence[Sequence[int]], check: Callable[[], None] = lambda: None) -> Tensor:
        """See `Decoder`."""
        device, longest = self._base.device, max(map(len, prompts))
        pads = [longest - len(ids) for ids in prompts]
        ids_BT = torch.tensor([[0] * pad + list(ids) for pad, ids in zip(pads, prompts, strict=True)], device=device)
        self._mask_BT: Tensor | None = None
        if any(pads):
            self._mask_BT = (torch.arange(longest)[None] >= torch.tensor(pads)[:, None]).to(device, torch.long)
        self._positions_BT = (torch.arange(longest)[None] - torch.tensor(pads)[:, None]).clamp(min=0).to(device)
        return self._forward(ids_BT)

    def step(self, ids_B: Tensor) -> Tensor:
        """See `Decoder`."""
        self._positions_BT = self._positions_BT[:, -1:] + 1
        if self._mask_BT is not None:
            self._mask_BT = torch.cat([self._mask_BT, self._mask_BT.new_ones(len(ids_B), 1)], dim=1)
        return self._forward(ids_B[:, None])

    def select(self, rows_B: Tensor) -> None:
        """See `Decoder`."""
        self._positions_BT = self._positions_BT[rows_B]
        if self._mask_BT is not None:
            self._mask_BT = self._mask_BT[rows_B]
        self._cache.batch_select_indices(rows_B)

    def logits(self, last_BD: Tensor) -> Tensor:
        """See `Decoder`."""
        return self._base.logits(last_BD)

    def _forward(self, ids_BT: Tensor) -> Tensor:
        out = self._base.backbone(
            input_ids=ids_BT,
            attention_mask=self._mask_BT,
            position_ids=self._positions_BT,
            past_key_values=self._cache,
            use_cache=True,
        )
        last_BD: Tensor = out.last_hidden_state[:, -1]
        return last_BD
