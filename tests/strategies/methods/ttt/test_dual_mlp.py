"""The Dual MLP is the base, bit for bit, until something is learned, and again when it is taken out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import FAMILIES, make_tiny

from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.strategies.methods.ttt.dual_mlp import DualMLP, NeuronBranch, branch_deltas, branch_from_deltas

IDS_BT = torch.tensor([[5, 9, 17, 3, 8, 30, 12, 4]])


def branches(base: BaseModel, neurons: list[int], train: str = "all") -> dict[int, NeuronBranch]:
    return {
        b: NeuronBranch(mlp_parts(base.mlp(b)), torch.tensor(neurons), train)  # type: ignore[arg-type]
        for b in range(base.block_count)
    }


def dual(base: BaseModel, made: dict[int, NeuronBranch], alpha: float = 0.0) -> dict[str, torch.nn.Module]:
    return {base.mlp_path(b): DualMLP(base.mlp(b), branch, alpha) for b, branch in made.items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("neurons", [range(64), (3, 7, 40)], ids=["full copy", "sparse"])
def test_logits_are_bit_equal_with_a_new_branch_and_after_it(family: str, neurons: range, tmp_path: Path) -> None:
    base = BaseModel.load(str(make_tiny(family, tmp_path)), device="cpu")
    with torch.no_grad():
        before = base.model(IDS_BT).logits
        made = branches(base, list(neurons))
        with base.patched(dual(base, made)):
            assert torch.equal(base.model(IDS_BT).logits, before)
            for branch in made.values():
                branch.down_KD.add_(0.1)
            assert not torch.equal(base.model(IDS_BT).logits, before)
        assert torch.equal(base.model(IDS_BT).logits, before)
        with pytest.raises(RuntimeError), base.patched(dual(base, made)):
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


def test_values_only_trains_output_weights_alone(tiny_base: BaseModel) -> None:
    parts = mlp_parts(tiny_base.mlp(0))
    assert set(NeuronBranch(parts, torch.tensor([1, 2]), "values").learned()) == {"down_KD"}
    assert set(NeuronBranch(parts, torch.tensor([1, 2]), "all").learned()) == {"down_KD", "up_KD", "gate_KD"}


@pytest.mark.parametrize("train", ["values", "all"])
def test_deltas_give_the_branch_back(tiny_base: BaseModel, train: str) -> None:
    parts = mlp_parts(tiny_base.mlp(1))
    branch = NeuronBranch(parts, torch.tensor([2, 5, 9]), train)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in branch.learned().values():
            weight.add_(torch.randn(weight.shape, generator=generator))
    again = branch_from_deltas(parts, branch_deltas(branch, parts, torch.float32))
    x = torch.randn(1, 4, parts.hidden_size, generator=generator)
    torch.testing.assert_close(again(x), branch(x))
    half = branch_deltas(branch, parts, torch.float16)
    assert half["down"].dtype == torch.float16 and half["neurons"].tolist() == [2, 5, 9]
    assert not any(p.requires_grad for p in branch_from_deltas(parts, half).parameters())
