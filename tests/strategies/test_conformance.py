"""What every strategy promises, whatever it is. A new file in strategies/ is tested here without any edit."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tiny_models import make_tiny

from continual_learning.app.learner import Learner
from continual_learning.documents import Document
from continual_learning.errors import ConfigError, UnknownNameError
from continual_learning.memory.state import DocumentRecord, State, StateMeta
from continual_learning.memory.store import Store
from continual_learning.model.base_model import BaseModel
from continual_learning.model.logits_processors import Step
from continual_learning.options import StrategyConfig, current_options
from continual_learning.strategies.base import (
    ALREADY_HELD,
    Strategy,
    make_strategy,
    plain_report,
    strategy_class,
    strategy_names,
)
from continual_learning.types import Answer, LearnReport, Progress

pytestmark = pytest.mark.conformance

A = Document("The quick brown fox lives in Paris with seven cats. It was born in 1811.", "Fox")
B = Document("Comb jellies eat plankton near the harbour of Lund. They have eight rows of cilia.", "Jellies")
C = Document("The lazy dog jumps over the house of Otto Brand. Nobody saw it before June 1920.", "Dog")
QUESTIONS = ["What do comb jellies eat?", "Who lives in Paris?", "What is the capital of France?"]

# Small and unchecked: a random model has nothing to lose and no recall to gain.
FEW: dict[str, Any] = {"passes": 1, "questions_per_fragment": 1}
QUICK: dict[str, dict[str, Any]] = {
    "ttt": {"neurons": 4, "passes": 1, "guard": False},
    "doc2lora": {"mode": "simulated", "guard": False},
    "lora": FEW,
    "lora_per_document": FEW,
    "full_finetune": FEW,
    "replay": FEW,
    "nested": {"steps": (1, 1, 1), "periods": (0, 24, 60)},
}


def written_by_the_base(strategy: Strategy[Any]) -> bool:
    """Whether its answers have the probabilities of their tokens: not those of quotations and of other packages."""
    return strategy.name != "quote" and type(strategy).__module__.startswith("continual_learning.")


@pytest.fixture(params=strategy_names())
def strategy(request: pytest.FixtureRequest) -> Strategy[Any]:
    return make_strategy(request.param, QUICK.get(request.param))


def weights(base: BaseModel) -> str:
    digest = hashlib.sha256()
    for name, parameter in base.model.state_dict().items():
        digest.update(name.encode() + parameter.numpy().tobytes())
    return digest.hexdigest()


def learn(strategy: Strategy[Any], base: BaseModel, *documents: Document) -> State:
    state = strategy.init(base)
    for document in documents:
        state, _ = strategy.learn(base, state, document)
    return state


_learned: dict[tuple[str, ...], State] = {}


def learned(strategy: Strategy[Any], base: BaseModel, *documents: Document) -> State:
    """`learn`, once for all tests: tests below show that it is deterministic and leaves a given state alone."""
    if not documents:
        return strategy.init(base)
    key = (strategy.name, *(d.id for d in documents))
    if key not in _learned:
        _learned[key] = strategy.learn(base, learned(strategy, base, *documents[:-1]), documents[-1])[0]
    return _learned[key]


def test_it_says_what_it_is(strategy: Strategy[Any]) -> None:
    assert strategy.summary and "\n" not in strategy.summary
    module = inspect.getmodule(type(strategy))
    assert module is not None and module.__doc__
    assert issubclass(strategy.Config, StrategyConfig)


def test_an_unknown_option_is_an_error_that_names_the_nearest(strategy: Strategy[Any]) -> None:
    with pytest.raises(ConfigError, match="no option 'lerning_rate'"):
        make_strategy(strategy.name, {"lerning_rate": 1.0})


def test_init_has_learned_nothing(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    state = strategy.init(tiny_base)
    assert state.meta.documents == () and state.bytes == 0
    assert state.meta.base_fingerprint == tiny_base.fingerprint and state.meta.strategy == strategy.name


def test_the_base_is_bit_equal_after_everything(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    before, modules = weights(tiny_base), list(tiny_base.model.modules())
    state = learn(strategy, tiny_base, A)
    strategy.answer(tiny_base, state, QUESTIONS, max_new_tokens=4)
    with strategy.adapted(tiny_base, state, A.text):
        pass
    assert weights(tiny_base) == before and list(tiny_base.model.modules()) == modules
    assert not any(p.requires_grad for p in tiny_base.model.parameters())


def test_the_base_is_bit_equal_after_an_interruption(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    before = weights(tiny_base)
    state = strategy.init(tiny_base)

    def interrupt(progress: Progress) -> None:
        if progress.stage != "calibrate":
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):  # the frozen strategy reports no progress
        strategy.learn(tiny_base, state, A, progress=interrupt)
    assert weights(tiny_base) == before and state.meta.documents == ()


def test_learning_leaves_the_given_state_alone(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    first = learned(strategy, tiny_base, A)
    digest = first.digest()
    after, report = strategy.learn(tiny_base, first, B)
    assert first.digest() == digest
    assert (after is first) == (not report.accepted)
    assert report.document_id == B.id and report.title == B.title and report.reason


def test_an_accepted_document_is_recorded(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    state, report = strategy.learn(tiny_base, strategy.init(tiny_base), A)
    if not report.accepted:
        pytest.skip(f"{strategy.name} learns no document: {report.reason}")
    [record] = state.meta.documents
    assert (record.id, record.title, record.sha256) == (A.id, A.title, A.sha256)
    assert record.tokens == report.tokens == len(tiny_base.encode(A.text))
    assert report.bytes > 0


def test_it_says_whether_the_text_can_be_read_from_the_memory(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    state = learned(strategy, tiny_base, A)
    if state.meta.documents:
        assert ("seven" in json.dumps(state.meta.to_json())) == strategy.keeps_text


def test_the_same_document_is_not_learned_twice(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    state = learned(strategy, tiny_base, A)
    again, report = strategy.learn(tiny_base, state, A)
    assert not report.accepted and again is state


def test_it_is_deterministic(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    assert learn(strategy, tiny_base, A, B).digest() == learned(strategy, tiny_base, A, B).digest()


def test_forgetting_is_exact(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    state = learned(strategy, tiny_base, A, B, C)
    if not state.meta.documents:
        pytest.skip(f"{strategy.name} keeps no document")
    forgotten, never = strategy.forget(tiny_base, state, B.id), learned(strategy, tiny_base, A, C)
    assert forgotten.digest() == never.digest()
    assert forgotten.meta.extra == never.meta.extra
    assert [d.id for d in forgotten.meta.documents] == [A.id, C.id]


def test_forgetting_what_is_not_there_is_an_error(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    with pytest.raises(UnknownNameError, match="doc-000000000000"):
        strategy.forget(tiny_base, learned(strategy, tiny_base, A), "doc-000000000000")


def test_answers_come_in_order_and_within_the_limit(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    answers = strategy.answer(tiny_base, learned(strategy, tiny_base, A, B), QUESTIONS, max_new_tokens=5)
    assert [a.question for a in answers] == QUESTIONS
    assert all(0 <= a.tokens <= 5 and a.seconds >= 0 for a in answers)


def test_no_questions_give_no_answers(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    assert strategy.answer(tiny_base, strategy.init(tiny_base), []) == []


def test_streamed_pieces_make_up_the_answer(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    pieces: list[str] = []
    state = learned(strategy, tiny_base, A)
    [answer] = strategy.answer(tiny_base, state, QUESTIONS[1:2], max_new_tokens=6, on_token=pieces.append)
    assert "".join(pieces).strip() == answer.text


def test_an_unaffected_question_gets_the_base_answer(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    state = learned(strategy, tiny_base, B)
    unaffected = [q for q in QUESTIONS if not strategy.affects(tiny_base, state, q)]
    base = make_strategy("frozen")
    expected = base.answer(tiny_base, base.init(tiny_base), unaffected, max_new_tokens=6)
    found = strategy.answer(tiny_base, state, unaffected, max_new_tokens=6)
    assert [a.text for a in found] == [a.text for a in expected]


def test_every_answer_says_whether_the_memory_was_involved(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    empty = strategy.init(tiny_base)
    assert {a.origin for a in strategy.answer(tiny_base, empty, QUESTIONS, max_new_tokens=4)} == {"model"}
    state = learned(strategy, tiny_base, A, B)
    for answer in strategy.answer(tiny_base, state, QUESTIONS, max_new_tokens=4):
        if strategy.affects(tiny_base, state, answer.question) and state.meta.documents:
            assert answer.origin in ("memory", "unknown")
        else:
            assert answer.origin == "model" and answer.sources == ()
        assert answer.confidence is None or 0 < answer.confidence <= 1
        if answer.tokens and written_by_the_base(strategy):
            assert answer.confidence is not None
        assert all(a.text != answer.text and 0 <= a.probability <= 1 for a in answer.alternatives)
        assert all(source.document_id in (A.id, B.id) for source in answer.sources)


@pytest.fixture(scope="module")
def untaught(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny model that was never taught to chat, with room for worked examples."""
    folder = make_tiny("llama", tmp_path_factory.mktemp("untaught"), chat=False, max_position_embeddings=1536)
    return BaseModel.load(str(folder), device="cpu")


