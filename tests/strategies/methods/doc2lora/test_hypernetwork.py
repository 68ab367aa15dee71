"""The architecture at random sizes against a plain reading of its equations, and what it refuses."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypernetworks import random_hypernetwork
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from continual_learning.doc2lora import Hypernetwork, HypernetworkConfig
from continual_learning.errors import InputError
from continual_learning.strategies.methods.doc2lora import hypernetwork as module
from continual_learning.strategies.methods.doc2lora.generated_lora import Generated
from continual_learning.strategies.methods.doc2lora.perceiver import Heads

NAMES = ["down_proj", "q_proj", "up_proj", "v_proj"]


@st.composite
def configs(draw: st.DrawFn) -> HypernetworkConfig:
    size = st.integers(1, 9)
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    keys = draw(st.integers(1, 2))
    return HypernetworkConfig(
        base_name="tiny",
        context_width=draw(size),
        modules={name: (draw(size), draw(size)) for name in names},
        layers=tuple(range(draw(st.integers(1, 3)))),
        rank=draw(st.integers(1, 3)),
        multiplier=2.0,
        latent_width=draw(st.integers(2, 9)),
        latents=draw(st.integers(1, 4)),
        encoder=(True, *draw(st.lists(st.booleans(), max_size=2))),
        heads=Heads(keys * draw(st.integers(1, 3)), keys, draw(st.integers(1, 5))),
        head_blocks=draw(st.integers(0, 2)),
        head_blocks_per_layer=draw(st.booleans()),
        use_bias=draw(st.booleans()),
        context_encoder=draw(st.sampled_from(["per_layer_activations", "early_exit"])),
    )


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


class Reading:
    """The equations, one chunk, one layer, one head at a time, from the state dict alone."""

    def __init__(self, network: Hypernetwork):
        self.config, self.weights = network.config, {k: v.double() for k, v in network.state_dict().items()}

    def swiglu(self, x: Tensor, at: str) -> Tensor:
        gate, up, down = (self.weights[f"{at}.{part}_proj.weight"] for part in ("gate", "up", "down"))
        return (silu(x @ gate.T) * (x @ up.T)) @ down.T

    def attention(self, latents: Tensor, context: Tensor, at: str) -> Tensor:
        heads = self.config.heads
        q, k, v = (
            x @ self.weights[f"{at}.{part}_proj.weight"].T
            for part, x in (("q", latents), ("k", context), ("v", context))
        )
        read = []
        for head in range(heads.queries):
            key = head // (heads.queries // heads.keys)
            of = [x[:, n * heads.width : (n + 1) * heads.width] for x, n in ((q, head), (k, key), (v, key))]
            read.append((of[0] @ of[1].T / math.sqrt(heads.width)).softmax(-1) @ of[2])
        return torch.cat(read, dim=-1) @ self.weights[f"{at}.o_proj.weight"].T

    def resampler(self, context: Tensor, at: str, cross: tuple[bool, ...]) -> Tensor:
        x = self.weights[f"{at}.latents_q"]
        for number, reads in enumerate(cross):
            here = f"{at}.layers.{number}"
            norm = {n: self.weights.get(f"{here}.{n}_layernorm.weight") for n in ("input_latents", "input_context")}
            query = rms(x, norm["input_latents"])  # type: ignore[arg-type]
            assert (norm["input_context"] is not None) == reads
            source = rms(context, norm["input_context"]) if reads else query  # type: ignore[arg-type]
            read = self.attention(query, source, f"{here}.self_attn")
            x = x + rms(read, self.weights[f"{here}.post_attention_layernorm.weight"])
            wide = self.swiglu(rms(x, self.weights[f"{here}.pre_ff_layernorm.weight"]), f"{here}.mlp")
            x = x + rms(wide, self.weights[f"{here}.post_ff_layernorm.weight"])
        return rms(x, self.weights[f"{at}.layernorm.weight"])

    def perceiver(self, context: Tensor) -> Tensor:
        at = "aggregator.perceiver"
        latents = self.resampler(
            self.swiglu(context, f"{at}.modality_projection"), f"{at}.encoder", self.config.encoder
        )
        return self.resampler(latents, f"{at}.decoder", self.config.decoder)

    def block(self, x: Tensor, number: int, layer: int) -> Tensor:
        if self.config.head_blocks_per_layer:
            at, ends = f"layers.{number}.layers", ("0", "4")
            first, second = (
                (self.weights[f"{at}.{n}.weight"][layer], self.weights[f"{at}.{n}.bias"][0, layer, 0, 0]) for n in "13"
            )
        else:
            at, ends = f"layers.{number}.mlp", ("0", "6")
            first, second = ((self.weights[f"{at}.{n}.weight"].T, self.weights[f"{at}.{n}.bias"]) for n in "25")
        norms = [(self.weights[f"{at}.{n}.weight"], self.weights[f"{at}.{n}.bias"]) for n in ends]
        y = silu(layer_norm(x, *norms[0]) @ first[0] + first[1]) @ second[0] + second[1]
        return x + layer_norm(y, *norms[1])

    def matrices(self, chunk: Tensor, layer: int, name: str) -> tuple[Tensor, Tensor]:
        """A and B of one chunk, one layer, one module. ``chunk`` is [L, S, D], or [S, D] of an early exit."""
        config = self.config
        number, rank = list(config.modules).index(name), config.rank
        start = number * rank
        if config.per_layer:
            latents = self.perceiver(chunk[layer])
        else:
            latents, start = self.perceiver(chunk), start + layer * len(config.modules) * rank
        x = latents[start : start + rank]
        for block in range(config.head_blocks):
            x = self.block(x, block, layer)
        flat = (x / x.norm(dim=-1, keepdim=True)) @ self.weights["head.weight"][layer, number]
        inputs, outputs = config.modules[name]
        scalers = [self.weights[f"scaler_{half}.{name}"][0, layer] for half in "AB"]
        return flat[:, :inputs] * scalers[0], flat[:, inputs : inputs + outputs] * scalers[1]


def inputs_for(config: HypernetworkConfig, lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    layers = (len(config.layers),) if config.per_layer else ()
    activations = torch.randn(len(lengths), *layers, max(lengths), config.context_width, generator=draw)
    mask_CS = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
    return activations, mask_CS


@settings(max_examples=25, deadline=None, derandomize=True)
@given(configs(), st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(0, 100))
def test_it_computes_its_equations_at_any_size(config: HypernetworkConfig, lengths: list[int], seed: int) -> None:
    network = random_hypernetwork(config, seed)
    activations, mask_CS = inputs_for(config, lengths, seed)
    with torch.no_grad():
        found = network.generate(activations, mask_CS)
        reading = Reading(network)
        for chunk, length in enumerate(lengths):
            real = activations[chunk, ..., :length, :].double()
            for layer in range(len(config.layers)):
                for name in config.modules:
                    for half, wanted in zip("AB", reading.matrices(real, layer, name), strict=True):
                        got = found[name][half][chunk, layer]
                        assert got.shape == wanted.shape
                        assert torch.allclose(got.double(), wanted, rtol=1e-3, atol=1e-4)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(configs(), st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_documents_are_combined_by_rank(config: HypernetworkConfig, counts: list[int]) -> None:
    network = random_hypernetwork(config)
    with torch.no_grad():
        generated = network.generate(*inputs_for(config, [4] * sum(counts)))
        combined = network.combine(generated, torch.tensor(counts))
    for name, (inputs, outputs) in config.modules.items():
        A, B = combined[name]["A"], combined[name]["B"]
        ranks = (max(counts) + 1) * config.rank
        assert A.shape == (len(counts), len(config.layers), ranks, inputs) and B.shape == (*A.shape[:3], outputs)
        start = 0
        for row, count in enumerate(counts):
            chunks = range(start, start + count)
            start += count
            wanted = sum(delta(generated[name], chunk) for chunk in chunks)
            if config.use_bias:
                wanted = wanted + network.bias_B[name].mT @ network.bias_A[name]
            assert torch.allclose(B[row].mT @ A[row], wanted, atol=1e-4)


def delta(matrices: dict[str, Tensor], row: int) -> Any:
    return matrices["B"][row].mT @ matrices["A"][row]


CONFIG = HypernetworkConfig(
    "tiny", 6, {"v_proj": (5, 3), "q_proj": (5, 4)}, (0, 1, 2), 2, 1.5, 8, 3, (True,), head_blocks=1
)


def test_modules_are_kept_sorted() -> None:
    assert list(CONFIG.modules) == ["q_proj", "v_proj"]


def test_config_survives_json() -> None:
    config = HypernetworkConfig(**{**CONFIG.__dict__, "affixes": ("<s>", "</s>"), "context_blocks": 2})
    assert HypernetworkConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_an_untrained_hypernetwork_changes_nothing_and_is_the_same_for_the_same_seed() -> None:
    state = torch.get_rng_state()
    first, again, other = (Hypernetwork.initialised(CONFIG, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    values = [torch.cat([p.flatten() for p in n.parameters()]) for n in (first, again, other)]
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])
    assert all(torch.isfinite(v).all() for v in values)
    combined = first(*inputs_for(CONFIG, [4, 4]), [2])
    for name in CONFIG.modules:
        assert combined[name]["A"].abs().max() > 0 and combined[name]["B"].abs().max() == 0


def test_gradients_reach_every_weight_and_the_activations() -> None:
    network = random_hypernetwork(CONFIG)
    activations, mask_CS = inputs_for(CONFIG, [4, 3])
    activations.requires_grad_(True)
    combined = network(activations, mask_CS, [2])
    sum(m.square().sum() for halves in combined.values() for m in halves.values()).backward()
    assert activations.grad is not None and activations.grad[0].abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert activations.grad[1, :, 3].abs().max() == 0, "padding has no part in it"


def test_many_layers_are_read_in_slices_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    network, given_ = random_hypernetwork(CONFIG), inputs_for(CONFIG, [5, 2, 4])
    with torch.no_grad():
        whole = network.generate(*given_)
        monkeypatch.setattr(module, "_SLICE_TOKENS", 10)
        sliced = network.generate(*given_)
        assert close(whole, sliced, 1e-5)
        assert not close(whole, network.generate(given_[0]), 1e-5), "without a mask, padding is read"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_dtype(dtype: torch.dtype) -> None:
    network, given_ = random_hypernetwork(CONFIG), inputs_for(CONFIG, [5, 2])
    with torch.no_grad():
        exact = network.generate(*given_)
        found = network.to(dtype).generate(*given_)
    assert found["q_proj"]["A"].dtype == dtype
    assert close(exact, found, 1e-5 if dtype == torch.float64 else 0.1)


def close(one: Generated, other: Generated, tolerance: float) -> bool:
    pairs = [(one[m][half], other[m][half].to(one[m][half].dtype)) for m in one for half in "AB"]
    return all(float((a - b).abs().max()) <= tolerance * float(a.abs().max()) for a, b in pairs)


@pytest.mark.parametrize(
    ("shape", "mask", "message"),
    [
        ((2, 3, 4, 7), None, "expected .chunks, 3, tokens, 6."),
        ((2, 2, 4, 6), None, "shape .2, 2, 4, 6."),
        ((2, 4, 6), None, "shape .2, 4, 6."),
        ((2, 3, 0, 6), None, "shape .2, 3, 0, 6."),
        ((2, 3, 4, 6), [[1, 1, 1]], "attention_mask of shape .1, 3.; expected .2, 4."),
        ((2, 3, 4, 6), [[1, 1, 1, 1], [0, 0, 0, 0]], "no token to read"),
    ],
)
def test_other_shapes_are_refused_in_one_line(shape: tuple[int, ...], mask: Any, message: str) -> None:
    network = random_hypernetwork(CONFIG)
    with pytest.raises(InputError, match=message) as caught:
        network.generate(torch.zeros(shape), None if mask is None else torch.tensor(mask))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("counts", [[1], [3], [2, 0], []])
def test_chunk_counts_must_add_up(counts: list[int]) -> None:
    network = random_hypernetwork(CONFIG)
    generated = network.generate(*inputs_for(CONFIG, [4, 4]))
    with pytest.raises(InputError, match="adding up to 2 chunks"):
        network.combine(generated, counts)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="whole number of query heads"):
        Heads(3, 2, 4)
