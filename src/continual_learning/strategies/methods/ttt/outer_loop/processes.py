"""One process, or several that share the passages of a step, through Hugging Face accelerate.

``accelerate launch --num_processes 2 …`` starts them; a plain command is one process. Sums over processes are the only
thing that they exchange.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """This process among the others."""

    rank: int
    count: int
    device: torch.device

    @classmethod
    def join(cls, device: str = "auto") -> Processes:
        """Join the others that the launcher started, if there are any. ``cpu`` keeps all of them off the GPUs."""
        state = PartialState(cpu=device == "cpu")
        chosen = state.device if device == "auto" or state.num_processes > 1 else torch.device(device)
        return cls(state.process_index, state.num_processes, chosen)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return which of ``count`` things this process does."""
        return range(self.rank, count, self.count)

    def wait(self) -> None:
        """Wait until all processes have arrived."""
        if self.count > 1:
            PartialState().wait_for_everyone()

    def total(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return each tensor summed over all processes."""
        if self.count == 1:
            return list(tensors)
        summed: list[Tensor] = reduce(list(tensors), reduction="sum")
        return summed
