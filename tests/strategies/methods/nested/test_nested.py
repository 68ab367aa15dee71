"""Nested learning: levels, cadence, what lasts, guards, the gate, and the way out to PEFT."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from continual_learning import Learner
from continual_learning.documents import Document
from continual_learning.errors import ConfigError, InputError, MismatchError
from continual_learning.memory.state import State
from continual_learning.memory.store import Store
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import Strategy, make_strategy
from continual_learning.strategies.methods import nested
from continual_learning.strategies.methods.nested import learning
from continual_learning.strategies.methods.nested.config import ONE_LEVEL, PUBLIC_PROGRAM
from continual_learning.strategies.methods.nested.levels import distance
from continual_learning.types import LearnReport

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {
    "periods": (0, 30), "learning_rates": (1e-2, 1e-2), "steps": (2, 2), "replay": (0.5, 0.5),
    "optimizers": ("adamw", "adamw"),
}  # fmt: skip
ONE: dict[str, Any] = {**SMALL, "periods": (0,), "learning_rates": (1e-2,), "steps": (2,), "replay": (0.5,),
                       "optimizers": ("adamw",)}  # fmt: skip
TURNS = ["My fox lives in Paris.", "I have seven dogs.", "The cat is in the house.", "My plankton is called Otto."]
QUESTION = "Where does my fox live?"


@pytest.fixture(scope="module", autouse=True)
def _any_loss() -> Iterator[None]:
    """A random model's loss may rise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "MAX_LOSS_RISE", 50.0)
        yield


def learn(base: BaseModel, turns: list[str], start: State | None = None, **options: Any) -> tuple[Strategy[Any], State]:
    strategy = make_strategy("nested", {**SMALL, **options})
    state = start or strategy.init(base)
    for text in turns:
        state, report = strategy.learn(base, state, Document(text))
        assert report.accepted, report.reason
    return strategy, state


def level(state: State, number: int) -> dict[str, torch.Tensor]:
    return state.parts[f"level{number}"]


def logits(base: BaseModel, strategy: Strategy[Any], state: State, text: str = QUESTION) -> torch.Tensor:
    with strategy.adapted(base, state, text), torch.no_grad():
        return base.model(input_ids=torch.tensor([base.encode(text)])).logits


@pytest.fixture(scope="module")
def four(tiny_base: BaseModel) -> tuple[Strategy[Any], State]:
    return learn(tiny_base, TURNS)


# -- levels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon", "m3"])
def test_learning_rate_zero_is_the_base_bit_for_bit(optimizer: str, tiny_base: BaseModel) -> None:
    strategy, state = learn(tiny_base, TURNS[:2], learning_rates=(0.0, 0.0), optimizers=(optimizer, optimizer))
    frozen = make_strategy("frozen")
    expected = logits(tiny_base, frozen, frozen.init(tiny_base))
    assert torch.equal(logits(tiny_base, strategy, state), expected)


def test_learning_rate_zero_of_full_weights_is_the_base_too(tiny_base: BaseModel) -> None:
    options = {**ONE, "weights": "full", "learning_rates": (0.0,), "embeddings": True}
    strategy, state = learn(tiny_base, TURNS[:2], **options)
    frozen = make_strategy("frozen")
    assert torch.equal(logits(tiny_base, strategy, state), logits(tiny_base, frozen, frozen.init(tiny_base)))
    assert all(not t.any() for t in level(state, 1).values())


def test_levels_are_fp32_in_the_last_blocks_alone(tiny_base: BaseModel, four: tuple[Strategy[Any], State]) -> None:
    _, state = four
    paths = {name.rsplit(".", 2)[0] for name in level(state, 1)}
    assert paths == {tiny_base.mlp_path(3)}
    assert all(t.dtype == torch.float32 for part in (1, 2) for t in level(state, part).values())


