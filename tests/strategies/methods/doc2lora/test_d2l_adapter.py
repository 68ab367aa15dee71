"""LoRA on a base: what it adds, that it comes out again, and PEFT's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypernetworks import base_adapter_network, config_for
from peft import PeftModel
from tiny_models import FAMILIES, make_tiny
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from continual_learning.errors import InputError, MismatchError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_layout
from continual_learning.model.generation import generate
from continual_learning.strategies.methods.doc2lora.adapter import (
    adapter_bytes,
    adapter_of,
    check_fits,
    export_peft,
    installed,
    merged,
    module_path,
)
from continual_learning.strategies.methods.doc2lora.context import context_activations
from continual_learning.strategies.methods.doc2lora.generated_lora import Adapter, LowRank, concatenated

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])


def sizes(base: BaseModel, block: int, name: str) -> tuple[int, int]:
    module = base.model.get_submodule(module_path(base, block, name))
    rows, columns = module.weight.shape  # type: ignore[union-attr, misc]
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)  # type: ignore[return-value]


def random_adapter(base: BaseModel, places: dict[tuple[int, str], int], seed: int = 0) -> Adapter:
    draw = torch.Generator().manual_seed(seed)
    adapter: Adapter = {}
    for (block, name), rank in places.items():
        inputs, outputs = sizes(base, block, name)
        A_RI = torch.randn(rank, inputs, generator=draw)
        adapter[block, name] = LowRank(A_RI, 0.1 * torch.randn(rank, outputs, generator=draw))
    return adapter


@torch.no_grad()
def logits(base: BaseModel, adapter: Adapter | None = None) -> torch.Tensor:
    with installed(base, adapter or {}):
        return base.model(IDS).logits


@torch.no_grad()
def written_in(folder: Path, base: BaseModel, adapter: Adapter) -> torch.Tensor:
    """Logits of another copy of the model whose weights have the change added to them."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    for place, (A_RI, B_RO) in adapter.items():
        module = model.get_submodule(module_path(base, *place))
        change_OI = B_RO.mT @ A_RI
        module.weight += change_OI.mT if isinstance(module, Conv1D) else change_OI
    return model(IDS).logits


def mlp_end(base: BaseModel) -> str:
    return f"{base.family.mlp_name}.{mlp_layout(base.mlp(0)).down}"


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_a_change_of_the_weights_and_plain_peft_loads_it(family: str, tmp_path: Path) -> None:
    folder = make_tiny(family, tmp_path)
    base = BaseModel.load(str(folder), device="cpu")
    before, modules = logits(base), list(base.model.modules())
    adapter = random_adapter(base, {(0, mlp_end(base)): 3, (3, mlp_end(base)): 3})
    found = logits(base, adapter)
    assert torch.allclose(found, written_in(folder, base, adapter), atol=1e-4)
    assert (found - before).abs().max() > 1e-2
    assert torch.equal(logits(base), before) and list(base.model.modules()) == modules
    exported = export_peft(base, adapter, tmp_path / "adapter")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), exported).eval()
    with torch.no_grad():
        assert torch.allclose(model(IDS).logits, found, atol=1e-5)


def test_exported_files(tiny_base: BaseModel, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_base, {(0, "q_proj"): 2, (0, "down_proj"): 5, (2, "down_proj"): 5})
    folder = export_peft(tiny_base, adapter, tmp_path / "deep" / "adapter")
    assert sorted(f.name for f in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["peft_type"] == "LORA" and config["r"] == config["lora_alpha"] == 5
    assert config["rank_pattern"] == config["alpha_pattern"] == {"model.layers.0.self_attn.q_proj": 2}
    assert config["inference_mode"] is True and config["base_model_name_or_path"] == tiny_base.name


def test_unequal_ranks_and_modules_through_plain_peft(
    tiny_base: BaseModel, tiny_llama_dir: Path, tmp_path: Path
) -> None:
    adapter = random_adapter(tiny_base, {(0, "q_proj"): 2, (0, "down_proj"): 5, (1, "gate_proj"): 1, (3, "o_proj"): 5})
    folder = export_peft(tiny_base, adapter, tmp_path)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_llama_dir), folder).eval()
    with torch.no_grad():
        assert torch.allclose(model(IDS).logits, logits(tiny_base, adapter), atol=1e-5)


