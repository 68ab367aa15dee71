"""Muon's update is nearly orthogonal, and it descends."""

from __future__ import annotations

import torch

from continual_learning.training.muon import Muon, orthogonalised


def test_singular_values_come_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((2, 8, 24), (2, 24, 8)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape, generator=generator)))
        assert values.min() > 0.5 and values.max() < 1.3


def test_it_fits_a_linear_map() -> None:
    generator = torch.Generator().manual_seed(0)
    x, target = torch.randn(64, 6, generator=generator), torch.randn(6, 4, generator=generator)
    weight = torch.zeros(6, 4, requires_grad=True)
    optimizer = Muon([weight], lr=0.1)
    for step in range(200):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 200)
        optimizer.zero_grad()
        loss = ((x @ weight - x @ target) ** 2).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-2