def test_a_base_that_never_saw_a_chat_learns_answers_saves_and_forgets(
    strategy: Strategy[Any], untaught: BaseModel, tmp_path: Path
) -> None:
    [line_break] = untaught.encode("\n")

    def breaks_lines(step: Step) -> torch.Tensor:
        """The third token is a line break, as after an answer that such a base has given."""
        logits_BV = step.logits_BV.clone()
        for row, written in enumerate(step.written):
            if len(written) == 2:
                logits_BV[row, line_break] += 1e4
        return logits_BV

    learner = Learner(untaught, strategy, Store.open("work", tmp_path))
    with untaught.steered(breaks_lines):
        own = learner.ask(QUESTIONS, 6)
        learner.learn(A.text, A.title)
        answers = learner.ask(QUESTIONS, 6)
        kept = Learner(untaught, strategy, Store.open("work", tmp_path)).ask(QUESTIONS, 6)
        for document in learner.documents:
            learner.forget(document.id)
        after = learner.ask(QUESTIONS, 6)
    assert all("\n" not in answer.text for answer in (*own, *answers))
    assert [a.text for a in kept] == [a.text for a in answers]
    assert [a.text for a in after] == [a.text for a in own] and {a.origin for a in after} == {"model"}


def test_state_survives_json_and_describes_itself(strategy: Strategy[Any], tiny_base: BaseModel) -> None:
    import json

    state = learned(strategy, tiny_base, A)
    assert StateMeta.from_json(json.loads(json.dumps(state.meta.to_json()))) == state.meta
    assert all("/" in name and isinstance(t, torch.Tensor) for name, t in state.tensors.items())
    json.dumps(strategy.describe(tiny_base, state))


