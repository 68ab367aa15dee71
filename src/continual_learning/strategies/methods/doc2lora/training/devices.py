"""One process, or several that share the work of a training step, through accelerate."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Devices:
    """The processes of a run, one per device."""

    count: int
    rank: int
    _accelerator: Any = None

    @property
    def main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, items: list[Any]) -> list[Any]:
        """Return this process's part of a step."""
        return items[self.rank :: self.count]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes; a parameter without one counts as zero."""
        if self._accelerator is None:
            return
        for parameter in parameters:
            own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self._accelerator.reduce(own, reduction="sum")

    def sum(self, value: float) -> float:
        """Return the sum of one number over all processes."""
        if self._accelerator is None:
            return value
        place = self._accelerator.device
        return float(self._accelerator.reduce(torch.tensor(value, device=place), reduction="sum"))

    def wait(self) -> None:
        """Wait until all processes have arrived."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()


def devices(cpu: bool) -> Devices:
    """Return the processes that ``accelerate launch`` started, or else this single one."""
    if process_count() == 1:
        return Devices(1, 0)
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=cpu)
    return Devices(accelerator.num_processes, accelerator.process_index, accelerator)


def process_count() -> int:
    """Return the number of processes of this launch."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Return this process's number; process 0 writes files and reports."""
    return int(os.environ.get("RANK", "0"))


def local_device(device: str) -> str:
    """Return this process's device: of several processes on GPUs, each has its own."""
    return (
        f"cuda:{os.environ['LOCAL_RANK']}"
        if process_count() > 1 and device in ("auto", "cuda") and torch.cuda.is_available()
        else device
    )
