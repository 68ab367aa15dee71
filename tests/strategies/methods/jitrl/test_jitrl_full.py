"""JitRL with hidden states: what came next comes again, where the state is the same, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from generations import watch_generations
from tiny_models import make_tiny

from continual_learning.documents import Document
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.gate import perplexity
from continual_learning.strategies.methods.jitrl_full import JitRLFull
from continual_learning.strategies.methods.jitrl_full.memory import document_tokens, positions_of, read_document
from continual_learning.types import UNAFFECTED

MILL = Document("The Harrow mill ground barley until 1887. Its millstones came from Lund by barge.", "The mill")
JELLIES = Document("Comb jellies swim with eight rows of cilia. Most of them eat plankton.", "Ctenophora")
ABOUT = "What did the Harrow mill grind until 1887?"
ELSEWHERE = "Who painted the Mona Lisa?"
STRONG: dict[str, Any] = {"min_evidence": 6.0, "beta": 200.0, "max_kl": 200.0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny model."""
    return BaseModel.load(str(make_tiny("llama", tmp_path_factory.mktemp("tiny"))), device="cpu")


def learned(base: BaseModel, *documents: Document, **options: Any) -> tuple[JitRLFull, State]:
    strategy = make_strategy("jitrl_full", {**STRONG, **options})
    assert isinstance(strategy, JitRLFull)
    state = strategy.init(base)
    for document in documents or (JELLIES, MILL):
        state, report = strategy.learn(base, state, document)
        assert report.accepted
    return strategy, state


def test_the_memory_holds_the_state_before_each_token(base: BaseModel) -> None:
    _, state = learned(base, MILL)
    ids = base.encode(MILL.text)
    assert state.tensors[f"{MILL.id}/tokens"].tolist() == [*ids, -1]
    keys = state.tensors[f"{MILL.id}/keys"]
    assert keys.dtype == torch.float16 and keys.shape == (len(ids) + 1, base.hidden_size)
    start = sorted(base.stop_ids)[:1]
    ids_1T = torch.tensor([start + ids])
    hidden_TD = base.run_from(base.hidden_before(ids_1T, 0), ids_1T, 0)[0]
    assert torch.allclose(keys.float(), torch.nn.functional.normalize(hidden_TD, dim=-1), atol=2e-3)
    assert state.meta.documents[0].details == {"positions": len(ids) + 1}


def test_a_document_beyond_the_window_is_read_in_overlapping_windows(base: BaseModel) -> None:
    passages = [" ".join(f"Otter number {n} crossed the bridge." for n in range(60))]
    ids, numbers = document_tokens(base, passages)
    tensors = read_document(base, "doc", passages)
    assert len(ids) > 2 * base.window and numbers[-1] == 59
    assert tensors["doc/keys"].shape[0] == len(ids) + 1 == len(tensors["doc/sentence"])
    assert tensors["doc/keys"].float().norm(dim=-1).sub(1).abs().max() < 1e-2


def test_a_learned_text_is_expected_and_others_are_not_touched(base: BaseModel) -> None:
    strategy, state = learned(base, MILL, max_kl=3.0)
    frozen = make_strategy("frozen")
    empty = frozen.init(base)
    before = perplexity(base, frozen, empty, [MILL.text])
    assert perplexity(base, strategy, state, [MILL.text]) < 0.6 * before
    other = "A user asks the assistant, and the assistant answers."
    assert perplexity(base, strategy, state, [other]) == perplexity(base, frozen, empty, [other])
    assert not strategy.affects(base, state, other)


@pytest.mark.parametrize("policy", ["closed_form", "interpolation"])
def test_an_answer_quotes_what_the_question_leads_to(base: BaseModel, policy: str) -> None:
    # The tiny model's states say little of what comes next, so the last tokens must say more.
    strategy, state = learned(base, policy=policy, share=0.999, sentences=1, continuation=2.0, min_similarity=-1.0)
    [answer] = strategy.answer(base, state, [ABOUT], 12)
    assert answer.text.startswith(("ground", "barley"))
    assert answer.sources[0].document_id == MILL.id and "barley" in answer.sources[0].quote