def test_a_level_is_updated_when_its_period_is_over_and_not_before(tiny_base: BaseModel) -> None:
    strategy = make_strategy("nested", SMALL)
    state, seen, tokens = strategy.init(tiny_base), [], 0
    for text in TURNS:
        before = state
        state, report = strategy.learn(tiny_base, state, Document(text))
        tokens += report.tokens
        updated = {u["level"] for u in state.meta.documents[-1].details["updates"]}
        assert 0 in updated
        seen.append((tokens >= 30, 1 in updated))
        if 1 in updated:
            tokens = 0
        elif before.tensors:
            assert distance(level(before, 2), level(state, 2)) == 0.0
    assert all(due == done for due, done in seen) and {due for due, _ in seen} == {True, False}


def test_what_is_shorter_than_a_period_is_kept_for_later(tiny_base: BaseModel) -> None:
    options = {**ONE, "periods": (30,)}
    strategy = make_strategy("nested", options)
    state, report = strategy.learn(tiny_base, strategy.init(tiny_base), Document(TURNS[0]))
    assert (
        report.accepted and report.reason == f"kept for later: {report.tokens} of the 30 tokens that level 1 waits for"
    )
    assert all(not t.any() for n, t in level(state, 1).items() if n.endswith(".B"))
    for text in TURNS[1:]:
        state, report = strategy.learn(tiny_base, state, Document(text))
        if "learned" in report.reason:
            break
    assert state.meta.documents[-1].details["updates"][0]["turns"] > 1, "all that it waited for, not the last turn"
    assert any(t.any() for n, t in level(state, 1).items() if n.endswith(".B"))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon", "m3"])
def test_a_restart_changes_nothing(optimizer: str, tiny_base: BaseModel, tmp_path: Path) -> None:
    options = {"optimizers": (optimizer, optimizer), "learning_rates": (1e-3, 1e-3)}
    _, whole = learn(tiny_base, TURNS[:3], **options)
    _, half = learn(tiny_base, TURNS[:2], **options)
    store = Store(tmp_path / "memory")
    store.save(half, "learn")
    _, resumed = learn(tiny_base, TURNS[2:3], store.load(), **options)
    assert resumed.digest() == whole.digest() and resumed.meta.extra == whole.meta.extra


def test_the_optimizer_forgets_only_if_told_to(tiny_base: BaseModel, four: tuple[Strategy[Any], State]) -> None:
    assert any(name.startswith("optimizer1/") for name in four[1].tensors)
    _, state = learn(tiny_base, TURNS, keep_optimizer=False)
    assert not any(name.startswith("optimizer") for name in state.tensors)
    assert distance(level(state, 1), level(four[1], 1)) > 0


def test_a_turn_updates_one_of_the_slower_levels_the_most_overdue(tiny_base: BaseModel) -> None:
    tokens = [len(tiny_base.encode(text)) for text in TURNS]
    options = {"periods": (0, min(tokens) - 1, min(tokens)), "learning_rates": (1e-3,) * 3, "steps": (1,) * 3,
               "replay": (0.0,) * 3, "optimizers": ("sgd",) * 3}  # fmt: skip
    _, state = learn(tiny_base, TURNS, **options)
    updates = [[u["level"] + 1 for u in d.details["updates"]] for d in state.meta.documents]
    assert updates == [[1, 2], [1, 3], [1, 2], [1, 3]], "both are due at every turn"
    waited = [u["turns"] for d in state.meta.documents for u in d.details["updates"] if u["level"] > 0]
    assert waited == [1, 2, 2, 2], "what a level was made to wait for is not lost"


def test_the_fastest_level_takes_fewer_steps_beside_a_slower_one(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "STEPS_BESIDE", 1)
    _, state = learn(tiny_base, TURNS, steps=(3, 2))
    by_turn = [{u["level"]: u["steps"] for u in d.details["updates"]} for d in state.meta.documents]
    assert {0: 3} in by_turn
    assert {0: 1, 1: 2} in by_turn
    assert all(steps in ({0: 3}, {0: 1, 1: 2}) for steps in by_turn)


# -- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon", "m3"])
def test_every_optimizer_decays(optimizer: str, tiny_base: BaseModel) -> None:
    options = {**ONE, "optimizers": (optimizer,), "learning_rates": (1e-3,)}
    plain, decayed = (learn(tiny_base, TURNS[:1], **options, weight_decay=d)[1] for d in (0.0, 500.0))
    name = next(n for n in plain.tensors if n.startswith("level1/") and n.endswith(".A"))
    assert decayed.tensors[name].norm() < 0.9 * plain.tensors[name].norm()


