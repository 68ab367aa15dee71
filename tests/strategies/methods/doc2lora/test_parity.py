"""The fixture: what the reference implementation computed from a published-format checkpoint, to 1e-5."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypernetworks import FIXTURE, expected, expected_lora, fixture_base
from peft import PeftModel

from continual_learning.doc2lora import Hypernetwork, load_hypernetwork
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.doc2lora.adapter import adapter_of, check_fits, export_peft, installed
from continual_learning.strategies.methods.doc2lora.context import activations, context_activations
from continual_learning.strategies.methods.doc2lora.generated_lora import Adapter

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return fixture_base()


@pytest.fixture(scope="module")
def network() -> Hypernetwork:
    return load_hypernetwork(FIXTURE)


@pytest.fixture(scope="module")
def adapter(base: BaseModel, network: Hypernetwork) -> Adapter:
    """From the fixture's tokens alone."""
    ids_CS, mask_CS = (expected()[f"chunk_{name}"] for name in ("input_ids", "attention_mask"))
    read = activations(base, ids_CS, mask_CS, network.config.context_encoder)
    combined = network.combine(network.generate(read, mask_CS), [2])
    return adapter_of(network.config, combined, 0, 3 * network.config.rank)


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max())


def test_activations(base: BaseModel, network: Hypernetwork) -> None:
    known = expected()
    ids_CS, mask_CS = known["chunk_input_ids"], known["chunk_attention_mask"]
    found = activations(base, ids_CS, mask_CS, network.config.context_encoder, network.config.context_blocks)
    assert error(found, known["activations"]) < TOLERANCE


def test_activations_of_unpadded_chunks(base: BaseModel, network: Hypernetwork) -> None:
    known = expected()
    rows = zip(known["chunk_input_ids"].tolist(), known["chunk_attention_mask"].sum(1).tolist(), strict=True)
    chunks = [ids[:length] for ids, length in rows]
    found, mask_CS = context_activations(base, chunks, network.config.context_encoder)
    assert torch.equal(mask_CS, known["chunk_attention_mask"])
    real = mask_CS[:, None, :, None].bool()  # what stands at padding depends on the token that pads
    assert error(found * real, known["activations"] * real) < TOLERANCE


@pytest.mark.parametrize("half", ["A", "B"])
def test_generated_and_combined(network: Hypernetwork, half: str) -> None:
    known = expected()
    with torch.no_grad():
        generated = network.generate(known["activations"], known["chunk_attention_mask"])
        combined = network.combine(generated, [2])
    for name in network.config.modules:
        assert error(generated[name][half], expected_lora("generated")[name][half]) < TOLERANCE
        assert error(combined[name][half], expected_lora("combined")[name][half]) < TOLERANCE


def test_the_multiplier_is_the_published_alpha(network: Hypernetwork) -> None:
    assert network.config.multiplier == 16.0 == 2 * network.config.rank**1.5


def test_logits_of_the_base(base: BaseModel) -> None:
    with torch.no_grad():
        logits = base.model(expected()["query_input_ids"]).logits
    assert error(logits, expected()["query_logits_base"]) < TOLERANCE


def test_internalised_logits(base: BaseModel, adapter: Adapter) -> None:
    known = expected()
    with torch.no_grad(), installed(base, adapter):
        logits = base.model(known["query_input_ids"]).logits
    assert error(logits, known["query_logits_internalised"]) < TOLERANCE
    assert error(known["query_logits_base"], known["query_logits_internalised"]) > 100 * TOLERANCE


def test_internalised_logits_through_plain_peft(adapter: Adapter, base: BaseModel, tmp_path: Path) -> None:
    folder = export_peft(base, adapter, tmp_path / "adapter")
    model = PeftModel.from_pretrained(fixture_base().model, folder)
    with torch.no_grad():
        logits = model(expected()["query_input_ids"]).logits
    assert error(logits, expected()["query_logits_internalised"]) < TOLERANCE


def test_it_is_known_for_its_base(base: BaseModel, network: Hypernetwork) -> None:
    assert check_fits(base, network.config) == ()
