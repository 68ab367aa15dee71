"""Frozen weights in 8 and 4 bits: near the full ones, smaller, and gradients pass through them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import make_tiny
from torch import nn

from continual_learning.errors import ConfigError, MismatchError, UnsupportedModelError
from continual_learning.memory.state import State, StateMeta
from continual_learning.memory.store import check_compatible
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.model.quantised import _NF4, FrozenWeights, QuantisedLinear, parameter_count, weight_bytes

KINDS: list[tuple[FrozenWeights, float]] = [("int8", 0.01), ("nf4", 0.12)]


def linear(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(100, 48, bias=bias).requires_grad_(False)  # 100: groups of 64 span rows, and the last is not full


@pytest.mark.parametrize(("kind", "error"), KINDS)
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_near(kind: FrozenWeights, error: float, bias: bool) -> None:
    full = linear(bias)
    rounded = QuantisedLinear(full, kind)
    x_ND = torch.randn(3, 5, 100, requires_grad=True)
    wanted, found = full(x_ND), rounded(x_ND)
    assert 0 < (found - wanted).norm() / wanted.norm() < error
    upstream = torch.randn_like(wanted)
    [wanted_x], [found_x] = (torch.autograd.grad(y, x_ND, upstream) for y in (wanted, found))
    assert 0 < (found_x - wanted_x).norm() / wanted_x.norm() < error
    # exactly those of the weights that the codes mean
    [exact_x] = torch.autograd.grad(nn.functional.linear(x_ND, rounded.weight), x_ND, upstream)
    torch.testing.assert_close(found_x, exact_x)


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8), ("nf4", 4.25)])
def test_it_keeps_codes_and_nothing_for_the_backward_pass(kind: FrozenWeights, bits: float) -> None:
    big = QuantisedLinear(nn.Linear(512, 512, bias=False), kind)
    held = sum(t.numel() * t.element_size() for t in (*big.buffers(), *big.parameters()))
    scales = 4 * 512 if kind == "int8" else 0  # in nf4 they are part of the 4.25 bits
    assert held == 512 * 512 * bits / 8 + scales
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        big(torch.randn(2, 512, requires_grad=True)).sum().backward()
    assert sum(kept) < 512 * 512


def test_values_on_the_levels_are_kept_exactly() -> None:
    full = linear(False)
    levels = torch.tensor(_NF4)
    full.weight = nn.Parameter(levels[torch.randint(0, 16, (48, 100))] * 0.5, requires_grad=False)
    full.weight.view(-1)[::64] = 0.5  # each group's largest
    torch.testing.assert_close(QuantisedLinear(full, "nf4").weight, full.weight, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "gemma3", "gpt_neox"])
@pytest.mark.parametrize(("kind", "error"), KINDS)
def test_a_base_with_its_blocks_held_in_fewer_bits(
    kind: FrozenWeights, error: float, family: str, tmp_path: Path
) -> None:
    folder = str(make_tiny(family, tmp_path))
    full, held = BaseModel.load(folder, device="cpu"), BaseModel.load(folder, device="cpu", frozen_weights=kind)
    rounded = [m for m in held.model.modules() if isinstance(m, QuantisedLinear)]
    assert len(rounded) == sum(type(m) is nn.Linear for m in full.model.modules()) - 1, "all but the head"
    assert torch.equal(held.model.get_output_embeddings().weight, full.model.get_output_embeddings().weight)
    wanted, found = mlp_parts(full.mlp(-1)), mlp_parts(held.mlp(-1))
    assert wanted.up_w.shape == found.up_w.shape and found.up_w.dtype == torch.float32
    assert parameter_count(held.model) == parameter_count(full.model)
    assert weight_bytes(held.model) < weight_bytes(full.model)
    assert 0 < (found.down_w - wanted.down_w).norm() / wanted.down_w.norm() < error


def test_it_is_another_base_and_a_memory_says_so(tmp_path: Path) -> None:
    folder = str(make_tiny("llama", tmp_path))
    full, held = BaseModel.load(folder, device="cpu"), BaseModel.load(folder, device="cpu", frozen_weights="nf4")
    assert held.fingerprint == f"nf4-{full.fingerprint}"
    state = State({}, StateMeta("ttt", {}, "tiny", held.fingerprint))
    check_compatible(state, "ttt", held.fingerprint, "tiny")
    with pytest.raises(MismatchError, match=r"weights in nf4; now they are in full: set model\.frozen_weights to nf4"):
        check_compatible(state, "ttt", full.fingerprint, "tiny")
    with pytest.raises(MismatchError, match=r"in nf4; now they are in int8"):
        check_compatible(state, "ttt", f"int8-{full.fingerprint}", "tiny")


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    folder = str(make_tiny("llama", tmp_path))
    with pytest.raises(ConfigError, match=r"precision = 'int8' with frozen_weights = 'nf4'.*expected one of them"):
        BaseModel.load(folder, device="cpu", precision="int8", frozen_weights="nf4")
    with pytest.raises(UnsupportedModelError, match=r"GPT2LMHeadModel has no torch\.nn\.Linear in its blocks"):
        BaseModel.load(str(make_tiny("gpt2", tmp_path)), device="cpu", frozen_weights="int8")
