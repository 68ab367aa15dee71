"""Strategy auto: a new memory gets its strategy by the first documents that it learns."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from continual_learning import Document, Learner
from continual_learning.app.automatic import TYPICAL_TOKENS, Automatic
from continual_learning.app.estimate import Estimate
from continual_learning.errors import ConfigError, InputError
from continual_learning.memory.store import Store
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.baselines.in_context import InContext
from continual_learning.strategies.choosing import AutoConfig

TEXT = "Comb jellies eat plankton near the harbour of Lund."
LONG = "\n".join(f"Comb jelly {number} eats plankton near the harbour of Lund." for number in range(40))
WINDOW = 256  # of the tiny base, a quarter of which in_context reads


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("continual_learning.app.estimate.matmul_gflops", lambda _device: 60.0)


def test_the_first_document_decides_and_the_memory_keeps_its_strategy(
    tiny_base: BaseModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = replace(InContext.cost, f1_without_reader={tiny_base.name: 0.9})
    monkeypatch.setattr(InContext, "cost", best)  # a typical document does not fit into the window, and this one does
    learner = Learner.open(tiny_base, "auto", "work")
    assert learner.ask("What do comb jellies eat?", 2).origin == "model" and learner.chosen is None
    with caplog.at_level(logging.INFO, "continual_learning"):
        assert learner.learn(TEXT).accepted
    assert learner.strategy.name == learner.state.meta.strategy == "in_context"
    [line] = [r.getMessage() for r in caplog.records if r.getMessage().startswith("strategy auto")]
    assert line.startswith("strategy auto: in_context for 1 document of ") and learner.chosen is not None
    assert line.endswith(learner.chosen.reason)
    assert len(learner.chosen.considered) > 8

    learner.learn(Document(LONG, "Many"))
    assert [r.getMessage().startswith("strategy auto") for r in caplog.records].count(True) == 1
    assert [d.tokens > 0 for d in learner.documents] == [True, True]
    # other wishes do not change a memory that is there
    again = Learner.open(tiny_base, "auto", "work", keep_text=False)
    assert again.strategy.name == "in_context" and again.documents == learner.documents and again.chosen is None
    assert again.choose([Document(TEXT)]) is None


def test_what_is_wanted_changes_the_choice(tiny_base: BaseModel) -> None:
    learner = Learner.open(tiny_base, "auto", keep_text=False)
    chosen = learner.choose([Document(TEXT)])
    assert chosen is not None and chosen.strategy == learner.strategy.name and not learner.strategy.keeps_text
    with pytest.raises(InputError, match=r"auto\.keep_text = false rules out"):
        Learner.open(tiny_base, "auto", keep_text=False, seconds=1e-9).choose()
    with pytest.raises(ConfigError, match="did you mean 'keep_text'"):
        Learner.open("no such model", "auto", keep_txt=False)


def test_documents_that_nothing_fits_leave_the_choice_open(tiny_base: BaseModel) -> None:
    long = Document(LONG * 5, "Long")
    assert len(tiny_base.encode(long.text)) > TYPICAL_TOKENS
    enough = Estimate.here(tiny_base).learn("ttt", len(tiny_base.encode(long.text)) - 1)
    learner = Learner.open(tiny_base, "auto", "none", keep_text=False, seconds=enough)
    with pytest.raises(InputError, match="no strategy is left"):
        learner.learn([Document(TEXT), long])
    assert Store.open("none").head is None
    assert learner.choose([Document(TEXT)]) is not None


def test_strategies_get_their_options_and_what_they_cannot_take_is_reported(tiny_base: BaseModel) -> None:
    automatic = Automatic(AutoConfig(), lambda name: {"reader": 3} if name == "quote" else {})
    considered = {each.candidate.strategy: each for each in automatic.consider(tiny_base, [200, WINDOW])}
    assert "frozen" not in considered, "it never learns"
    assert dict(considered["quote"].ruled_out)["base"].startswith("strategy 'quote': reader = 3")
    assert dict(considered["in_context"].ruled_out)["length"] == "456 tokens in all, and 64 fit into the window"
    assert considered["rag"].candidate.prompt_tokens == 320 and considered["in_context"].candidate.prompt_tokens == 64
    assert "hypernetwork" in dict(considered["doc2lora"].ruled_out)["base"]
    assert considered["rag"].candidate.bytes == round(5.4 * 456)
    with pytest.raises(ConfigError, match="reader = 3"):
        automatic.make("quote")


def test_what_writes_to_a_memory_without_documents_decides_too(tiny_base: BaseModel) -> None:
    learner = Learner.open(tiny_base, "auto", "work")
    learner.save("empty")
    assert learner.strategy.name == "jitrl_mvp" == Store.open("work").load().meta.strategy
    learner.learn(TEXT)
    learner.load("empty")
    assert learner.documents == () and learner.chosen is not None
