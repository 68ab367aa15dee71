"""Sampling the next token: temperature, top-k and top-p.

Shapes: B = rows of a batch, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from continual_learning.text.words import hash_63

Choose = Callable[[Tensor], Tensor]
"""Maps logits [B, V] to tokens [B]."""


def sampler(temperature: float, top_k: int, top_p: float, seed: str) -> Choose | None:
    """A sampler of tokens; None for the likeliest token each time, which ``temperature`` 0 means.

    ``top_k`` 0 and ``top_p`` 1 leave all tokens in (Holtzman et al. 2020, arXiv 1904.09751, for top-p).
    """
    if temperature == 0:
        return None
    generator = torch.Generator().manual_seed(hash_63(seed))

    def choose(logits_BV: Tensor) -> Tensor:
        ranked_BV, order_BV = (logits_BV.float().cpu() / temperature).sort(dim=-1, descending=True)
        if top_k:
            ranked_BV[:, top_k:] = -torch.inf
        share_BV = ranked_BV.softmax(-1)
        # a token stays if those before it do not make up p yet, so that the first always does
        share_BV = share_BV.masked_fill(share_BV.cumsum(-1) - share_BV >= top_p, 0.0)
        picked_B1 = torch.multinomial(share_BV, 1, generator=generator)
        return order_BV.gather(-1, picked_B1)[:, 0].to(logits_BV.device)

    return choose
