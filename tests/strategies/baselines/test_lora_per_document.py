"""An adapter for each document, opened by a router."""

from __future__ import annotations

import pytest
import torch
from finetuned import ABOUT, ELSEWHERE, FOX, OTTO, TEXT, learn

from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.baselines import lora_per_document
from continual_learning.types import UNAFFECTED

pytestmark = pytest.mark.slow

HARBOUR = "Who opened the harbour of Lund in 1902?"


def test_a_question_opens_the_adapter_of_its_document(tiny_base: BaseModel) -> None:
    strategy, state, _ = learn("lora_per_document", tiny_base, FOX, OTTO, passes=4, learning_rate=1e-2)
    asked = [HARBOUR, ELSEWHERE, ABOUT]
    answers = strategy.answer(tiny_base, state, asked, 6)
    assert [[s.document_id for s in a.sources] for a in answers] == [[OTTO.id], [], [FOX.id]]
    assert [strategy.affects(tiny_base, state, q) for q in asked] == [True, False, True]
    assert [strategy.answer_key(tiny_base, state, q) for q in asked] == [OTTO.id, UNAFFECTED, FOX.id]
    # What it answers of the fox does not depend on what else it learned.
    _, alone, _ = learn("lora_per_document", tiny_base, FOX, passes=4, learning_rate=1e-2)
    assert strategy.answer(tiny_base, alone, [ABOUT], 6)[0].text == answers[2].text


def test_other_texts_get_the_base_bit_for_bit(tiny_base: BaseModel) -> None:
    strategy, state, _ = learn("lora_per_document", tiny_base, learning_rate=1e-2)
    frozen = make_strategy("frozen")
    expected = frozen.answer(tiny_base, frozen.init(tiny_base), [ELSEWHERE], 6)[0].text
    assert strategy.answer(tiny_base, state, [ELSEWHERE], 6)[0].text == expected
    ids = torch.tensor([tiny_base.encode(TEXT)])
    with torch.no_grad():
        before = tiny_base.model(ids).logits
        with strategy.adapted(tiny_base, state, ELSEWHERE):
            assert torch.equal(tiny_base.model(ids).logits, before)
        with strategy.adapted(tiny_base, state, ABOUT):
            assert not torch.allclose(tiny_base.model(ids).logits, before, atol=1e-3)


def test_a_follow_up_is_understood_from_the_turn_before(tiny_base: BaseModel) -> None:
    strategy, state, _ = learn("lora_per_document", tiny_base)
    history = [{"role": "user", "content": ABOUT}, {"role": "assistant", "content": "Paris"}]
    [answer] = strategy.answer(tiny_base, state, ["And why was that?"], 4, history=history)  # type: ignore[arg-type]
    assert answer.sources


def test_documents_do_not_touch_one_another(tiny_base: BaseModel) -> None:
    strategy, both, _ = learn("lora_per_document", tiny_base, FOX, OTTO)
    _, alone, _ = learn("lora_per_document", tiny_base, OTTO)
    mine = {n: t for n, t in both.tensors.items() if n.startswith(OTTO.id)}
    assert mine.keys() == alone.tensors.keys() and all(torch.equal(mine[n], alone.tensors[n]) for n in mine)
    assert strategy.forget(tiny_base, both, FOX.id).digest() == alone.digest()


def test_the_memory_is_an_adapter_and_keys_and_no_text(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_per_document, "PASSAGE_TOKENS", 25)
    strategy, state, report = learn("lora_per_document", tiny_base, rank=3)
    keys = [n for n in state.tensors if n.endswith(".key")]
    assert len(keys) > 1
    adapter = sum(t.numel() * t.element_size() for n, t in state.tensors.items() if n not in keys)
    assert adapter == 2 * strategy.describe(tiny_base, state)["trainable_parameters"]
    assert report.bytes == state.bytes and state.meta.extra == {}
