"""One LoRA adapter for document after document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from finetuned import ABOUT, FOX, OTTO, TEXT, learn, loss_of, make

from continual_learning.errors import InputError
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies import gate

pytestmark = pytest.mark.slow


def test_the_memory_is_one_adapter_in_half_precision(tiny_base: BaseModel) -> None:
    strategy, state, report = learn("lora", tiny_base, rank=3)
    assert state.bytes == 2 * strategy.describe(tiny_base, state)["trainable_parameters"]
    assert {n.rpartition(".")[2] for n in state.tensors} == {"lora_A", "lora_B"}
    assert report.bytes == state.bytes + len(TEXT.encode())
    _, both, _ = learn("lora", tiny_base, FOX, OTTO, rank=3)
    assert both.bytes == state.bytes and both.tensors.keys() == state.tensors.keys()


@pytest.mark.slow
def test_each_document_goes_on_from_the_last(tiny_base: BaseModel) -> None:
    first, second = learn("lora", tiny_base, FOX, OTTO)[1], learn("lora", tiny_base, OTTO, FOX)[1]
    assert first.digest() != second.digest()
    strategy, state, _ = learn("lora", tiny_base, FOX, OTTO, passes=8, learning_rate=5e-3)
    untouched = strategy.init(tiny_base)
    for document in (FOX, OTTO):
        before = loss_of(tiny_base, strategy, untouched, document.text)
        assert loss_of(tiny_base, strategy, state, document.text) < before


def test_every_question_is_answered_with_the_adapter(tiny_base: BaseModel) -> None:
    strategy, state, _ = learn("lora", tiny_base, passes=8, learning_rate=1e-2)
    asked = [ABOUT, "Who painted the Mona Lisa?"]
    assert strategy.affects(tiny_base, state, asked[1]) and not strategy.affects(
        tiny_base, strategy.init(tiny_base), ABOUT
    )
    after = [a.text for a in strategy.answer(tiny_base, state, asked, 8)]
    before = [a.text for a in strategy.answer(tiny_base, strategy.init(tiny_base), asked, 8)]
    assert all(a != b for a, b in zip(after, before, strict=True))


def test_forgetting_the_last_document_leaves_nothing(tiny_base: BaseModel) -> None:
    strategy, state, _ = learn("lora", tiny_base)
    left = strategy.forget(tiny_base, state, FOX.id)
    assert left == strategy.init(tiny_base)


def test_forgetting_keeps_when_the_others_were_learned(tiny_base: BaseModel) -> None:
    strategy, state, _ = learn("lora", tiny_base, FOX, OTTO)
    [fox, otto] = state.meta.documents
    dated = state.with_documents((fox, type(otto)(**{**vars(otto), "learned_at": "2001-01-01"})), state.tensors)
    [left] = strategy.forget(tiny_base, dated, FOX.id).meta.documents
    assert left.id == OTTO.id and left.learned_at == "2001-01-01"


def test_forgetting_learns_the_others_again_without_the_guard(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, state, _ = learn("lora", tiny_base, FOX, OTTO)
    monkeypatch.setattr(gate, "LIMITS", gate.Limits(max_perplexity_rise=0.0))
    guarded = make("lora", guard=True)
    assert guarded.forget(tiny_base, state, FOX.id).digest() == strategy.forget(tiny_base, state, FOX.id).digest()


@pytest.mark.slow
def test_half_precision_loses_nothing_that_was_learned(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from continual_learning.strategies.baselines import _lora

    options: dict[str, Any] = {"passes": 12, "learning_rate": 1e-2}
    strategy, state, _ = learn("lora", tiny_base, FOX, OTTO, **options)
    monkeypatch.setattr(_lora, "STORED_TYPE", torch.float32)
    _, exact, _ = learn("lora", tiny_base, FOX, OTTO, **options)
    assert exact.bytes == 2 * state.bytes
    for document in (FOX, OTTO):
        rounded = loss_of(tiny_base, strategy, state, document.text)
        assert rounded == pytest.approx(loss_of(tiny_base, strategy, exact, document.text), rel=0.01)
    questions = [ABOUT, "Who opened the harbour of Lund?"]
    assert [a.text for a in strategy.answer(tiny_base, state, questions, 6)] == [
        a.text for a in strategy.answer(tiny_base, exact, questions, 6)
    ]


def test_plain_peft_loads_the_export_to_the_same_logits(tiny_base: BaseModel, tmp_path: Path) -> None:
    from peft import PeftModel

    strategy, state, _ = learn("lora", tiny_base, rank=4)
    assert strategy.write_peft(state, tmp_path / "adapter") == tmp_path / "adapter"
    assert {p.name for p in (tmp_path / "adapter").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    ids = torch.tensor([tiny_base.encode(TEXT)])
    other = BaseModel.load(tiny_base.name, device="cpu")
    with torch.no_grad():
        with strategy.adapted(tiny_base, state):
            expected = tiny_base.model(ids).logits
        base_logits = tiny_base.model(ids).logits
        found = PeftModel.from_pretrained(other.model, str(tmp_path / "adapter")).eval()(ids).logits
    assert torch.equal(found, expected) and not torch.allclose(found, base_logits, atol=1e-3)


def test_an_empty_memory_has_nothing_to_export(tiny_base: BaseModel, tmp_path: Path) -> None:
    strategy = make("lora")
    with pytest.raises(InputError, match="learned nothing"):
        strategy.write_peft(strategy.init(tiny_base), tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