def test_the_prompt_holds_the_question_alone(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, state = learned(base)
    calls = watch_generations(monkeypatch)
    strategy.answer(base, state, [ABOUT], 3)
    prompts = calls[0].texts
    assert ABOUT in prompts[0] and "barley" not in prompts[0] and strategy.context(base, state, ABOUT) == ""


def test_who_moved_which_token_can_be_seen(base: BaseModel) -> None:
    strategy, state = learned(base, sentences=1)
    answer, moved = strategy.moved(base, state, ABOUT, 3)
    assert answer.text and moved and moved[0].step == 0 and moved[0].token != moved[0].instead_of
    document_id, sentence, weight = moved[0].neighbours[0]
    assert (document_id, sentence) == (MILL.id, 0) and weight > 0
    assert strategy.moved(base, state, ELSEWHERE, 3)[1] == []


@pytest.mark.parametrize("route", ["passages", "none"])
def test_routes_let_more_positions_be_neighbours(base: BaseModel, route: str) -> None:
    strategy, state = learned(base, route=route)
    [answer] = strategy.answer(base, state, [ABOUT], 3)
    assert answer.text != strategy_free(base)
    assert (strategy.answer_key(base, state, ABOUT) is None) == (route == "none")


def strategy_free(base: BaseModel) -> str:
    frozen = make_strategy("frozen")
    return frozen.answer(base, frozen.init(base), [ABOUT], 3)[0].text


def test_faiss_finds_what_exact_search_finds(base: BaseModel) -> None:
    pytest.importorskip("faiss")
    texts = []
    for search in ("exact", "faiss"):
        strategy, state = learned(base, route="none", search=search)
        texts.append(strategy.answer(base, state, [ABOUT], 6)[0].text)
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "options",
    [
        {"neighbours": 1},
        {"temperature": 5.0},
        {"continuation": 0.0},
        {"opening": "restatement"},
        {"opening_temperature": 0.001},
        {"beta": 1e-3},
        {"kappa": 1e4},
        {"max_kl": 1e-6},
        {"min_similarity": 1.0},
        {"sentences": 1},
        {"policy": "interpolation", "share": 0.999},
    ],
)
def test_every_knob_of_the_policy_moves_the_logits(base: BaseModel, options: dict[str, Any]) -> None:
    usual = {"beta": 3.0, "max_kl": 2.0, "min_similarity": -1.0}

    def logits(given: dict[str, Any]) -> torch.Tensor:
        strategy, state = learned(base, **{**usual, **given})
        seen: list[torch.Tensor] = []
        with base.steered(lambda step: seen.append(step.logits_BV) or step.logits_BV):  # type: ignore[func-returns-value]
            strategy.answer(base, state, [ABOUT], 2)
        return torch.cat(seen[:2])

    usually, otherwise = logits({}), logits(options)
    assert usually.shape != otherwise.shape or not torch.equal(usually, otherwise)


def test_nothing_relevant_is_answered_as_the_base_does(base: BaseModel) -> None:
    strategy, state = learned(base)
    frozen = make_strategy("frozen")
    expected = frozen.answer(base, frozen.init(base), [ELSEWHERE], 6)[0].text
    assert strategy.answer(base, state, [ELSEWHERE, ABOUT], 6)[0].text == expected
    assert strategy.answer_key(base, state, ELSEWHERE) == UNAFFECTED
    assert strategy.answer_key(base, state, ABOUT) not in (None, UNAFFECTED)


def test_the_oldest_documents_give_way(base: BaseModel) -> None:
    room = len(base.encode(MILL.text)) + 10
    strategy, state = learned(base, JELLIES, max_positions=room)
    after, report = strategy.learn(base, state, MILL)
    assert [d.id for d in after.meta.documents] == [MILL.id] and "Ctenophora was dropped" in report.warnings[0]
    assert {name.partition("/")[0] for name in after.tensors} == {MILL.id}
    assert [d.id for d in state.meta.documents] == [JELLIES.id]
    small = make_strategy("jitrl_full", {"max_positions": 5})
    same, refused = small.learn(base, state, MILL)
    assert same is state and not refused.accepted and "max_positions = 5" in refused.reason


def test_sentences_of_several_documents_stay_apart(base: BaseModel) -> None:
    _, state = learned(base)
    positions = positions_of(state, [MILL.id, JELLIES.id])
    assert len(positions) == len(positions.places) == len(positions.keys_ND)
    begins = [positions.places[i] for i in positions.begins_N.nonzero()[:, 0].tolist()]
    assert begins == [(MILL.id, 0), (MILL.id, 1), (MILL.id, 2), (JELLIES.id, 0), (JELLIES.id, 1), (JELLIES.id, 2)]


def test_how_many_chunks_are_considered_is_a_setting(base: BaseModel) -> None:
    more = Document("The Harrow mill was burnt in 1890. The Harrow mill ground rye until then.", "Another mill")
    for top_k in (1, 2):
        strategy, state = learned(base, MILL, more, top_k=top_k)
        found = strategy._finder.find(base, state, ABOUT)
        assert found is not None and len(found.chunks) == top_k


def test_one_strategy_may_be_asked_about_several_memories(base: BaseModel) -> None:
    strategy, state = learned(base, MILL, route="none")
    [before] = strategy.answer(base, state, [ABOUT], 6)
    more, _ = strategy.learn(base, state, JELLIES)
    both = [strategy._everything(base, s) for s in (state, more, state)]
    assert [len(routed.positions) for routed in both] == [
        sum(d.details["positions"] for d in s.meta.documents) for s in (state, more, state)
    ]
    assert strategy._everything(base, state) is both[2]
    assert strategy.answer(base, state, [ABOUT], 6)[0].text == before.text
