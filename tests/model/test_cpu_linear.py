"""Products from weights that were laid out for few rows: the same, and never from a weight that has changed."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from continual_learning.model.cpu_linear import FastLinears


@pytest.fixture
def model() -> nn.ModuleDict:
    torch.manual_seed(0)
    layers = {"a": nn.Linear(32, 48), "b": nn.Linear(32, 16), "plain": nn.Linear(32, 64, bias=False)}
    return nn.ModuleDict(layers).requires_grad_(False)


@pytest.mark.parametrize("rows", [1, 3, 16, 200])
def test_products_side_by_side(model: nn.ModuleDict, rows: int) -> None:
    x = torch.randn(rows, 32)
    both = FastLinears(model).together([model["a"], model["b"]])
    torch.testing.assert_close(both(x), torch.cat([model["a"](x), model["b"](x)], -1), rtol=1e-4, atol=1e-5)
    plain = FastLinears(model).together([model["plain"]])
    torch.testing.assert_close(plain(x[None]), model["plain"](x)[None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("room", [False, True])
@pytest.mark.parametrize("rows", [1, 16, 200])
@pytest.mark.parametrize("name", ["a", "plain"])
def test_a_change_of_low_rank_is_added(
    name: str, rows: int, room: bool, model: nn.ModuleDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = model[name]
    x, a_RD, b_FR = torch.randn(rows, 32), torch.randn(2, 32), torch.randn(len(linear.weight), 2)
    wanted = linear(x) + x @ a_RD.T @ b_FR.T
    size = sum(4 * p.numel() for p in model.parameters())
    # a copy of the weights takes a fifth of the memory, and one with the change as much again
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=5 * size * (2 if room else 1)))
    linears = FastLinears(model)
    product = linears.with_low_rank(linear, a_RD, b_FR)
    torch.testing.assert_close(product(x), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(product(x[None])[0], wanted, rtol=1e-4, atol=1e-4)
    linear.weight.mul_(2)
    after = linears.with_low_rank(linear, a_RD, b_FR)
    torch.testing.assert_close(after(x), linear(x) + x @ a_RD.T @ b_FR.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 16, 200])
def test_eight_bits_are_near(model: nn.ModuleDict, rows: int) -> None:
    x = torch.randn(rows, 32)
    found = FastLinears(model, "int8").together([model["a"]])(x)
    error = (found - model["a"](x)).norm() / model["a"](x).norm()
    assert 0 < error < 0.03
    exact = FastLinears(model, "int8").together([model["a"]], rounded_in=())(x)
    torch.testing.assert_close(exact, model["a"](x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 16, 200])
def test_four_bits_are_near(model: nn.ModuleDict, rows: int) -> None:
    x = torch.randn(rows, 32)
    found = FastLinears(model, "int4").together([model["a"], model["b"]])(x)
    exact = torch.cat([model["a"](x), model["b"](x)], -1)
    # 16 evenly spaced values of weights that are evenly spread: an error of a fifteenth of their range, over √12
    assert (found - exact).norm() / exact.norm() < (0.08 if rows <= 8 else 1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_weights_of_four_bits_lose_only_what_bfloat16_rounds(bias: bool) -> None:
    """Weights as GGUF's Q4_1 holds them: codes 0 to 15 with a scale and a least value for 32 inputs each."""
    torch.manual_seed(1)
    linear = nn.Linear(96, 48, bias=bias)
    code_FGI = torch.randint(0, 16, (48, 3, 32))
    code_FGI[..., 0], code_FGI[..., 1] = 0, 15
    scale_FG1, low_FG1 = torch.rand(48, 3, 1).half().float() / 50, -torch.rand(48, 3, 1).half().float() / 5
    linear.weight = nn.Parameter((code_FGI * scale_FG1 + low_FG1).flatten(1), requires_grad=False)
    model = nn.Sequential(linear.requires_grad_(False))
    x = torch.randn(4, 96)
    found = FastLinears(model, "int4").together([linear])(x)
    assert (found - linear(x)).norm() / linear(x).norm() < 5e-3
    assert not torch.equal(found, linear(x))


def test_weights_that_do_not_come_in_groups_are_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(40, 48), nn.Linear(32, 40)).requires_grad_(False)
    fast = FastLinears(model, "int4")
    for linear in model:
        x = torch.randn(2, linear.in_features)
        torch.testing.assert_close(fast.together([linear])(x), linear(x), rtol=1e-4, atol=1e-5)


def test_a_weight_written_to_is_not_taken_from_the_copy(model: nn.ModuleDict) -> None:
    fast, x = FastLinears(model), torch.randn(2, 32)
    before = fast.together([model["a"]])(x)
    model["a"].weight.add_(1.0)
    after = fast.together([model["a"]])(x)
    assert torch.equal(after, model["a"](x)) and not torch.allclose(after, before)


def test_a_weight_that_is_not_the_models_is_used_as_it_is(model: nn.ModuleDict) -> None:
    fast, x = FastLinears(model), torch.randn(2, 32)
    fast.together([model["a"]])(x)
    own = model["a"].weight
    model["a"].weight = nn.Parameter(own + 1.0)
    assert torch.equal(fast.together([model["a"]])(x), model["a"](x))
    other = nn.Linear(32, 8)
    assert torch.equal(fast.together([other])(x), other(x))
    wrapped = nn.Sequential(model["b"])
    assert torch.equal(fast.together([wrapped])(x), model["b"](x))


def test_a_copy_is_made_once(model: nn.ModuleDict, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = FastLinears(model)
    first = fast.together([model["a"], model["b"]])
    assert fast.together([model["a"], model["b"]]) is first
    # a model that takes too much of the memory gets none
    monkeypatch.setattr("continual_learning.model.cpu_linear._MOST_MEMORY", 0.0)
    small = FastLinears(model)
    x = torch.randn(1, 32)
    assert torch.equal(small.together([model["a"]])(x), model["a"](x))
