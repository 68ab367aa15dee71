"""What a measurement is made on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from continual_learning.evaluation.machine import PeakMemory, count_gflop, machine_facts
from continual_learning.model.base_model import BaseModel
from continual_learning.model.cpu_linear import FastLinears, Precision
from continual_learning.model.machine import matmul_gflops

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("precision", ["full", "int8"])
def test_products_from_weights_laid_out_anew_are_counted(precision: Precision) -> None:
    model = nn.Sequential(nn.Linear(32, 48, bias=False)).requires_grad_(False)
    product = FastLinears(model, precision).together([model[0]])
    assert count_gflop(lambda: product(torch.ones(3, 32))) * 1e9 == pytest.approx(2 * 3 * 32 * 48)


def test_attention_is_counted_forth_and_back() -> None:
    query, key, value = (torch.ones(1, 2, 5, 8, requires_grad=True) for _ in range(3))

    def forth() -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)

    forward = 2 * (2 * 2 * 5 * 5 * 8)  # scores, and their product with the values: both heads
    assert count_gflop(forth) * 1e9 == pytest.approx(forward)
    assert count_gflop(lambda: forth().sum().backward()) * 1e9 >= 3 * forward
