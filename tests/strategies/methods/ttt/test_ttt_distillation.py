"""Soft targets of ttt: the teacher, the loss, and what it does to learning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from continual_learning.documents import Document
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.methods.ttt import TTT, learning
from continual_learning.strategies.methods.ttt.distillation import soft_loss, soft_targets, top_k_kl, with_document
from continual_learning.training.examples import Item
from continual_learning.training.external import BorrowedStudy

TEXT = "The quick brown fox lives in Paris with seven cats. Comb jellies swim with rows of cilia."
QUICK: dict[str, Any] = {"neurons": 6, "passes": 2, "questions_per_fragment": 2, "guard": False, "selection": "tf"}


def learn(base: BaseModel, **options: Any) -> tuple[TTT, State]:
    strategy = make_strategy("ttt", {**QUICK, **options})
    assert isinstance(strategy, TTT)
    state, _ = strategy.learn(base, strategy.init(base), Document(TEXT, "Fox"))
    return strategy, state


def test_kl_over_all_classes_is_the_usual_one() -> None:
    generator = torch.Generator().manual_seed(0)
    p_MV, q_MV = (torch.randn(3, 7, generator=generator).log_softmax(-1) for _ in range(2))
    whole_M = torch.nn.functional.kl_div(q_MV, p_MV, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(top_k_kl(p_MV, q_MV), whole_M, atol=1e-4, rtol=1e-4)
    top = p_MV.topk(3)
    part_M = top_k_kl(top.values, q_MV.gather(-1, top.indices))
    assert (part_M > 0).all() and (part_M < whole_M).all(), "classes that are joined can only lose divergence"
    torch.testing.assert_close(top_k_kl(top.values, top.values), torch.zeros(3), atol=1e-5, rtol=0)


def test_the_teacher_sees_the_document(tiny_base: BaseModel) -> None:
    question, text = Item((5, 6, 7, 8, 9), 3), Item((5, 6, 7), 1)
    asked = with_document(tiny_base, [question, text], TEXT)
    assert asked[1] is None, "a plain text is no question"
    assert asked[0] is not None and asked[0].ids[-5:] == question.ids
    [target, none] = soft_targets(tiny_base, asked, 4)
    assert target is not None and none is None and target.tokens_MK.shape == (2, 4)
    logp_TV = tiny_base.model(torch.tensor([asked[0].ids])).logits[0].log_softmax(-1)
    torch.testing.assert_close(target.logp_MK, logp_TV[-3:-1].topk(4).values, atol=1e-4, rtol=1e-4)


def test_the_loss_is_zero_where_model_and_teacher_agree(tiny_base: BaseModel) -> None:
    items = [Item((5, 6, 7, 8, 9), 3)]
    ids_BT = torch.tensor([items[0].ids])
    hidden_BTD = tiny_base.run_from(tiny_base.hidden_before(ids_BT, 0), ids_BT, 0)
    same = soft_loss(tiny_base, items, soft_targets(tiny_base, items, 8), hidden_BTD)
    other = soft_loss(tiny_base, items, soft_targets(tiny_base, with_document(tiny_base, items, TEXT), 8), hidden_BTD)
    assert abs(float(same)) < 1e-4 < 0.01 < float(other)
    assert float(soft_loss(tiny_base, items, [None], hidden_BTD)) == 0.0


def test_replay_keeps_ordinary_text_as_it_was(tiny_base: BaseModel, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("A user asks the assistant.\n\nNumbers 0 1 2 3 4 appear too.", encoding="utf-8")
    ordinary = torch.tensor([tiny_base.encode("A user asks the assistant.")])

    def drift(**options: Any) -> float:
        strategy, state = learn(tiny_base, background=own, passes=6, neurons=None, **options)
        with torch.no_grad():
            before = tiny_base.model(ordinary).logits.log_softmax(-1)
            with strategy.adapted(tiny_base, state, TEXT):
                after = tiny_base.model(ordinary).logits.log_softmax(-1)
        return float(torch.nn.functional.kl_div(after, before, reduction="batchmean", log_target=True))

    assert drift(replay_weight=5.0) < 0.7 * drift()


@pytest.mark.parametrize(
    ("knob", "value", "others"),
    [
        ("distill_weight", 1.0, {}),
        ("replay_weight", 1.0, {}),
        ("replay_texts", 1, {"replay_weight": 1.0}),
        ("replay_tokens", 2, {"replay_weight": 1.0}),
        ("soft_top_k", 1, {"replay_weight": 1.0}),
        ("soft_top_k", 1, {"distill_weight": 1.0}),
    ],
)
def test_every_setting_changes_what_is_learned(
    knob: str, value: Any, others: dict[str, Any], tiny_base: BaseModel
) -> None:
    (_, usual), (_, other) = learn(tiny_base, **others), learn(tiny_base, **{**others, knob: value})
    assert usual.digest() != other.digest()


def test_what_teachers_name_competes_in_the_loss(tiny_base: BaseModel) -> None:
    [target] = soft_targets(tiny_base, [Item((5, 6, 7), 1)], 4)
    assert target is not None
    named = set(target.tokens_MK.flatten().tolist())
    few, more = (learning.rival_tokens(tiny_base, [], ["a"], taught).tolist() for taught in (frozenset(), named))
    assert set(more) == set(few) | named and more == sorted(more) and not named <= set(few)


def test_borrowed_material_is_studied(tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "material.jsonl"
    row = {"context": TEXT, "qa": "Question: Where does the fox live?\nAnswer: In Paris."}
    file.write_text(json.dumps(row), encoding="utf-8")
    seen: list[Sequence[str]] = []

    def asked(*given: str) -> BorrowedStudy:
        seen.append(given)
        return BorrowedStudy((("Who swims?", "Comb jellies"),))

    monkeypatch.setattr(learning, "study_from_model", asked)
    large = {"study_model": "large", "study_model_url": "http://there/v1"}
    digests = [learn(tiny_base, **o)[1].digest() for o in ({}, {"study_file": file}, large)]
    assert len(set(digests)) == 3
    row["rewrites"] = "\n".join(f"The fox number {n} lives in Paris." for n in range(6))
    file.write_text(json.dumps(row), encoding="utf-8")
    some = [learn(tiny_base, study_file=file, study_statements=n)[1].digest() for n in (0, 3)]
    assert some[0] == digests[1] and some[1] not in digests
    assert seen == [("large", "http://there/v1", TEXT, "Fox")]
