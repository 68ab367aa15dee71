"""families.py: every family by table and by structure, and one view of all their MLPs."""

from __future__ import annotations

import pytest
import torch
from tiny_models import FAMILIES, WIDTH, tiny_model
from torch import nn

from continual_learning.errors import UnsupportedModelError
from continual_learning.model import families
from continual_learning.model.families import activations, captured_inputs, find_family, mlp_layout, mlp_parts

EACH_FAMILY = pytest.mark.parametrize("name", FAMILIES)
GATED = {"llama", "qwen2", "qwen3", "gemma2", "gemma3", "mistral", "phi3"}


def first_mlp(model: nn.Module) -> nn.Module:
    family = find_family(model)
    return model.get_submodule(f"{family.blocks_path}.0.{family.mlp_name}")


@EACH_FAMILY
def test_found_by_table(name: str) -> None:
    model = tiny_model(name)
    family = find_family(model)
    assert family.name == name
    assert len(model.get_submodule(family.blocks_path)) == 4
    assert mlp_parts(first_mlp(model)).intermediate_size == (128 if name == "gpt2" else 64)


@EACH_FAMILY
def test_found_by_structure_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(name)
    known = find_family(model)
    layout = mlp_layout(first_mlp(model))
    monkeypatch.setattr(families, "_LAYOUTS", ())
    found = find_family(model, use_table=False)
    assert (found.blocks_path, found.mlp_name) == (known.blocks_path, known.mlp_name)
    by_structure = mlp_layout(first_mlp(model))
    assert by_structure[:3] == layout[:3]
    assert by_structure.fused == layout.fused


@EACH_FAMILY
def test_parts_compute_what_the_module_computes(name: str) -> None:
    mlp = first_mlp(tiny_model(name)).double()
    parts = mlp_parts(mlp)
    x_BTD = torch.randn(2, 5, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(parts(x_BTD), mlp(x_BTD), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(parts.neurons(x_BTD), activations(mlp, x_BTD), atol=1e-6, rtol=1e-6)
    assert (parts.gate_w is not None) == (name in GATED)
    assert parts.hidden_size == WIDTH
    assert parts.down_w.shape == (WIDTH, parts.intermediate_size)


@EACH_FAMILY
def test_parts_are_views_of_the_modules_own_weights(name: str) -> None:
    mlp = first_mlp(tiny_model(name))
    parts = mlp_parts(mlp)
    own = {p.untyped_storage().data_ptr() for p in mlp.parameters()}
    tensors = [parts.gate_w, parts.gate_b, parts.up_w, parts.up_b, parts.down_w, parts.down_b]
    assert {t.untyped_storage().data_ptr() for t in tensors if t is not None} == own


@EACH_FAMILY
def test_activations_are_what_the_down_projection_reads(name: str) -> None:
    mlp = first_mlp(tiny_model(name))
    x_BTD = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(2), requires_grad=True)
    inner_BTI = activations(mlp, x_BTD)
    assert not inner_BTI.requires_grad
    with torch.no_grad():
        assert torch.equal(getattr(mlp, mlp_layout(mlp).down)(inner_BTI), mlp(x_BTD))
    assert not getattr(mlp, mlp_layout(mlp).down)._forward_pre_hooks


class OtherMLP(nn.Module):
    """A gated MLP with names of its own; `first` is the gate, or the up projection if `swapped`."""

    def __init__(self, swapped: bool):
        super().__init__()
        self.first, self.second = nn.Linear(8, 24, bias=False), nn.Linear(8, 24)
        self.last = nn.Linear(24, 8)
        self.swapped = swapped
        self.nonlinearity = torch.nn.functional.gelu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = (self.second, self.first) if self.swapped else (self.first, self.second)
        return self.last(self.nonlinearity(gate(x)) * up(x))


@pytest.mark.parametrize("swapped", [False, True])
def test_structure_tells_gate_from_up_by_what_the_module_computes(swapped: bool) -> None:
    layout = mlp_layout(OtherMLP(swapped).eval())
    assert layout == ("second", "first", "last", "nonlinearity", False) if swapped else layout[0] == "first"


class Block(nn.Module):
    def __init__(self, mlp: nn.Module):
        super().__init__()
        self.attention = nn.Linear(8, 8)
        self.feed_forward = mlp


class Stack(nn.Module):
    def __init__(self, blocks: list[nn.Module]):
        super().__init__()
        self.trunk = nn.ModuleList(blocks)


def test_an_unknown_model_is_found_by_structure() -> None:
    family = find_family(Stack([Block(OtherMLP(False)) for _ in range(3)]).eval())
    assert (family.name, family.blocks_path, family.mlp_name) == ("unknown", "trunk", "feed_forward")


def test_an_unknown_structure_lists_what_was_tried() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        find_family(Stack([Block(nn.Identity()) for _ in range(3)]))
    message = str(caught.value)
    assert "\n" not in message
    for part in ("model_type 'unknown'", "trunk (3 x Block)", "attention:", "feed_forward:", "llama", "gpt_neox"):
        assert part in message


def test_blocks_of_different_classes_and_no_blocks_at_all_are_named() -> None:
    with pytest.raises(UnsupportedModelError, match="different classes"):
        find_family(Stack([Block(OtherMLP(False)), nn.Linear(8, 8)]))
    with pytest.raises(UnsupportedModelError, match=r"no nn\.ModuleList"):
        find_family(nn.Linear(8, 8))


def test_a_known_type_with_other_insides_goes_on_to_structure() -> None:
    model = tiny_model("llama")
    model.model.blocks_under_another_name = model.model.layers
    del model.model.layers
    assert find_family(model).blocks_path == "model.blocks_under_another_name"


def test_an_mlp_that_computes_something_else_is_refused() -> None:
    class Residual(OtherMLP):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + super().forward(x)

    with pytest.raises(UnsupportedModelError, match="does not compute"):
        mlp_parts(Residual(False).eval())


def test_probing_leaves_the_global_random_state_alone() -> None:
    mlp = OtherMLP(False).eval()
    state = torch.get_rng_state()
    mlp_layout(mlp)
    assert torch.equal(torch.get_rng_state(), state)


def test_captured_inputs_leave_no_hook_and_stop_where_they_are_told() -> None:
    first, second, third = (nn.Linear(2, 2) for _ in range(3))
    ran: list[bool] = []
    third.register_forward_hook(lambda *_: ran.append(True))
    x_2 = torch.ones(2)
    for stop in (False, True):
        with captured_inputs({"a": first, "b": second}, stop=stop) as read:
            third(second(first(x_2)))
        assert torch.equal(read["a"], x_2) and torch.equal(read["b"], first(x_2))
    assert len(ran) == 1, "with stop, the third module was not run"
    with pytest.raises(ZeroDivisionError), captured_inputs({"a": first}):
        raise ZeroDivisionError
    assert not first._forward_pre_hooks and not second._forward_pre_hooks
