"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174) where activations would not fit, and their offload.

A block then keeps its input alone and runs again in the backward pass, which gives the same gradients (bit for bit on
a CPU) for a third more work. On a GPU even these inputs can be kept in the CPU's memory instead. What happens is
decided anew for every forward pass, from counted bytes and the memory that is free: there is nothing to set.

Shapes: B = rows, T = tokens, D = hidden size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import psutil
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from continual_learning.model.families import is_transposed, linear_sizes

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel

Kept = Literal["all", "inputs", "offloaded inputs"]
"""What is kept for the backward pass: all activations, the blocks' inputs, or these in the CPU's memory."""

# The rest is for gradients, the head's logits and what other passes need.
_SHARE = 0.5


class Checkpointed(nn.Module):
    """A block that keeps its input alone for the backward pass. Other attributes are the block's own."""

    def __init__(self, block: nn.Module, offload: bool = False):
        super().__init__()
        self.block = block
        self._offload = offload

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the block returns for hidden states [B, T, D]."""
        place = hidden_states.device
        # By the time it runs again, what a strategy had put into the base may be out of it.
        parts = [(m, m._modules.copy(), m._parameters.copy()) for m in self.block.modules()]

        def run(kept_BTD: Tensor) -> Any:
            with _in_place(parts):
                return self.block(kept_BTD.to(place), *args, **kwargs)

        kept_BTD = hidden_states.cpu() if self._offload else hidden_states
        return checkpoint(run, kept_BTD, use_reentrant=False, preserve_rng_state=False)


_Part = tuple[nn.Module, dict[str, nn.Module | None], dict[str, nn.Parameter | None]]


@contextlib.contextmanager
def _in_place(parts: Sequence[_Part]) -> Iterator[None]:
    """Let modules have these children and parameters within the block."""
    now = [(m, m._modules, m._parameters) for m, _, _ in parts]
    try:
        for module, modules, parameters in parts:
            vars(module).update(_modules=modules, _parameters=parameters)
        yield
    finally:
        for module, modules, parameters in now:
            vars(module).update(_modules=modules, _parameters=parameters)


@contextlib.contextmanager
def activations_fit(base: BaseModel, tokens: int, first_block: int = 0) -> Iterator[None]:
    """Within the block, a forward pass of this many tokens through blocks ``first_block`` on keeps what fits."""
    kept = what_to_keep(base, tokens, first_block) if torch.is_grad_enabled() else "all"
    if kept == "all":
        yield
        return
    chosen = range(first_block % base.block_count, base.block_count)
    offload = kept == "offloaded inputs"
    with base.patched({base.block_path(i): Checkpointed(base.blocks[i], offload) for i in chosen}):
        yield


def what_to_keep(base: BaseModel, tokens: int, first_block: int = 0) -> Kept:
    """The most that fits into half of the memory that is free."""
    count = base.block_count - first_block % base.block_count
    room = _SHARE * free_bytes(base.device)
    if count * tokens * activation_bytes(base) <= room:
        return "all"
    inputs = count * tokens * base.hidden_size * base.model.dtype.itemsize
    return "inputs" if inputs <= room or base.device.type == "cpu" else "offloaded inputs"


def activation_bytes(base: BaseModel) -> int:
    """Bytes that a block keeps of a token, by the inputs and outputs of its linear layers."""

    def counted() -> int:
        layers = [m for m in base.blocks[-1].modules() if isinstance(m, nn.Linear) or is_transposed(m)]
        return sum(map(sum, map(linear_sizes, layers))) * int(base.model.dtype.itemsize)

    return base.remember("activation bytes", counted)


def free_bytes(device: torch.device) -> int:
    """Memory that can still be allocated on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(psutil.virtual_memory().available)
