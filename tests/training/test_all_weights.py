"""All weights as what is trained: copies in place of the base's own, which are never written to."""

from __future__ import annotations

import hashlib

import pytest
import torch
from tiny_models import make_tiny

from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import generate
from continual_learning.training.all_weights import AllWeights


@pytest.fixture(scope="module", params=["llama", "qwen2", "gpt2", "gemma3"])  # llama and gpt2 tie their embeddings
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return BaseModel.load(str(make_tiny(request.param, tmp_path_factory.mktemp("full"))), device="cpu")


def logits(base: BaseModel) -> torch.Tensor:
    with torch.no_grad():
        return base.model(torch.tensor([base.encode("The quick brown fox lives in Paris.")])).logits


def greedy(base: BaseModel, prompt: list[int], tokens: int) -> list[int]:
    """The model's own forward pass, token by token."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(tokens):
            ids.append(int(base.model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def digest(base: BaseModel) -> str:
    found = hashlib.sha256()
    for name, tensor in base.model.state_dict().items():
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def test_copies_change_no_bit_and_learn(base: BaseModel) -> None:
    before, own = logits(base), list(base.model.parameters())
    with AllWeights().installed(base, {}) as weights:
        assert torch.equal(logits(base), before)
        assert all(w.requires_grad for w in weights.values())
        assert [id(p) for p in base.model.parameters()] == [id(w) for w in weights.values()]
    assert [id(p) for p in base.model.parameters()] == [id(p) for p in own]
    assert AllWeights().count(base) == sum(p.numel() for p in own)


def test_the_base_is_as_it_was_also_after_an_exception(base: BaseModel) -> None:
    before, bytes_before = logits(base), digest(base)
    with pytest.raises(RuntimeError), AllWeights().installed(base, {}) as weights:
        with torch.no_grad():
            for weight in weights.values():
                weight += 1.0
        assert not torch.allclose(logits(base), before)
        raise RuntimeError
    assert digest(base) == bytes_before and torch.equal(logits(base), before)
    assert not any(p.requires_grad for p in base.model.parameters())


def test_decoding_uses_the_weights_in_place(base: BaseModel) -> None:
    prompt = base.encode("The quick brown fox")
    before = generate(base, [prompt], 6)[0].ids
    generator = torch.Generator().manual_seed(0)
    with AllWeights().installed(base, {}) as weights:
        with torch.no_grad():
            for weight in weights.values():
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
        expected = greedy(base, prompt, 6)
        found = generate(base, [prompt], 6)[0].ids
    assert list(found) == expected[: len(found)] and found != before
    assert generate(base, [prompt], 6)[0].ids == before


def test_the_kept_change_gives_the_trained_model_again(base: BaseModel) -> None:
    before = logits(base)
    generator = torch.Generator().manual_seed(0)
    with AllWeights().installed(base, {}) as weights:
        with torch.no_grad():
            for weight in weights.values():
                weight += 1e-3 * torch.randn(weight.shape, generator=generator)
        exact = logits(base)
    kept = AllWeights().kept(base, weights)
    assert sum(t.numel() * t.element_size() for t in kept.values()) == 2 * AllWeights().count(base)
    with AllWeights().installed(base, kept):
        rounded = logits(base)
    # Half precision costs less than a thousandth of the change.
    assert (rounded - exact).norm() < 1e-3 * (exact - before).norm()


def test_tied_weights_stay_tied(tiny_base: BaseModel) -> None:
    model = tiny_base.model
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    with AllWeights().installed(tiny_base, {}):
        assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
