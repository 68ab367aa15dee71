"""Gradient checkpointing: the same gradients from fewer kept activations, when memory is short and only then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import FAMILIES, make_tiny
from torch import Tensor, nn

from continual_learning.model import checkpointing
from continual_learning.model.base_model import BaseModel
from continual_learning.model.checkpointing import Checkpointed, activation_bytes, what_to_keep
from continual_learning.strategies.methods.doc2lora.module_inputs import module_inputs
from continual_learning.training import gradient_descent
from continual_learning.training.examples import text_item
from continual_learning.training.gradient_descent import next_token_loss

GB = 10**9


@pytest.fixture(params=[*FAMILIES])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> BaseModel:
    return BaseModel.load(str(make_tiny(request.param, tmp_path)), device="cpu")


def free(monkeypatch: pytest.MonkeyPatch, room: float) -> None:
    monkeypatch.setattr(checkpointing, "free_bytes", lambda device: room)


def gradients(base: BaseModel, work: Callable[[Tensor], Tensor], hidden_BTD: Tensor) -> tuple[list[Tensor], int]:
    """The gradients of what a low-rank change and the input get, and the elements kept for them."""
    torch.manual_seed(1)
    kept: set[tuple[int, int]] = set()
    own = {p.data_ptr() for p in base.model.parameters()}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept.add((tensor.data_ptr(), tensor.numel()))
        return tensor

    start = hidden_BTD.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        out = work(start)
        out.square().mean().backward()
    assert start.grad is not None
    return [start.grad], sum(size for _, size in kept)


@pytest.mark.parametrize("block", [0, 1])
def test_gradients_are_the_same_and_less_is_kept(base: BaseModel, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ids_BT = torch.arange(80).view(2, 40)
    hidden_BTD = base.hidden_before(ids_BT, block)

    def work(start: Tensor) -> Tensor:
        return base.run_from(start, ids_BT, block)

    free(monkeypatch, GB)
    [wanted], all_kept = gradients(base, work, hidden_BTD)
    free(monkeypatch, 0)
    [found], kept = gradients(base, work, hidden_BTD)
    assert torch.equal(found, wanted) and wanted.norm() > 0
    assert kept < all_kept / 3
    assert not any(isinstance(m, Checkpointed) for m in base.model.modules()), "the base is as it was"


def test_weights_inside_a_block_get_the_same_gradients(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    item = text_item(base, "The quick brown fox lives in Paris with seven cats.")
    gains = [nn.Parameter(torch.ones(base.hidden_size)) for _ in base.blocks]

    class Scaled(nn.Module):
        def __init__(self, mlp: nn.Module, gain_D: nn.Parameter):
            super().__init__()
            self.mlp, self.gain_D = mlp, gain_D

        def forward(self, x: Tensor) -> Tensor:
            return self.mlp(x) * self.gain_D

    found = []
    for room in (GB, 0):
        free(monkeypatch, room)
        with base.patched({base.mlp_path(i): Scaled(base.mlp(i), gain) for i, gain in enumerate(gains)}):
            loss = gradient_descent.item_loss(base, [item])
        found.append(torch.autograd.grad(loss, gains))
    assert all(torch.equal(a, b) and a.norm() > 0 for a, b in zip(*found, strict=True))


def test_it_is_used_when_memory_is_short_and_gradients_are_wanted(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 100 * 3 * activation_bytes(tiny_base)
    free(monkeypatch, 2 * needed)
    assert what_to_keep(tiny_base, 100, 1) == "all" and what_to_keep(tiny_base, 101, 1) == "inputs"
    assert what_to_keep(tiny_base, 100) == "inputs" and what_to_keep(tiny_base, 100, -3) == "all"
    free(monkeypatch, 0)

    def refuse(*_: object) -> None:
        raise AssertionError("nothing is kept without gradients")

    monkeypatch.setattr(checkpointing, "what_to_keep", refuse)
    with torch.no_grad():
        tiny_base.run(torch.arange(4)[None])


def test_the_count_is_near_what_is_kept(tiny_base: BaseModel) -> None:
    ids_BT = torch.arange(200)[None]
    hidden_BTD = tiny_base.hidden_before(ids_BT, 2)
    _, kept = gradients(tiny_base, lambda start: tiny_base.run_from(start, ids_BT, 2), hidden_BTD)
    assert 0.6 < 4 * kept / (2 * 200 * activation_bytes(tiny_base)) < 1.6


def test_a_forward_pass_that_is_cut_short_keeps_its_gradients(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hypernetwork reads the inputs of a module, after which nothing is run."""
    ids_CS = torch.arange(40).view(2, 20)
    hidden_CSD = tiny_base.hidden_before(ids_CS, 1)

    def work(start: Tensor) -> Tensor:
        return module_inputs(tiny_base, start, ids_CS, 1, (1, 3), "down_proj")

    free(monkeypatch, GB)
    [wanted], _ = gradients(tiny_base, work, hidden_CSD)
    free(monkeypatch, 0)
    [found], _ = gradients(tiny_base, work, hidden_CSD)
    assert torch.equal(found, wanted) and wanted.norm() > 0


def test_logits_of_many_tokens_are_made_in_pieces(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    item = text_item(tiny_base, "The quick brown fox lives in Paris with seven cats.")
    ids_BT = torch.tensor([item.ids])
    hidden_BTD = tiny_base.run(ids_BT).detach()
    found = []
    for rows in (1024, 5):
        monkeypatch.setattr(gradient_descent, "_HEAD_ROWS", rows)
        start = hidden_BTD.clone().requires_grad_()
        loss = next_token_loss(tiny_base, [item], ids_BT, start)
        found.append((loss.detach(), *torch.autograd.grad(loss, start)))
    torch.testing.assert_close(found[0], found[1])


def test_inputs_kept_elsewhere_give_the_same_gradients(tiny_base: BaseModel) -> None:
    ids_BT = torch.arange(40)[None]
    hidden_BTD = tiny_base.hidden_before(ids_BT, 2)

    def work(start: Tensor) -> Tensor:
        return tiny_base.run_from(start, ids_BT, 2)

    [wanted], _ = gradients(tiny_base, work, hidden_BTD)
    blocks = {tiny_base.block_path(i): Checkpointed(tiny_base.blocks[i], offload=True) for i in (2, 3)}
    with tiny_base.patched(blocks):
        [found], _ = gradients(tiny_base, work, hidden_BTD)
    assert torch.equal(found, wanted)
