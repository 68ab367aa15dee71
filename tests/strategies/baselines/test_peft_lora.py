"""LoRA by PEFT's layers: nothing at the start, gone at the end, and the same as plain PEFT."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tiny_models import make_tiny

from continual_learning.errors import ConfigError, MissingExtraError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import generate
from continual_learning.strategies.baselines._lora import LoRA, peft_state_dict

pytestmark = pytest.mark.slow

FAMILIES = ["llama", "gpt2", "phi3", "gpt_neox"]
LORA = LoRA(rank=3, alpha=6.0)


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return BaseModel.load(str(make_tiny(request.param, tmp_path_factory.mktemp("lora"))), device="cpu")


def logits(base: BaseModel) -> torch.Tensor:
    ids = torch.tensor([base.encode("The quick brown fox lives in Paris.")])
    with torch.no_grad():
        return base.model(ids).logits


def greedy(base: BaseModel, prompt: list[int], tokens: int) -> list[int]:
    """The model's own forward pass, token by token."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(tokens):
            ids.append(int(base.model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def trained(base: BaseModel, lora: LoRA = LORA, seed: str = "0") -> dict[str, torch.Tensor]:
    """An adapter whose B is no longer zero."""
    with lora.installed(base, {}, seed) as weights, torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for name, weight in weights.items():
            if name.endswith("lora_B"):
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return lora.kept(base, weights)


def test_a_new_adapter_changes_no_bit(base: BaseModel) -> None:
    before, modules = logits(base), list(base.model.modules())
    with LORA.installed(base, {}, "0") as weights:
        assert torch.equal(logits(base), before)
        assert all(w.requires_grad for w in weights.values())
    assert sum(w.numel() for w in weights.values()) == LORA.count(base)
    assert list(base.model.modules()) == modules


def test_a_trained_adapter_is_gone_afterwards_also_after_an_exception(base: BaseModel) -> None:
    before, kept = logits(base), trained(base)
    with pytest.raises(RuntimeError), LORA.installed(base, kept, "0"):
        assert not torch.allclose(logits(base), before, atol=1e-3)
        raise RuntimeError
    assert torch.equal(logits(base), before)
    assert not any(p.requires_grad for p in base.model.parameters())
    assert not hasattr(base.model, "peft_config")


def test_decoding_uses_the_adapter(base: BaseModel) -> None:
    prompt = base.encode("The quick brown fox")
    before, kept = generate(base, [prompt], 6)[0].ids, trained(base)
    with LORA.installed(base, kept, "0"):
        expected = greedy(base, prompt, 6)
        found = generate(base, [prompt], 6)[0].ids
    assert list(found) == expected[: len(found)] and found != before
    assert generate(base, [prompt], 6)[0].ids == before


def test_the_start_depends_on_the_seed_alone(base: BaseModel) -> None:
    def start(seed: str) -> list[torch.Tensor]:
        with LORA.installed(base, {}, seed) as weights:
            return [w.detach().clone() for w in weights.values()]

    random_state = torch.random.get_rng_state()
    assert all(map(torch.equal, start("a"), start("a")))
    assert not all(map(torch.equal, start("a"), start("b")))
    assert torch.equal(torch.random.get_rng_state(), random_state)


def test_plain_peft_loads_it_to_the_same_logits(base: BaseModel, tmp_path: Path) -> None:
    from peft import PeftModel
    from safetensors.torch import save_file

    lora = LoRA(rank=2, alpha=5.0)
    kept = trained(base, lora)
    with lora.installed(base, kept, ""):
        expected = logits(base)
    lora.peft_config(list(lora.targets(base)), lora.transposed(base), base.name).save_pretrained(str(tmp_path))
    save_file(peft_state_dict(kept), tmp_path / "adapter_model.safetensors")
    other = BaseModel.load(base.name, device="cpu")
    model = PeftModel.from_pretrained(other.model, str(tmp_path)).eval()
    with torch.no_grad():
        found = model(torch.tensor([base.encode("The quick brown fox lives in Paris.")])).logits
    assert torch.equal(found, expected)


def test_half_precision_costs_nothing(tiny_base: BaseModel) -> None:
    full = {}
    with LORA.installed(tiny_base, {}, "0") as weights, torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for name, weight in weights.items():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
            full[name] = weight.detach().clone()
    kept = LORA.kept(tiny_base, weights)
    assert all(t.dtype == torch.float16 for t in kept.values())
    before = logits(tiny_base)
    with LORA.installed(tiny_base, full, "0"):
        exact = logits(tiny_base)
    with LORA.installed(tiny_base, kept, "0"):
        rounded = logits(tiny_base)
    assert (rounded - exact).norm() < 2e-3 * (exact - before).norm()
    assert torch.equal(rounded.argmax(-1), exact.argmax(-1))


def test_only_the_named_layers_get_an_adapter(tiny_base: BaseModel) -> None:
    names = {n.rpartition(".")[0] for n in trained(tiny_base, LoRA(2, 4.0, ("q_proj", "mlp.down_proj")))}
    assert len(names) == 2 * tiny_base.block_count
    assert all(n.endswith(("self_attn.q_proj", "mlp.down_proj")) for n in names)
    everywhere = {n.rpartition(".")[0] for n in trained(tiny_base)}
    assert len(everywhere) == 7 * tiny_base.block_count and "lm_head" not in everywhere
    assert len(LoRA(2, 4.0, "q_proj").targets(tiny_base)) == tiny_base.block_count


def test_a_layer_that_is_not_there_is_an_error(tiny_base: BaseModel) -> None:
    with pytest.raises(ConfigError, match=r"no linear layer 'c_attn'; expected all-linear, .*q_proj"):
        LoRA(2, 4.0, ("q_proj", "c_attn")).targets(tiny_base)


def test_without_peft_the_error_says_what_to_install(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'continual-learning-slm\[baselines\]'"):
        trained(tiny_base)