def test_many_places(tiny_base: BaseModel, tiny_llama_dir: Path, tmp_path: Path) -> None:
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapter = random_adapter(tiny_base, {(b, n): 2 for b in range(4) for n in names})
    found = logits(tiny_base, adapter)
    assert torch.allclose(found, written_in(tiny_llama_dir, tiny_base, adapter), atol=1e-3)
    folder = export_peft(tiny_base, adapter, tmp_path)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_llama_dir), folder).eval()
    with torch.no_grad():
        assert torch.allclose(model(IDS).logits, found, atol=1e-5)


def test_adapters_add_up(tiny_base: BaseModel, tiny_llama_dir: Path) -> None:
    one = random_adapter(tiny_base, {(0, "down_proj"): 2, (1, "down_proj"): 3}, seed=1)
    two = random_adapter(tiny_base, {(1, "down_proj"): 1, (2, "q_proj"): 2}, seed=2)
    both = merged([one, two])
    assert {place: low_rank.rank for place, low_rank in both.items()} == {
        (0, "down_proj"): 2,
        (1, "down_proj"): 4,
        (2, "q_proj"): 2,
    }
    wanted = written_in(tiny_llama_dir, tiny_base, both)
    assert torch.allclose(logits(tiny_base, both), wanted, atol=1e-4)
    assert merged([]) == {} and adapter_bytes(both) == sum(4 * m.numel() for lr in both.values() for m in lr)


def test_two_names_of_one_module_add_up(tiny_base: BaseModel, tiny_llama_dir: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_base, {(1, "down_proj"): 2, (1, "mlp.down_proj"): 3})
    found = logits(tiny_base, adapter)
    assert torch.allclose(found, written_in(tiny_llama_dir, tiny_base, adapter), atol=1e-4)
    folder = export_peft(tiny_base, adapter, tmp_path)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_llama_dir), folder).eval()
    with torch.no_grad():
        assert torch.allclose(model(IDS).logits, found, atol=1e-5)


def test_generation_meets_the_adapter(tiny_base: BaseModel) -> None:
    prompts = [[5, 6, 7, 8], [9, 10]]
    adapter = random_adapter(tiny_base, {(1, "q_proj"): 4, (2, "down_proj"): 4})
    plain = generate(tiny_base, prompts, 6)
    with installed(tiny_base, adapter):
        changed = generate(tiny_base, prompts, 6)
        for prompt, made in zip(prompts, changed, strict=True):
            ids = [*prompt]
            for _ in made.ids:
                with torch.no_grad():
                    ids.append(int(tiny_base.model(torch.tensor([ids])).logits[0, -1].argmax()))
            assert ids[len(prompt) :] == list(made.ids)
    assert [g.ids for g in changed] != [g.ids for g in plain]
    assert [g.ids for g in generate(tiny_base, prompts, 6)] == [g.ids for g in plain]


def test_gradients_flow_into_the_matrices(tiny_base: BaseModel) -> None:
    adapter = random_adapter(tiny_base, {(0, "down_proj"): 2, (3, "q_proj"): 2})
    scale = torch.tensor(1.0, requires_grad=True)
    scaled = {place: LowRank(A_RI, B_RO * scale) for place, (A_RI, B_RO) in adapter.items()}

    def loss(by: torch.Tensor) -> torch.Tensor:
        with installed(tiny_base, {p: LowRank(a, b * by) for p, (a, b) in adapter.items()}):
            return tiny_base.model(IDS).logits.double().logsumexp(-1).sum()

    with installed(tiny_base, scaled):
        tiny_base.model(IDS).logits.double().logsumexp(-1).sum().backward()
    assert scale.grad is not None
    with torch.no_grad():
        slope = (loss(torch.tensor(1.01)) - loss(torch.tensor(0.99))) / 0.02
    assert float(scale.grad) == pytest.approx(float(slope), rel=0.05)
    assert not any(p.requires_grad for p in tiny_base.model.parameters())


