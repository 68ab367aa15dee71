"""What a measurement is made on."""

from __future__ import annotations

import torch

from continual_learning.base import BaseModel
from continual_learning.evaluation.machine import PeakMemory, count_gflop, machine_facts, matmul_gflops


def test_facts(tiny_base: BaseModel) -> None:
    facts = machine_facts(tiny_base)
    assert facts["cpu"] and facts["cores"] >= 1 and facts["matmul_gflops"] > 0 and facts["memory_bytes"] > 10**8


def test_peak_memory_sees_what_was_freed_again() -> None:
    with PeakMemory(torch.device("cpu")) as idle:
        pass
    with PeakMemory(torch.device("cpu")) as busy:
        for _ in range(20):  # long enough for the sampling to see it
            torch.ones(50_000_000).sum().item()
    assert busy.bytes > idle.bytes + 150_000_000


def test_operations_are_counted() -> None:
    a, b = torch.ones(10, 20), torch.ones(20, 30)
    assert count_gflop(lambda: a @ b) * 1e9 == 2 * 10 * 20 * 30
    assert matmul_gflops(torch.device("cpu"), size=64, seconds=0.01) > 0
