"""What all trained baselines do alike: settings, limits, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from finetuned import ABOUT, FOX, OTTO, TEXT, learn, loss_of, make

from continual_learning.documents import Document
from continual_learning.errors import ConfigError, DivergedError, MismatchError
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies import gate
from continual_learning.strategies.base import make_strategy
from continual_learning.training import gradient_descent
from continual_learning.types import LearnReport, Progress, QuestionAnswer

pytestmark = pytest.mark.slow

NAMES = ["lora", "lora_per_document", "full_finetune", "replay"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("signal", ["study", "text"])
def test_learning_lowers_the_loss_of_the_text(name: str, signal: str, tiny_base: BaseModel) -> None:
    strategy, state, report = learn(name, tiny_base, signal=signal, passes=12, learning_rate=1e-2)
    before = loss_of(tiny_base, strategy, strategy.init(tiny_base))
    assert loss_of(tiny_base, strategy, state) < before - 0.5
    assert report.accepted and report.loss is not None and report.loss < before
    assert {"study material", "gradient descent"} <= set(report.timings)


@pytest.mark.parametrize("name", NAMES)
def test_a_learning_rate_of_zero_gives_the_base_back(name: str, tiny_base: BaseModel) -> None:
    strategy, state, _ = learn(name, tiny_base, learning_rate=0.0)
    ids = torch.tensor([tiny_base.encode(TEXT)[:32]])
    with torch.no_grad():
        before = tiny_base.model(ids).logits
        with strategy.adapted(tiny_base, state, TEXT):
            assert torch.equal(tiny_base.model(ids).logits, before)


@pytest.mark.parametrize("name", NAMES)
def test_a_nan_loss_stops_and_changes_nothing(name: str, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = gradient_descent.item_loss, []

    def diverging(*args: Any) -> torch.Tensor:
        calls.append(args)
        return real(*args) * (math.nan if len(calls) == 2 else 1.0)

    monkeypatch.setattr(gradient_descent, "item_loss", diverging)
    strategy, before = make(name), tiny_base.token_nll([TEXT])
    state = strategy.init(tiny_base)
    with pytest.raises(DivergedError, match=r"the loss became nan at step 2 of .* try a learning_rate below"):
        strategy.learn(tiny_base, state, FOX)
    assert len(calls) == 2 and state.meta.documents == ()
    assert tiny_base.token_nll([TEXT]) == before


def test_progress_counts_the_steps(tiny_base: BaseModel) -> None:
    seen: list[Progress] = []
    strategy = make("full_finetune")
    _, report = strategy.learn(tiny_base, strategy.init(tiny_base), FOX, progress=seen.append)
    assert [p.done for p in seen] == list(range(1, seen[0].total + 1)) and seen[0].stage == "learn"
    assert report.accepted and seen[-1].message.startswith("loss ")


def test_what_is_beyond_the_limit_is_said(tiny_base: BaseModel) -> None:
    _, _, report = learn("full_finetune", tiny_base, max_tokens=20)
    total = len(tiny_base.encode(TEXT))
    assert report.tokens == 20 and report.tokens_left_out == total - 20
    assert f"{total - 20} of {total} tokens were left out" in report.warnings[0]


def test_bytes_are_what_the_document_adds(tiny_base: BaseModel) -> None:
    _, alone, first = learn("full_finetune", tiny_base)
    assert first.bytes == alone.bytes + len(TEXT.encode())
    _, both, second = learn("full_finetune", tiny_base, FOX, OTTO)
    assert both.bytes == alone.bytes and second.bytes == len(OTTO.text.encode())


@pytest.mark.parametrize(
    ("name", "options", "others"),
    [
        ("lora", {"rank": 4}, "rank = 4, but this memory was begun with 16"),
        ("lora_per_document", {"alpha": 5.0}, "alpha = 5.0, but this memory was begun with 32.0"),
        ("replay", {"rank": 4}, "rank = 4, but this memory was begun with 16"),
    ],
)
def test_a_memory_keeps_the_settings_it_was_begun_with(
    name: str, options: dict[str, Any], others: str, tiny_base: BaseModel
) -> None:
    _, state, _ = learn(name, tiny_base)
    other = make(name, **options)
    with pytest.raises(MismatchError, match=others):
        other.answer(tiny_base, state, [ABOUT], 4)
    with pytest.raises(MismatchError, match=others):
        other.learn(tiny_base, state, OTTO)
    assert make(name, passes=7).answer(tiny_base, state, [ABOUT], 4), "the other settings may change"


@pytest.mark.parametrize("options", [{"passes": 0}, {"learning_rate": -1.0}, {"max_tokens": 0}, {"signal": "words"}])
def test_settings_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make("full_finetune", **options)


# -- refusing to get worse ---------------------------------------------------------------------------


def within(monkeypatch: pytest.MonkeyPatch, **limits: float) -> None:
    """Other limits for the guard."""
    monkeypatch.setattr(gate, "LIMITS", gate.Limits(**limits))


def guarded(base: BaseModel, qa: list[QuestionAnswer] | None = None, **options: Any) -> LearnReport:
    """All weights on one sentence, often enough that a random model learns it by heart and forgets the rest."""
    strategy = make("full_finetune", **{"guard": True, "passes": 20, "learning_rate": 2e-2, **options})
    state = strategy.init(base)
    after, report = strategy.learn(base, state, Document("Otto Brand lives in Lund.", "Otto"), qa or [])
    assert (after is state) == (not report.accepted)
    return report


def test_without_the_guard_nothing_is_checked(tiny_base: BaseModel) -> None:
    report = guarded(tiny_base, guard=False)
    assert report.accepted and report.perplexity_change is None and "guard is off" in report.reason


def test_the_guard_refuses_when_unrelated_perplexity_rises(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = guarded(tiny_base)
    assert not report.accepted and "perplexity of unrelated text rose by" in report.reason
    assert report.perplexity_change is not None and report.perplexity_change > 0.03
    assert report.timings["retention"] > 0
    within(monkeypatch, max_perplexity_rise=1e9)
    assert guarded(tiny_base).accepted


def test_the_guard_refuses_when_general_questions_are_lost(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A question that the random model happens to answer "right": its own first words.
    said = make_strategy("frozen").answer(tiny_base, make_strategy("frozen").init(tiny_base), ["Who?"], 24)[0].text
    monkeypatch.setattr(gate, "general_questions", lambda: [QuestionAnswer("Who?", (said,))])
    within(monkeypatch, max_perplexity_rise=1e9)
    report = guarded(tiny_base)
    assert not report.accepted and report.general_kept == 0.0
    within(monkeypatch, max_perplexity_rise=1e9, min_general_kept=0.0)
    assert guarded(tiny_base).accepted


def test_the_guard_asks_the_questions_that_are_given(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"max_perplexity_rise": 1e9, "min_general_kept": 0.0}
    within(monkeypatch, **free)
    never = [QuestionAnswer("Where does Otto Brand live?", ("in a word that is never said",))]
    report = guarded(tiny_base, never, passes=40)
    assert not report.accepted and report.recall_after == 0.0 and "recall of the document" in report.reason
    known = [QuestionAnswer("Where does Otto Brand live?", ("Lund",)), never[0]]
    learned = guarded(tiny_base, known, passes=40)
    assert learned.accepted and (learned.recall_before, learned.recall_after) == (0.0, 0.5)
    within(monkeypatch, **free, min_recall_gain=0.5)
    refused = guarded(tiny_base, known, passes=40)
    assert not refused.accepted and "expected a rise of more than 0.50" in refused.reason
