"""The M3 optimiser."""

from __future__ import annotations

import pytest
import torch

from continual_learning.strategies.methods.nested.m3 import M3
from continual_learning.training.muon import orthogonalised


def gradients(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 6, generator=generator) for _ in range(count)]


def run(count: int, **settings: float) -> tuple[torch.nn.Parameter, M3]:
    weight = torch.nn.Parameter(torch.zeros(4, 6))
    optimizer = M3([weight], lr=0.1, **settings)  # type: ignore[arg-type]
    for gradient in gradients(count):
        weight.grad = gradient.clone()
        optimizer.step()
    return weight, optimizer


def test_a_step_is_that_of_the_equations() -> None:
    weight, _ = run(2, slow_every=2, slow_share=0.5, momentum=0.9, slow_momentum=0.8)
    first, second = gradients(2)
    scale = 0.1 * 0.2 * 6**0.5
    fast = 0.1 * first
    expected = -scale * orthogonalised(fast[None])[0]
    fast = 0.9 * fast + 0.1 * second
    slow = 0.2 * (first + second) / 2
    expected -= scale * (orthogonalised(fast[None])[0] + 0.5 * orthogonalised(slow[None])[0])
    assert torch.allclose(weight, expected, atol=1e-5)


def test_the_slow_momentum_stands_still_between_its_steps() -> None:
    _, optimizer = run(4, slow_every=5)
    [state] = optimizer.state.values()
    assert not state["slow_momentum"].any() and state["collected"].any()
    _, optimizer = run(5, slow_every=5)
    [state] = optimizer.state.values()
    assert state["slow_momentum"].any() and not state["collected"].any()


@pytest.mark.parametrize("setting", [{"slow_share": 0.1}, {"slow_every": 1}, {"slow_momentum": 0.5}, {"momentum": 0.5}])
def test_every_setting_counts(setting: dict[str, float]) -> None:
    assert not torch.equal(run(6)[0], run(6, **setting)[0])


def test_weight_decay_shrinks() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 6))
    weight.grad = torch.zeros(4, 6)
    M3([weight], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(weight, torch.full((4, 6), 0.95))
