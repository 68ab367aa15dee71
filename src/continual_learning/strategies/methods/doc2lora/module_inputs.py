"""What a linear hypernetwork reads: the inputs of a module in some blocks, and which token comes next.

Shapes: C = chunks, L = blocks that are read, S = tokens, I = inputs of the module, D = width of an output embedding,
N = tokens of several texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from continual_learning.model.base_model import Attention, BaseModel
from continual_learning.model.families import captured_inputs
from continual_learning.strategies.methods.doc2lora.adapter import module_path


def padded(base: BaseModel, chunks: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return chunks as ``[C, S]``, padded on the right, and the mask ``[C, S]`` of tokens that another one follows."""
    longest = max(len(ids) for ids in chunks)
    ids_CS = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in chunks], device=base.device)
    lengths_C1 = torch.tensor([[len(ids)] for ids in chunks], device=base.device)
    return ids_CS, (torch.arange(longest, device=base.device) < lengths_C1 - 1).long()


def with_next(base: BaseModel, ids_CS: Tensor, input_CLSI: Tensor) -> Tensor:
    """Return ``[C, L, S, I + D]``: a module's input at each token, then the output embedding of the next token."""
    head: Any = base.model.get_output_embeddings()
    next_CSD = head.weight[ids_CS.roll(-1, dims=1)].to(input_CLSI.dtype)
    return torch.cat([input_CLSI, next_CSD[:, None].expand(-1, input_CLSI.shape[1], -1, -1)], dim=-1)


def module_inputs(
    base: BaseModel,
    hidden_CSD: Tensor,
    ids_CS: Tensor,
    first: int,
    blocks: Sequence[int],
    module: str,
    attention: Attention | None = None,
) -> Tensor:
    """Return ``[C, L, S, I]``: the input of the module in each of these blocks if block ``first`` reads ``hidden_CSD``.

    Differentiable. Padding on the right affects no other token. Nothing after the last of these modules is run.
    """
    places = {block: base.model.get_submodule(module_path(base, block, module)) for block in blocks}
    with captured_inputs(places, stop=True) as found:
        base.run_from(hidden_CSD, ids_CS, first, attention)
    return torch.stack([found[block] for block in blocks], dim=1)


@torch.no_grad()
def final_norm_inputs(base: BaseModel, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return hidden states before the final norm, ``[N, D]``, and that norm's weight, ``[D]``, ones if it has none.

    Both are on the CPU in fp32.
    """
    norms = [m for m in base.backbone.children() if isinstance(w := getattr(m, "weight", None), Tensor) and w.ndim == 1]
    last = base.block_count - 1
    states: list[Tensor] = []

    def keep(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        states.append((output[0] if isinstance(output, tuple) else output).flatten(0, -2).float().cpu())

    handle = base.blocks[last].register_forward_hook(keep)
    try:
        for ids in texts:
            ids_1S = torch.tensor([list(ids)], device=base.device)
            base.run_from(base.hidden_before(ids_1S, 0), ids_1S, 0)
    finally:
        handle.remove()
    weight: Any = norms[-1].weight if norms else torch.ones(base.hidden_size)
    return torch.cat(states), weight.detach().float().cpu()