@pytest.mark.parametrize(
    "name", [n for n in strategy_names() if strategy_class(n).write_peft is not Strategy.write_peft]
)
def test_an_adapter_names_the_base_as_other_programs_do(name: str, tiny_base: BaseModel, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    strategy = make_strategy(name, QUICK.get(name))
    state = learned(strategy, tiny_base, A)
    embedded = replace(state, meta=replace(state.meta, base_name="smollm2-135m"))
    for saved, expected in ((embedded, "HuggingFaceTB/SmolLM2-135M-Instruct"), (state, tiny_base.name)):
        folder = strategy.write_peft(saved, tmp_path / saved.meta.base_name.replace("/", "_"))
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        assert config["base_model_name_or_path"] == expected
        with safe_open(folder / "adapter_model.safetensors", "pt") as file:
            assert file.metadata()["base_name"] == saved.meta.base_name
            assert file.metadata()["base_fingerprint"] == tiny_base.fingerprint


TESTS = next(folder for folder in Path(__file__).parents if folder.name == "tests")
# The defaults of every strategy when memories still stored each of them.
BEFORE: dict[str, dict[str, Any]] = json.loads((TESTS / "fixtures/options-before.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", BEFORE)
def test_a_memory_with_the_defaults_of_before_still_opens(name: str) -> None:
    model = strategy_class(name).Config
    assert not set(model.RETIRED) & set(model.model_fields), "an option is there or retired, not both"
    for key, value in model.RETIRED.items():
        assert key not in BEFORE[name] or BEFORE[name][key] == value, f"{key} meant something else"
    make_strategy(name, {key: value for key, value in BEFORE[name].items() if key not in model.RETIRED})


@pytest.mark.parametrize("name", ["quote", "ttt"])
def test_a_memory_that_named_any_number_of_candidates_still_opens(name: str) -> None:
    model = strategy_class(name).Config
    stored = {**BEFORE[name], "most_candidates": 1, "candidate_mass": 0.0}
    assert not {"most_candidates", "candidate_mass"} & current_options(model, stored, "memory 'work'").keys()


def test_what_every_strategy_does_when_it_learns_is_written_once(tiny_base: BaseModel) -> None:
    class Plain(Strategy[StrategyConfig]):
        """A strategy of another package, which neither looks for held documents nor takes the time."""

        name = "plain"

        def learn(self, base: Any, state: State, document: Document, *_: Any) -> tuple[State, LearnReport]:
            record = DocumentRecord.of(document, 1)
            return state.with_documents((*state.meta.documents, record), {}), plain_report(document, True, "kept")

        def answer(self, *_: Any, **__: Any) -> list[Answer]:
            return []

    strategy = Plain(StrategyConfig())
    state, report = strategy.learn(tiny_base, strategy.init(tiny_base), A)
    assert report.accepted and report.seconds > 0
    again, refusal = strategy.learn(tiny_base, state, A)
    assert again is state and not refusal.accepted and refusal.reason == ALREADY_HELD
