"""What a linear hypernetwork reads: the inputs of a module in some blocks, and which token comes next.

Shapes: C = chunks, L = blocks that are read, S = tokens, I = inputs of the module, D = width of an output embedding,
N = tokens of several texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from continual_learning.base import BaseModel
from continual_learning.doc2lora.adapter import module_path


@torch.no_grad()
def memory_inputs(
    base: BaseModel, chunks: Sequence[Sequence[int]], blocks: Sequence[int], module: str
) -> tuple[Tensor, Tensor]:
    """``[C, L, S, I + D]`` and the mask ``[C, S]`` of tokens that have one behind them; padded on the right."""
    longest = max(len(ids) for ids in chunks)
    ids_CS = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in chunks], device=base.device)
    lengths_C1 = torch.tensor([[len(ids)] for ids in chunks], device=base.device)
    mask_CS = (torch.arange(longest, device=base.device) < lengths_C1 - 1).long()
    input_CLSI = module_inputs(base, ids_CS, blocks, module)
    head: Any = base.model.get_output_embeddings()
    next_CSD = head.weight[ids_CS.roll(-1, dims=1)].to(input_CLSI.dtype)
    next_CLSD = next_CSD[:, None].expand(-1, len(blocks), -1, -1)
    return torch.cat([input_CLSI, next_CLSD], dim=-1), mask_CS


@torch.no_grad()
def module_inputs(base: BaseModel, ids_CS: Tensor, blocks: Sequence[int], module: str) -> Tensor:
    """``[C, L, S, I]``: what the module of each of these blocks reads. Padding on the right reaches nothing else."""
    with caught_inputs(base, blocks, module) as found:
        base.hidden_before(ids_CS, max(blocks) + 1) if max(blocks) + 1 < base.block_count else base.run_from(
            base.hidden_before(ids_CS, 0), ids_CS, 0
        )
    return torch.stack([found[block] for block in blocks], dim=1)


@contextmanager
def caught_inputs(base: BaseModel, blocks: Sequence[int], module: str) -> Iterator[dict[int, Tensor]]:
    """What the module of each of these blocks reads while the base runs, by block."""
    found: dict[int, Tensor] = {}

    def keep(block: int) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
            found[block] = args[0]

        return hook

    places = [(block, base.model.get_submodule(module_path(base, block, module))) for block in blocks]
    handles = [place.register_forward_pre_hook(keep(block)) for block, place in places]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def final_norm_inputs(base: BaseModel, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Hidden states before the final norm, ``[N, D]``, and that norm's weight, ``[D]``, ones where there is none.

    Both on the CPU in fp32.
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
