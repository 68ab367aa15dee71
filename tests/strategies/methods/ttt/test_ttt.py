"""TTT-E2E on a tiny random model: what learns, what is kept, what is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from continual_learning.documents import Document
from continual_learning.errors import ConfigError, DivergedError
from continual_learning.memory.state import State, StateMeta
from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import generate
from continual_learning.options import current_options
from continual_learning.retrieval.parts import cut_parts
from continual_learning.retrieval.routing import Router
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.methods.ttt import TTT, documents, learning
from continual_learning.strategies.methods.ttt.calibration import calibrate
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.documents import Todo
from continual_learning.strategies.methods.ttt.inner_loop import Course
from continual_learning.strategies.methods.ttt.memory import passage_deltas
from continual_learning.training.gradient_descent import item_loss
from continual_learning.types import LearnReport, QuestionAnswer

pytestmark = pytest.mark.slow

TEXT = (
    "The quick brown fox lives in Paris with seven cats. It was born in June 1811 near the lazy dog. "
    "Comb jellies swim with rows of cilia, and they eat plankton."
)
DOCUMENT = Document(TEXT, "Fox")
SHORT = Document("Otto Brand lives in Lund. His seven cats sleep all day.", "Otto")
ABOUT = "Where does the quick brown fox live?"
QUICK: dict[str, Any] = {"neurons": 6, "passes": 2, "guard": False}


def ttt(**options: Any) -> TTT:
    made = make_strategy("ttt", {**QUICK, **options})
    assert isinstance(made, TTT)
    return made


def learn(base: BaseModel, document: Document = DOCUMENT, **options: Any) -> tuple[State, LearnReport]:
    strategy = ttt(**options)
    return strategy.learn(base, strategy.init(base), document)


def test_learning_lowers_the_loss_of_the_parts(tiny_base: BaseModel) -> None:
    strategy = ttt(passes=4, neurons=None)
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), DOCUMENT)
    parts = cut_parts(TEXT, lambda text: len(tiny_base.encode(text)), strategy.config.part_tokens)
    items = [learning.part_item(tiny_base, "Fox", number, part) for number, part in enumerate(parts)]
    with torch.no_grad():
        before = item_loss(tiny_base, items)
        with strategy.adapted(tiny_base, state, TEXT):
            after = item_loss(tiny_base, items)
    assert after < before - 0.5


def test_only_chosen_blocks_and_neurons_learn(tiny_base: BaseModel) -> None:
    state, _ = learn(tiny_base, first_block=1, last_block=3, neurons=5)
    learned = {n.partition("/")[2] for n in state.tensors}
    assert {n.split(".")[1] for n in learned if not n.endswith((".key", ".parts"))} == {"001", "002"}
    assert all(t.shape[0] == 5 for n, t in state.tensors.items() if n.endswith((".down", ".scale", ".neurons")))
    defaults, _ = learn(tiny_base)
    assert {n.split(".")[1] for n in defaults.tensors if n.endswith(".down")} == {"003"}, "the last of four"


def test_a_learning_rate_of_zero_gives_the_base_back(tiny_base: BaseModel) -> None:
    strategy = ttt(learning_rate=0.0)
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), DOCUMENT)
    ids = torch.tensor([tiny_base.encode(TEXT)[:32]])
    with torch.no_grad():
        before = tiny_base.model(ids).logits
        with strategy.adapted(tiny_base, state, TEXT):
            assert torch.equal(tiny_base.model(ids).logits, before)


def test_retired_options_are_gone_and_named() -> None:
    assert not set(TTTConfig.RETIRED) & set(TTTConfig.model_fields)
    assert len(TTTConfig.model_fields) <= 35


def test_calibration_is_kept_and_made_anew_for_another_base(tiny_base: BaseModel, tmp_path: Path) -> None:
    seen: list[int] = []
    texts = ["The quick brown fox.", "Comb jellies eat plankton."]

    def run() -> dict[int, list[int]]:
        made = calibrate(tiny_base, texts, [3], tmp_path, lambda done, total: seen.append(done))
        assert made.sequences == 2
        return {block: t.tolist() for block, t in made.document_frequency.items()}

    first = run()
    assert seen == [1, 2] and sum(first[3]) > 0
    assert run() == first and seen == [1, 2], "the second time it is read"
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    assert run() == first and seen == [1, 2, 1, 2], "a damaged file is counted anew"
    other = BaseModel("other", tiny_base.model, tiny_base.tokenizer, fingerprint="another base")
    calibrate(other, texts, [3], tmp_path, lambda done, total: seen.append(done))
    assert seen == [1, 2] * 3 and len(list(tmp_path.iterdir())) == 2


def test_routing_opens_a_passage_for_its_questions_alone(tiny_base: BaseModel) -> None:
    strategy = ttt()
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), DOCUMENT)
    assert strategy.affects(tiny_base, state, ABOUT)
    assert not strategy.affects(tiny_base, state, "Who painted the Mona Lisa?")
    [answer] = strategy.answer(tiny_base, state, [ABOUT], 4)
    assert [s.document_id for s in answer.sources] == [DOCUMENT.id]
    assert strategy.answer(tiny_base, state, ["Who painted the Mona Lisa?"], 4)[0].sources == ()
    # A memory of one document is found by its title's words too; among several a question's own words decide.
    state, _ = strategy.learn(tiny_base, state, Document("Harbour pilots of Tidewick read the tide tables.", "Pilots"))
    unnamed = "Which quick brown animal lives in Paris with seven cats?"
    assert strategy.affects(tiny_base, state, unnamed)
    assert not ttt(route_evidence=99.0).affects(tiny_base, state, unnamed)
    assert not ttt(route_threshold=1.0).affects(tiny_base, state, "Where does the purple fox live?")


def test_a_follow_up_is_understood_from_the_turn_before(tiny_base: BaseModel) -> None:
    strategy = ttt()
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), DOCUMENT)
    history = [{"role": "user", "content": ABOUT}, {"role": "assistant", "content": "Paris"}]
    [answer] = strategy.answer(tiny_base, state, ["And why was that?"], 4, history=history)  # type: ignore[arg-type]
    assert answer.sources


def test_a_long_document_becomes_several_passages(tiny_base: BaseModel) -> None:
    state, report = learn(tiny_base, passage_tokens=25)
    keys = [n for n in state.tensors if n.endswith(".key")]
    assert len(keys) == state.meta.documents[0].details["passages"] > 1
    assert report.tokens == len(tiny_base.encode(TEXT))


def test_documents_of_any_length_are_learned_whole(tiny_base: BaseModel) -> None:
    long = Document(f"{TEXT}\n" * 250, "Fox")
    strategy = ttt()
    todo = Todo.of(tiny_base, strategy.init(tiny_base), [long], strategy.config)
    [cut] = todo.texts.values()
    assert cut.tokens == len(tiny_base.encode(long.text)) > 10_000 and cut.left_out == 0
    assert " ".join(" ".join(cut.parts).split()) == " ".join(long.text.split())
    limited = ttt(max_tokens=4096)  # the default of older memories
    assert limited.workload(tiny_base, limited.init(tiny_base), [long]).tokens == 4096


def test_the_weights_of_a_passage_are_indexed_once_a_state() -> None:
    scans = []

    class Counted(dict[str, torch.Tensor]):
        def items(self) -> Any:
            scans.append(1)
            return super().items()

    names = ["doc-a/0001.003.up", "doc-a/0001.002.down", "doc-a/0001.key", "doc-a/0001.parts", "doc-ab/0001.002.up"]
    tensors = Counted({name: torch.tensor([number]) for number, name in enumerate(names)})
    state = State(tensors, StateMeta("ttt", {}, "tiny", "0" * 64))
    assert passage_deltas(state, "doc-a", 1) == {3: {"up": tensors[names[0]]}, 2: {"down": tensors[names[1]]}}
    assert passage_deltas(state, "doc-ab", 1) == {2: {"up": tensors[names[4]]}}
    assert passage_deltas(state, "doc-b", 1) == {} and scans == [1]


def test_what_is_beyond_the_limit_is_said(tiny_base: BaseModel) -> None:
    _, report = learn(tiny_base, max_tokens=20)
    total = len(tiny_base.encode(TEXT))
    assert report.tokens == 20 and report.tokens_left_out == total - 20
    assert f"{total - 20} of {total} tokens were left out" in report.warnings[0]


def test_max_seconds_ends_learning_and_says_so(tiny_base: BaseModel) -> None:
    _, report = learn(tiny_base, max_seconds=1e-9)
    assert report.warnings and "max_seconds ended learning after 1 steps" in report.warnings[0]


def test_a_nan_loss_stops_and_changes_nothing(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Course.gaps, []

    def diverging(self: Course, *args: Any) -> torch.Tensor:
        calls.append(args)
        return real(self, *args) * (math.nan if len(calls) == 2 else 1.0)

    monkeypatch.setattr(Course, "gaps", diverging)
    strategy = ttt()
    state = strategy.init(tiny_base)
    with pytest.raises(DivergedError, match=r"the loss became nan at step 2, .* try a learning_rate below 1.6"):
        strategy.learn(tiny_base, state, DOCUMENT)
    assert len(calls) == 2 and state.meta.documents == ()
    assert not any(p.requires_grad for p in tiny_base.model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha_initial": 1.0}, "alpha is still 1"),
        ({"first_block": 3, "last_block": 2}, "must be below last_block"),
        ({"neurons": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_learn_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ttt(**options)


def test_blocks_that_the_base_does_not_have_are_refused(tiny_base: BaseModel) -> None:
    with pytest.raises(ConfigError, match="a base with 4 blocks"):
        learn(tiny_base, first_block=7)


def test_alpha_one_with_decay_learns_and_falls_to_its_floor(tiny_base: BaseModel) -> None:
    config = TTTConfig(alpha_initial=1.0, alpha_decay=0.3, alpha_min=0.5)
    assert [round(config.alpha(n), 2) for n in (1, 2, 3, 9)] == [0.7, 0.5, 0.5, 0.5]
    state, _ = learn(tiny_base, alpha_initial=1.0, alpha_decay=0.3, alpha_min=0.5)
    assert state.meta.documents[0].details["alpha"] == pytest.approx(0.7)
    assert any(t.abs().sum() > 0 for n, t in state.tensors.items() if n.endswith(".down"))


def test_forgetting_is_exact_where_alpha_depends_on_the_order(tiny_base: BaseModel) -> None:
    strategy = ttt(alpha_initial=0.9, alpha_decay=0.2)
    others = [Document("Otto Brand saw eight jellies in Lund.", "Otto"), Document("The cat of Lund is lazy.", "Cat")]

    def after(*documents: Document) -> State:
        state = strategy.init(tiny_base)
        for document in documents:
            state, _ = strategy.learn(tiny_base, state, document)
        return state

    forgotten = strategy.forget(tiny_base, after(DOCUMENT, *others), others[0].id)
    never = after(DOCUMENT, others[1])
    assert forgotten.digest() == never.digest() and forgotten.meta.extra == never.meta.extra


def test_a_memory_of_one_short_document_is_a_fraction_of_the_layers(tiny_base: BaseModel) -> None:
    state, report = learn(tiny_base, neurons=4)
    mlp = sum(p.numel() * p.element_size() for p in tiny_base.mlp(3).parameters())
    assert report.bytes == state.bytes < mlp / 2


# -- refusing to get worse ---------------------------------------------------------------------------


def test_the_guard_refuses_what_did_not_raise_recall(tiny_base: BaseModel) -> None:
    strategy = ttt(guard=True, learning_rate=0.0)
    state = strategy.init(tiny_base)
    after, report = strategy.learn(tiny_base, state, DOCUMENT)
    assert after is state and not report.accepted
    assert report.reason.startswith("not kept: recall of the document went from")


def memorised(base: BaseModel, **options: Any) -> LearnReport:
    """A text studied often enough that a random model learns it by heart."""
    strategy = ttt(guard=True, neurons=None, **{"passes": 40, **options})
    return strategy.learn(base, strategy.init(base), Document("Otto Brand lives in Lund.", "Otto"))[1]


def opened_by_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text opens the first passage, as a memory without routing would."""
    monkeypatch.setattr(Router, "route", lambda self, keys, *_: (next(iter(keys)), 1.0) if keys else None)