def test_gradients_reach_the_hypernetwork_through_the_base(tiny_base: BaseModel) -> None:
    network = base_adapter_network(tiny_base)
    read, mask_CS = context_activations(tiny_base, [[5, 6, 7, 8, 9], [10, 11, 12]])
    combined = network(read, mask_CS, [2])
    adapter = adapter_of(network.config, combined, 0, combined["down_proj"]["A"].shape[2])
    with installed(tiny_base, adapter):
        tiny_base.model(IDS).logits.logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_a_batch_of_adapters_meets_a_batch_row_by_row(tiny_base: BaseModel) -> None:
    places = {(0, "down_proj"): 2, (2, "v_proj"): 3}
    each = [random_adapter(tiny_base, places, seed) for seed in (1, 2)]
    together = {
        p: LowRank(torch.stack([e[p].A_RI for e in each]), torch.stack([e[p].B_RO for e in each])) for p in places
    }
    with torch.no_grad(), installed(tiny_base, together):
        found = tiny_base.model(IDS.expand(2, -1)).logits
    for row, adapter in enumerate(each):
        assert torch.allclose(found[row], logits(tiny_base, adapter)[0], atol=1e-5)
    assert concatenated([together[0, "down_proj"]] * 2).A_RI.shape[:2] == (2, 4)


def test_installing_draws_no_random_numbers_and_survives_an_exception(tiny_base: BaseModel) -> None:
    adapter = random_adapter(tiny_base, {(0, "down_proj"): 2})
    state, before = torch.get_rng_state(), logits(tiny_base)
    with pytest.raises(KeyError, match="stop"), installed(tiny_base, adapter):
        raise KeyError("stop")
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(logits(tiny_base), before)


def test_nothing_learned_cannot_be_exported(tiny_base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is learned yet"):
        export_peft(tiny_base, {}, tmp_path)


# -- the wrong base ----------------------------------------------------------------------------------


def test_module_names_in_other_families(tmp_path: Path) -> None:
    base = BaseModel.load(str(make_tiny("gpt2", tmp_path)), device="cpu")
    assert module_path(base, 2, "mlp.c_proj") == "transformer.h.2.mlp.c_proj"
    with pytest.raises(MismatchError, match=r"2 modules 'c_proj'; expected one of attn.c_attn"):
        module_path(base, 0, "c_proj")
    with pytest.raises(MismatchError, match="no module 'down_proj'"):
        module_path(base, 0, "down_proj")
    with pytest.raises(MismatchError, match=r"block 9; the base .* has blocks 0 to 3"):
        module_path(base, 9, "mlp.c_proj")


def test_a_hypernetwork_of_another_base_is_refused_in_one_line(tiny_base: BaseModel) -> None:
    for changes, message in [
        ({"context_width": 48}, "hidden size 48; the base .* has 32"),
        ({"layers": (0, 1, 2)}, "reads 3 layers; the base .* has 4"),
        ({"modules": {"down_proj": (64, 48)}}, "64 inputs and 48 outputs of 'down_proj'; .* has 64 and 32"),
        ({"modules": {"dense": (64, 32)}}, "no module 'dense'"),
        ({"context_encoder": "early_exit", "layers": (7,)}, "block 7"),
    ]:
        with pytest.raises(MismatchError, match=message) as caught:
            check_fits(tiny_base, config_for(tiny_base, **changes))
        assert "\n" not in str(caught.value) and "use the base that" in str(caught.value)


def test_another_name_alone_is_a_warning(tiny_base: BaseModel) -> None:
    [warning] = check_fits(tiny_base, config_for(tiny_base, base_name="someone/other"))
    assert "'someone/other'" in warning
    assert (
        check_fits(tiny_base, config_for(tiny_base, base_name=f"elsewhere/{Path(tiny_base.name).name.upper()}")) == ()
    )
