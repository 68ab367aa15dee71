"""Every strategy on a base in bfloat16, and on one whose frozen weights are held in 4 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_conformance import QUESTIONS, QUICK, A, B
from tiny_models import make_tiny

from continual_learning.errors import ConfigError
from continual_learning.memory.store import Store
from continual_learning.model.base_model import BaseModel
from continual_learning.reading.reader.adapter import adapted, new_weights
from continual_learning.strategies.base import make_strategy, strategy_names
from continual_learning.training.examples import text_item
from continual_learning.training.gradient_descent import item_loss

KINDS: dict[str, dict[str, Any]] = {
    "bfloat16": {"dtype": "bfloat16"},
    "nf4": {"dtype": "bfloat16", "frozen_weights": "nf4"},
}
TRAINS_ALL = {"full_finetune"}
# families whose blocks differ: fused MLPs, a soft cap, Conv1D
FAMILIES = ("gemma2", "gemma3", "phi3", "gpt2", "qwen3")


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest, tiny_llama_dir: Path) -> BaseModel:
    return BaseModel.load(str(tiny_llama_dir), device="cpu", **KINDS[request.param])


def weights(base: BaseModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in base.model.state_dict().items()}


@pytest.mark.conformance
@pytest.mark.parametrize("name", strategy_names())
def test_it_learns_answers_saves_and_forgets(name: str, base: BaseModel, tmp_path: Path) -> None:
    strategy = make_strategy(name, QUICK.get(name))
    if name in TRAINS_ALL and base.frozen_weights != "full":
        with pytest.raises(ConfigError, match=r"frozen_weights = '\w+', and all its weights"):
            strategy.learn(base, strategy.init(base), A)
        return
    before = weights(base)
    empty = strategy.init(base)
    first, report = strategy.learn(base, empty, A)
    both, _ = strategy.learn(base, first, B)
    assert report.loss is None or 0 < report.loss < 50
    floats = [t for t in both.tensors.values() if t.is_floating_point()]
    assert all(t.dtype in (torch.float16, torch.float32) and t.isfinite().all() for t in floats)
    answers = strategy.answer(base, both, QUESTIONS, max_new_tokens=5)
    store = Store.open("kept", tmp_path)
    store.save(both, "learned")
    reopened = store.load()
    assert reopened.digest() == both.digest()
    again = strategy.answer(base, reopened, QUESTIONS, max_new_tokens=5)
    assert [a.text for a in again] == [a.text for a in answers]
    if both.meta.documents:
        assert strategy.forget(base, both, B.id).digest() == first.digest()
    after = weights(base)
    assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)


@pytest.mark.conformance
@pytest.mark.parametrize("name", ["ttt", "lora", "nested"])
def test_what_learns_is_fp32_and_gets_better(name: str, base: BaseModel) -> None:
    """Steps smaller than bfloat16 resolves add up, so the same text costs less each time it is seen."""
    options = {"ttt": {"passes": 6, "neurons": None}, "lora": {"passes": 12}, "nested": {"steps": (8, 8, 8)}}[name]
    strategy = make_strategy(name, {**QUICK[name], **options})
    state, report = strategy.learn(base, strategy.init(base), A)
    assert report.accepted and report.loss is not None
    with torch.no_grad():
        item = text_item(base, A.text, A.title)
        plain = float(item_loss(base, [item]))
        with strategy.adapted(base, state, A.text):
            learned = float(item_loss(base, [item]))
    assert report.loss < plain or learned < plain


@pytest.mark.parametrize("family", FAMILIES)
def test_ttt_on_other_families_in_bfloat16(family: str, tmp_path: Path) -> None:
    base = BaseModel.load(str(make_tiny(family, tmp_path)), device="cpu", dtype="bfloat16")
    strategy = make_strategy("ttt", QUICK["ttt"])
    state, report = strategy.learn(base, strategy.init(base), A)
    assert report.accepted and report.loss is not None and report.loss < 50
    assert len(strategy.answer(base, state, QUESTIONS, max_new_tokens=4)) == 3


def test_a_readers_adapter_is_applied_and_trained_in_fp32(base: BaseModel) -> None:
    torch.manual_seed(0)
    weights = {n: (torch.randn_like(w) / 4).requires_grad_() for n, w in new_weights(base, 2, 4).items()}
    item = text_item(base, A.text, A.title)
    plain = item_loss(base, [item])
    with base.patched(adapted(base, weights)):
        loss = item_loss(base, [item])
    loss.backward()
    assert loss.item() != plain.item()
    assert all(w.grad is not None and w.grad.dtype == torch.float32 and w.grad.norm() > 0 for w in weights.values())
    with torch.no_grad(), base.patched(adapted(base, weights, quick=True)):
        assert float(item_loss(base, [item])) == pytest.approx(loss.item(), rel=2e-2)