def test_the_guard_accepts_what_raised_recall_and_hurt_nothing(tiny_base: BaseModel) -> None:
    report = memorised(tiny_base)
    assert report.accepted, report.reason
    assert report.recall_after is not None and report.recall_before is not None
    assert report.recall_after > report.recall_before
    assert report.perplexity_change == 0.0 and report.general_kept == 1.0
    refused = memorised(tiny_base, min_recall_gain=0.99, learning_rate=0.1, passes=1)
    assert not refused.accepted and "expected a rise of more than 0.99" in refused.reason


def test_the_guard_refuses_when_unrelated_perplexity_rises(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from continual_learning.strategies import gate

    # A text that the random model expects: what it writes itself.
    [own] = generate(tiny_base, [tiny_base.encode("Who?")], 40)
    monkeypatch.setattr(gate, "unrelated_texts", lambda: [own.text])
    opened_by_everything(monkeypatch)
    report = memorised(tiny_base)
    assert not report.accepted and "perplexity of unrelated text rose by" in report.reason
    assert report.perplexity_change is not None and report.perplexity_change > 0.03
    assert memorised(tiny_base, max_perplexity_rise=1e9).accepted


def test_the_guard_refuses_when_general_questions_are_lost(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from continual_learning.strategies import gate

    # A question that the random model happens to answer "right": its own first words.
    said = make_strategy("frozen").answer(tiny_base, make_strategy("frozen").init(tiny_base), ["Who?"], 24)[0].text
    monkeypatch.setattr(gate, "general_questions", lambda: [QuestionAnswer("Who?", (said,))])
    opened_by_everything(monkeypatch)
    report = memorised(tiny_base, max_perplexity_rise=1e9)
    assert not report.accepted and report.general_kept == 0.0 and "0% of the general questions" in report.reason
    assert memorised(tiny_base, max_perplexity_rise=1e9, min_general_kept=0.0).accepted


def test_parts_learned_by_heart_are_recited_whole_or_as_far_as_asked_for(tiny_base: BaseModel) -> None:
    strategy = ttt(guard=True, reader=None, neurons=None, passes=120, part_tokens=20)
    state, report = strategy.learn(tiny_base, strategy.init(tiny_base), SHORT)
    assert report.accepted and report.recall_after == 1.0 > (report.recall_before or 0.0), report.reason
    asked = "Where does Otto Brand live?"
    [short] = ttt(quote_tokens=4, reader=None, neurons=None, part_tokens=20).answer(tiny_base, state, [asked], 60)
    assert short.text == "Otto Brand lives in Lund."
    [long] = strategy.answer(tiny_base, state, [asked], 60)
    assert long.text.startswith(short.text) and long.tokens >= short.tokens
    assert strategy.answer(tiny_base, state, [asked], 2)[0].tokens == 2


def test_given_questions_decide_instead_of_probes(tiny_base: BaseModel) -> None:
    strategy = ttt(guard=True)
    state = strategy.init(tiny_base)
    qa = [QuestionAnswer("Where does Otto Brand live?", ("in a word that is never said",))]
    _, report = strategy.learn(tiny_base, state, DOCUMENT, qa)
    assert not report.accepted and report.recall_after == 0.0


def test_the_number_of_probes_is_a_setting(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    made = learning.ask

    def spy(*args: Any) -> Any:
        asked.append(args)
        return made(*args)

    monkeypatch.setattr(learning, "ask", spy)
    for probes in (2, 3):
        asked.clear()
        learn(tiny_base, probes=probes, part_tokens=8)
        assert len(asked) == probes


def parts_wrong(report: LearnReport) -> int:
    found = [re.match(r"(\d+) of \d+ parts are not recited", warning) for warning in report.warnings]
    return sum(int(match[1]) for match in found if match)


def test_passes_end_as_soon_as_all_is_recited(tiny_base: BaseModel) -> None:
    document = Document("Otto Brand lives in Lund.", "Otto")
    short, few = learn(tiny_base, document, neurons=None, passes=1, learning_rate=0.3)
    known, enough = learn(tiny_base, document, neurons=None, passes=60)
    assert parts_wrong(few) > 0 == parts_wrong(enough)
    assert learn(tiny_base, document, neurons=None, passes=600)[0].digest() == known.digest() != short.digest()


@pytest.mark.parametrize(
    "options", [{"mini_batch_tokens": 8}, {"gradient_steps": 3}, {"first_block": 1, "learning_rate": 1.0}]
)
def test_mini_batches_repeated_steps_and_more_blocks_learn_too(options: dict[str, Any], tiny_base: BaseModel) -> None:
    assert parts_wrong(learn(tiny_base, SHORT, neurons=None, part_tokens=6, **{"passes": 60, **options})[1]) == 0


def test_a_memory_of_an_earlier_inner_rule_learns_on_by_this_one() -> None:
    stored = {"optimizer": "adamw", "learning_rate": 0.02, "neurons": 28, "train": "all", "probes": 3}
    assert current_options(TTTConfig, stored, "memory 'work'") == {"probes": 3}
    assert current_options(TTTConfig, {"learning_rate": 1.0, "neurons": 28}, "memory 'work'") == {
        "learning_rate": 1.0, "neurons": 28
    }  # fmt: skip


OTHERS = [
    Document(TEXT, "Fox"),
    Document("Nine owls read maps in Lima. They eat rice on Mondays.", "Owls"),
    Document("A blue whale sang in Oslo for two hours. Its song was about krill, herring and snow.", "Whale"),
]


def test_passages_learned_together_are_what_they_are_alone(tiny_base: BaseModel) -> None:
    options = {"passes": 6, "part_tokens": 6}
    alone = ttt(passages_together=1, **options)
    state = alone.init(tiny_base)
    for document in OTHERS:
        state, _ = alone.learn(tiny_base, state, document)
    strategy = ttt(passages_together=3, **options)
    results = strategy.learn_together(tiny_base, strategy.init(tiny_base), OTHERS)
    together = results[-1][0]
    assert [d.id for d in together.meta.documents] == [d.id for d in OTHERS]
    assert [len(s.meta.documents) for s, _ in results] == [1, 2, 3]
    assert together.tensors.keys() == state.tensors.keys()
    for name, tensor in state.tensors.items():
        assert torch.allclose(together.tensors[name].float(), tensor.float(), atol=2.0, rtol=1e-3), name
    seconds = [report.seconds for _, report in results]
    assert all(seconds) and sum(r.timings["gradient descent"] for _, r in results) <= sum(seconds)


@pytest.mark.parametrize(("size", "sizes"), [(1, [1, 1, 1]), (2, [2, 1]), (3, [3])])
def test_so_many_passages_run_together(
    size: int, sizes: list[int], tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = documents.learn_passages

    def counted(lesson: Any, passages: Any, *given: Any) -> Any:
        seen.append(len(passages))
        return original(lesson, passages, *given)

    monkeypatch.setattr(documents, "learn_passages", counted)
    strategy = ttt(passages_together=size)
    strategy.learn_together(tiny_base, strategy.init(tiny_base), OTHERS)
    assert seen == sizes


def test_a_document_given_twice_is_learned_once(tiny_base: BaseModel) -> None:
    strategy = ttt()
    results = strategy.learn_together(tiny_base, strategy.init(tiny_base), [OTHERS[0], OTHERS[0], OTHERS[1]])
    assert [report.accepted for _, report in results] == [True, False, True]
    assert len(results[-1][0].meta.documents) == 2


def test_with_an_alpha_that_falls_documents_are_learned_one_by_one() -> None:
    assert ttt().documents_together == 4
    assert ttt(alpha_initial=0.5, alpha_decay=0.1).documents_together == 1


def test_perplexity_is_finite(tiny_base: BaseModel) -> None:
    nll, count = tiny_base.token_nll([TEXT])
    assert math.isfinite(nll / count)
