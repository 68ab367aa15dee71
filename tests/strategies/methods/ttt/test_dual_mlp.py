"""The Dual MLP is the base, bit for bit, until something is learned, and again when it is taken out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import FAMILIES, make_tiny

from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.strategies.methods.ttt.dual_mlp import (
    DualMLP,
    NeuronBranch,
    as_stored,
    branch_deltas,
    branch_from_deltas,
    dual_mlps,
)

IDS_BT = torch.tensor([[5, 9, 17, 3, 8, 30, 12, 4]])


def branches(base: BaseModel, neurons: list[int]) -> dict[int, NeuronBranch]:
    return {b: NeuronBranch(mlp_parts(base.mlp(b)), torch.tensor(neurons)) for b in range(base.block_count)}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("neurons", [range(64), (3, 7, 40)], ids=["full copy", "sparse"])
def test_logits_are_bit_equal_with_a_new_branch_and_after_it(family: str, neurons: range, tmp_path: Path) -> None:
    base = BaseModel.load(str(make_tiny(family, tmp_path)), device="cpu")
    with torch.no_grad():
        before = base.model(IDS_BT).logits
        made = branches(base, list(neurons))
        with base.patched(dual_mlps(base, made, 0.0)):
            assert torch.equal(base.model(IDS_BT).logits, before)
            for branch in made.values():
                branch.down_KD.add_(0.1)
            assert not torch.equal(base.model(IDS_BT).logits, before)
        assert torch.equal(base.model(IDS_BT).logits, before)
        with pytest.raises(RuntimeError), base.patched(dual_mlps(base, made, 0.0)):
            raise RuntimeError
        assert torch.equal(base.model(IDS_BT).logits, before)


def test_a_full_copy_with_the_frozen_output_weights_doubles_the_mlp(tiny_base: BaseModel) -> None:
    parts = mlp_parts(tiny_base.mlp(0))
    branch = NeuronBranch(parts, torch.arange(parts.intermediate_size))
    with torch.no_grad():
        branch.down_KD.copy_(parts.down_w.T)
        x = torch.randn(2, 3, parts.hidden_size, generator=torch.Generator().manual_seed(0))
        frozen = tiny_base.mlp(0)(x)
        torch.testing.assert_close(DualMLP(tiny_base.mlp(0), branch)(x), 2 * frozen)
        torch.testing.assert_close(DualMLP(tiny_base.mlp(0), branch, alpha=0.75)(x), 1.25 * frozen)


def test_alpha_of_one_is_refused(tiny_base: BaseModel) -> None:
    branch = NeuronBranch(mlp_parts(tiny_base.mlp(0)), torch.tensor([1]))
    with pytest.raises(ValueError, match="alpha = 1"):
        DualMLP(tiny_base.mlp(0), branch, 1.0)


def test_a_stored_branch_is_read_back_as_it_was_trained(tiny_base: BaseModel) -> None:
    parts = mlp_parts(tiny_base.mlp(1))
    branch = NeuronBranch(parts, torch.tensor([2, 5, 9]))
    generator = torch.Generator().manual_seed(1)
    values_KD = torch.randn(branch.down_KD.shape, generator=generator) * torch.tensor([[1e-4], [1.0], [0.0]])
    with torch.no_grad():
        branch.down_KD.copy_(as_stored(values_KD))
    kept = branch_deltas(branch)
    assert {name: (t.dtype, len(t)) for name, t in kept.items()} == {
        "neurons": (torch.int32, 3), "down": (torch.int8, 3), "scale": (torch.float32, 3)
    }  # fmt: skip
    assert kept["down"].abs().amax(dim=1).tolist() == [127, 127, 0]
    again = branch_from_deltas(parts, kept)
    torch.testing.assert_close(again.down_KD.data, branch.down_KD.data, rtol=1e-6, atol=0)
    assert ((again.down_KD - values_KD).abs() <= kept["scale"][:, None] / 2 * 1.001).all()
    assert not any(p.requires_grad for p in again.parameters())


def test_a_branch_of_an_earlier_version_computes_what_it_did(tiny_base: BaseModel) -> None:
    parts = mlp_parts(tiny_base.mlp(1))
    generator = torch.Generator().manual_seed(1)
    up, gate, down = torch.randn(3, 2, parts.hidden_size, generator=generator).half()
    branch = branch_from_deltas(
        parts, {"neurons": torch.tensor([2, 5], dtype=torch.int32), "up": up, "gate": gate, "down": down}
    )
    x = torch.randn(1, 4, parts.hidden_size, generator=generator)
    assert parts.gate_w is not None
    gated = parts.activation(x @ (parts.gate_w[[2, 5]] + gate.float()).T)
    expected = (gated * (x @ (parts.up_w[[2, 5]] + up.float()).T)) @ down.float()
    torch.testing.assert_close(branch(x), expected)