def test_every_turn_has_an_item_before_any_has_a_second(tiny_base: BaseModel) -> None:
    import random

    from continual_learning.strategies.methods.nested.material import drawn

    turns = [
        [(f"Who is {name} {i}?", f"{name} {i}.") for i in range(count)] for name, count in (("fox", 5), ("cat", 1))
    ]
    for seed in range(5):
        texts = [tiny_base.decode(item.ids) for item in drawn(tiny_base, turns, 10_000, random.Random(seed))]
        assert len(texts) == 6 and any("cat" in text for text in texts[:2])


def test_a_long_turn_has_one_question_about_everything_and_a_short_one_more(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from continual_learning.strategies.methods.nested import material
    from continual_learning.strategies.methods.nested.material import pair_item, turn_pairs
    from continual_learning.strategies.methods.nested.memory import Turn

    def pairs(study_tokens: int) -> list[tuple[str, str]]:
        monkeypatch.setattr(material, "STUDY_TOKENS", study_tokens)
        return turn_pairs(tiny_base, Turn(" ".join(TURNS), "", 9), make_strategy("nested", SMALL).config)

    monkeypatch.setattr(material, "QUESTIONS", 2)
    whole = pairs(10_000)
    assert [text.split()[-1] for text in TURNS] == [answer.split()[-1] for _, answer in pairs(1)]
    tokens = sum(len(pair_item(tiny_base, pair).ids) for pair in whole)
    assert len(whole) == 8 and pairs(tokens) == whole and pairs(tokens - 1) == whole[:7]


def test_the_fast_level_alone_is_that_of_the_default() -> None:
    default, one = make_strategy("nested").config, make_strategy("nested", ONE_LEVEL).config
    assert (one.steps, one.replay, one.periods) == (default.steps[:1], default.replay[:1], (0,))


def test_keys_of_all_turns_are_one_part(tiny_base: BaseModel, four: tuple[Strategy[Any], State]) -> None:
    parts = {part for part in four[1].parts if not part.startswith(("level", "optimizer"))}
    assert parts == {"turns"} and len(four[1].parts["turns"]) == len(TURNS)


@pytest.mark.parametrize("options", [ONE_LEVEL, PUBLIC_PROGRAM], ids=["one level", "public program"])
def test_the_rows_of_the_benchmarks_learn(options: dict[str, Any], tiny_base: BaseModel) -> None:
    strategy = make_strategy("nested", options)
    state, report = strategy.learn(tiny_base, strategy.init(tiny_base), Document(TURNS[0]))
    assert report.accepted and distance(level(state, 1), {n: t * 0 for n, t in level(state, 1).items()}) > 0


def test_a_long_document_is_learned_in_turns(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(TURNS)
    options = {"periods": (0,), "learning_rates": (1e-3,), "steps": (1,), "replay": (0.0,), "optimizers": ("sgd",)}
    monkeypatch.setattr(nested, "PASSAGE_TOKENS", 16)
    strategy, state = learn(tiny_base, [text], **options)
    assert strategy.describe(tiny_base, state)["turns"] > 2
    monkeypatch.setattr(nested, "MAX_TOKENS", 10)
    strategy = make_strategy("nested", {**SMALL, **options})
    _, report = strategy.learn(tiny_base, strategy.init(tiny_base), Document(text))
    assert report.tokens == 10 and report.tokens_left_out > 0 and "at most 10 tokens" in report.warnings[0]


def test_the_newest_words_are_learned_where_the_window_is_short(tiny_base: BaseModel) -> None:
    from continual_learning.strategies.methods.nested.material import pair_item

    item = pair_item(tiny_base, ("", " ".join(f"{i}" for i in range(400)) + " plankton"))
    assert len(item.ids) == tiny_base.window and "plankton" in tiny_base.decode(item.ids)


def test_given_questions_and_answers_are_studied_as_they_are(tiny_base: BaseModel) -> None:
    from continual_learning.strategies.methods.nested.material import turn_pairs
    from continual_learning.strategies.methods.nested.memory import Turn

    strategy = make_strategy("nested", SMALL)
    turn = Turn("Question: Who swims? Answer: The fox. Q: Where? A: In Paris", "", 9)
    assert turn_pairs(tiny_base, turn, strategy.config) == [("Who swims?", "The fox."), ("Where?", "In Paris")]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"steps": (1,)}, "lengths"),
        ({"periods": (30, 0)}, "rise"),
        ({"replay": (0.0, 1.0)}, "replay"),
        ({"weights": "full"}, "one level"),
        ({"embeddings": True}, "weights = full"),
        ({**ONE, "weights": "full", "optimizers": ("muon",)}, "matrices"),
    ],
)
def test_settings_that_do_not_fit_together(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        make_strategy("nested", {**SMALL, **options})


def test_another_set_of_levels_cannot_read_the_memory(tiny_base: BaseModel, four: tuple[Strategy[Any], State]) -> None:
    other = make_strategy("nested", {**SMALL, "slow_ratio": 0.5})
    with pytest.raises(MismatchError, match=r"slow_ratio = 0.5, but this memory was begun with 0.8"):
        other.answer(tiny_base, four[1], [QUESTION])


# -- guards --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "kept"), [(2.0, False), (3.0, True)])
def test_a_loss_that_rises_brings_the_last_good_weights_back(
    limit: float, kept: bool, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, good = learn(tiny_base, TURNS[:1], **ONE)
    losses = iter([1.0, 3.5])
    monkeypatch.setattr("continual_learning.strategies.methods.nested.learning._loss", lambda *_: next(losses))
    monkeypatch.setattr(learning, "MAX_LOSS_RISE", limit)
    strategy = make_strategy("nested", ONE)
    state, report = strategy.learn(tiny_base, good, Document(TURNS[1]))
    assert report.accepted == kept and (state is good) == (not kept)
    assert ("last good weights are back" in report.reason) == (not kept)


def test_a_loss_that_is_not_a_number_brings_them_back_too(tiny_base: BaseModel) -> None:
    _, good = learn(tiny_base, TURNS[:1], **ONE)
    name = next(n for n in good.tensors if n.startswith("level1/") and n.endswith(".B"))
    broken = State({**good.tensors, name: torch.full_like(good.tensors[name], torch.nan)}, good.meta)
    strategy = make_strategy("nested", ONE)
    state, report = strategy.learn(tiny_base, broken, Document(TURNS[1]))
    assert state is broken and not report.accepted and "nan" in report.reason


# -- the gate ------------------------------------------------------------------------------------------


def test_the_gate_opens_for_the_user_and_for_what_was_told(tiny_base: BaseModel) -> None:
    strategy, state = learn(tiny_base, ["The lighthouse of Zembla is painted by Oskar Quill."], **ONE)
    assert strategy.affects(tiny_base, state, "Who painted the lighthouse of Zembla?")
    assert strategy.affects(tiny_base, state, "Where do I live?")
    assert not strategy.affects(tiny_base, state, "What is the capital of France?")
    assert not strategy.affects(tiny_base, strategy.init(tiny_base), "Where do I live?")
    always = make_strategy("nested", {**SMALL, **ONE, "gate": "always"})
    assert always.affects(tiny_base, state, "What is the capital of France?")


def test_sampling_settings_change_the_answer(tiny_base: BaseModel, four: tuple[Strategy[Any], State]) -> None:
    def answers(**options: Any) -> str:
        strategy = make_strategy("nested", {**SMALL, **options})
        return strategy.answer(tiny_base, four[1], [QUESTION], 12)[0].text

    hot = answers(temperature=3.0)
    assert hot != answers() and hot == answers(temperature=3.0)
    assert answers(temperature=3.0, top_k=1) == answers() == answers(temperature=3.0, top_p=1e-6)


# -- comparing and exporting ---------------------------------------------------------------------------


def test_compare_says_how_far_each_level_is(tiny_base: BaseModel, four: tuple[Strategy[Any], State]) -> None:
    strategy, after = four
    _, before = learn(tiny_base, TURNS[:3])
    first, second = strategy.compare(before, after)
    assert first["level"] == "level1" and first["distance"] > 0 and -1 <= first["cosine"] <= 1
    assert first["most_changed"][0]["distance"] >= first["most_changed"][-1]["distance"] > 0
    assert [row["distance"] for row in strategy.compare(after, after)] == [0.0, 0.0]
    assert second["level"] == "level2"


def test_all_levels_are_one_adapter_exactly(
    tiny_llama_dir: Path, tiny_base: BaseModel, four: tuple[Strategy[Any], State], tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    strategy, state = four
    folder = strategy.write_peft(state, tmp_path / "adapter")
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 16
    loaded = peft.PeftModel.from_pretrained(BaseModel.load(str(tiny_llama_dir), device="cpu").model, folder)
    with torch.no_grad():
        found = loaded(input_ids=torch.tensor([tiny_base.encode(QUESTION)])).logits
    assert torch.allclose(found, logits(tiny_base, strategy, state), atol=1e-4)


def test_what_is_no_adapter_is_not_exported(tiny_base: BaseModel, tmp_path: Path) -> None:
    strategy, state = learn(tiny_base, TURNS[:1], **{**ONE, "weights": "full"})
    with pytest.raises(InputError, match="weights = full"):
        strategy.write_peft(state, tmp_path / "a")
    with pytest.raises(InputError, match="nothing yet"):
        strategy.write_peft(strategy.init(tiny_base), tmp_path / "a")
    with pytest.raises(InputError, match="no PEFT adapter"):
        make_strategy("frozen").write_peft(state, tmp_path / "a")


# -- the embedded model --------------------------------------------------------------------------------


@pytest.mark.model
def test_told_facts_are_answered_from_weights(embedded_base: BaseModel) -> None:
    base, strategy = embedded_base, make_strategy("nested")
    state, report = strategy.init(base), None
    for text in ("My dog is called Biko.", "I live in Aberdeen.", "I am allergic to walnuts."):
        state, report = strategy.learn(base, state, Document(text))
    assert isinstance(report, LearnReport) and state.bytes < 20e6
    answers = strategy.answer(base, state, ["What is my dog called?", "Where do I live?", "What am I allergic to?"], 16)
    right = ["Biko" in answers[0].text, "Aberdeen" in answers[1].text, "walnut" in answers[2].text.lower()]
    assert sum(right) >= 2, [a.text for a in answers]


def test_what_retired_options_meant_is_what_is_done_now() -> None:
    from continual_learning.retrieval.routing import ROUTE_EVIDENCE, ROUTE_THRESHOLD
    from continual_learning.strategies.methods.nested import levels, material
    from continual_learning.strategies.methods.nested.m3 import M3

    slow = inspect.signature(M3).parameters
    assert {
        "steps_beside": learning.STEPS_BESIDE,
        "consolidation": 0.0,
        "rank": levels.RANK,
        "questions": material.QUESTIONS,
        "study_tokens": material.STUDY_TOKENS,
        "mini_batch_tokens": learning.MINI_BATCH_TOKENS,
        "passage_tokens": nested.PASSAGE_TOKENS,
        "max_tokens": nested.MAX_TOKENS,
        "slow_every": slow["slow_every"].default,
        "slow_share": slow["slow_share"].default,
        "seed": nested.SEED,
        "route_threshold": ROUTE_THRESHOLD,
        "route_evidence": ROUTE_EVIDENCE,
        "max_loss_rise": 1.0,
    } == nested.NestedConfig.RETIRED


def test_a_chat_of_a_learner_learns_what_is_said(tiny_base: BaseModel) -> None:
    learner = Learner.open(tiny_base, "nested", memory="talk", **SMALL)
    chat = learner.chat(max_new_tokens=4)
    assert chat.say(TURNS[0]).notes == () and [d.source for d in learner.documents] == ["chat"]
    assert learner.state.tensors and len(learner.history) == 2
    assert "was not learned" in chat.say(TURNS[0]).notes[-1]
    other = Learner.open(tiny_base, "quote")
    other.chat(max_new_tokens=4).say(TURNS[0])
    assert other.documents == ()
