"""All weights, document after document."""

from __future__ import annotations

import pytest
import torch
from finetuned import FOX, OTTO, TEXT, learn, loss_of

from continual_learning.model.base_model import BaseModel

pytestmark = pytest.mark.slow


def test_the_memory_is_two_bytes_a_parameter(tiny_base: BaseModel) -> None:
    strategy, state, _ = learn("full_finetune", tiny_base)
    facts = strategy.describe(tiny_base, state)
    assert facts["trainable_parameters"] == facts["parameters"] == sum(p.numel() for p in tiny_base.model.parameters())
    assert state.bytes == 2 * facts["parameters"]
    assert {n.partition("/")[2] for n in state.tensors} == {n for n, _ in tiny_base.model.named_parameters()}
    assert all(t.dtype == torch.float16 for t in state.tensors.values())


def test_every_weight_learns(tiny_base: BaseModel) -> None:
    _, state, _ = learn("full_finetune", tiny_base)
    assert all(tensor.any() for tensor in state.tensors.values())


def test_each_document_goes_on_from_the_last(tiny_base: BaseModel) -> None:
    assert (
        learn("full_finetune", tiny_base, FOX, OTTO)[1].digest()
        != learn("full_finetune", tiny_base, OTTO, FOX)[1].digest()
    )
    strategy, state, _ = learn("full_finetune", tiny_base, FOX, OTTO, passes=8, learning_rate=3e-3)
    for document in (FOX, OTTO):
        before = loss_of(tiny_base, strategy, strategy.init(tiny_base), document.text)
        assert loss_of(tiny_base, strategy, state, document.text) < before


def test_the_base_keeps_its_fingerprint(tiny_base: BaseModel) -> None:
    from continual_learning.model.loading import fingerprint

    before = fingerprint(tiny_base.model)
    strategy, state, _ = learn("full_finetune", tiny_base, learning_rate=1e-2)
    with pytest.raises(RuntimeError), strategy.adapted(tiny_base, state, TEXT):
        assert fingerprint(tiny_base.model) != before
        raise RuntimeError
    assert fingerprint(tiny_base.model) == before


def test_half_precision_of_the_change_loses_nothing(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from continual_learning.training import all_weights

    strategy, state, _ = learn("full_finetune", tiny_base, passes=12)
    monkeypatch.setattr(all_weights, "STORED_TYPE", torch.float32)
    _, exact, _ = learn("full_finetune", tiny_base, passes=12)
    assert exact.bytes == 2 * state.bytes
    base_loss = loss_of(tiny_base, strategy, strategy.init(tiny_base))
    learned = base_loss - loss_of(tiny_base, strategy, exact)
    assert abs(loss_of(tiny_base, strategy, state) - loss_of(tiny_base, strategy, exact)) < 0.001 * learned
