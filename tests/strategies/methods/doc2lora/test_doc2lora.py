"""The doc2lora strategy on a tiny random model: what is learned, refused, labelled, and what each setting does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypernetworks import base_adapter_network
from peft import PeftModel
from transformers import AutoModelForCausalLM

from continual_learning import Learner
from continual_learning.doc2lora import Hypernetwork, save_hypernetwork
from continual_learning.documents import Document
from continual_learning.errors import ConfigError, InputError, ModelError, ModelNotFoundError
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.gate import Limits
from continual_learning.strategies.methods.doc2lora import Doc2LoRA, controls, generators, state_adapter
from continual_learning.strategies.methods.doc2lora.config import TextToLoRAConfig
from continual_learning.strategies.methods.doc2lora.controls import (
    MISMATCHED,
    Controls,
    description_controls,
    random_description,
)
from continual_learning.strategies.methods.doc2lora.generators import SIMULATED, DescriptionGenerator
from continual_learning.strategies.methods.doc2lora.text_to_lora import TextToLoRA
from continual_learning.types import UNAFFECTED, LearnReport, QuestionAnswer

pytestmark = pytest.mark.slow

A = Document("The quick brown fox lives in Paris with seven cats. It was born in 1811.", "Fox")
B = Document("Comb jellies eat plankton near the harbour of Lund. They have eight rows of cilia.", "Jellies")
QUESTIONS = ["What do comb jellies eat?", "Who lives in Paris?"]
QA = [QuestionAnswer("What do comb jellies eat?", ("plankton",)), QuestionAnswer("Where?", ("Lund",))]


@pytest.fixture(scope="module")
def folder(tiny_base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A hypernetwork for the tiny base, random but not an untrained one: its adapters change answers."""
    path = tmp_path_factory.mktemp("hypernetwork")
    save_hypernetwork(base_adapter_network(tiny_base), path)
    return str(path)


@pytest.fixture(scope="module")
def text_folder(tiny_base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text")
    save_hypernetwork(text_network(tiny_base), path)
    return str(path)


def text_network(base: BaseModel) -> TextToLoRA:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = TextToLoRAConfig(base.name, base.hidden_size, {"q_proj": (32, 32), "v_proj": (32, 16)}, (0, 1, 2, 3))
        return TextToLoRA(config).eval()


def doc2lora(**options: Any) -> Doc2LoRA:
    made = make_strategy("doc2lora", {"guard": False, **options})
    assert isinstance(made, Doc2LoRA)
    return made


def learn(
    base: BaseModel, document: Document = A, qa: list[QuestionAnswer] | None = None, **options: Any
) -> tuple[State, LearnReport]:
    strategy = doc2lora(**options)
    return strategy.learn(base, strategy.init(base), document, qa or [])


@pytest.mark.parametrize("mode", ["doc", "text"])
def test_without_a_hypernetwork_it_refuses_in_one_line(mode: str, tiny_base: BaseModel) -> None:
    strategy = doc2lora(mode=mode)
    state = strategy.init(tiny_base)
    after, report = strategy.learn(tiny_base, state, A)
    assert after is state and not report.accepted
    assert "set hypernetwork" in report.reason and "ttt" in report.reason and "\n" not in report.reason
    assert strategy.describe(tiny_base, state)["missing"] == report.reason


def test_the_default_needs_no_hub_to_be_described_and_to_answer(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generators, "locate", lambda source: pytest.fail("nothing to fetch"))
    strategy = doc2lora()
    state = strategy.init(tiny_base)
    frozen = make_strategy("frozen")
    expected = frozen.answer(tiny_base, frozen.init(tiny_base), QUESTIONS, 6)
    assert [a.text for a in strategy.answer(tiny_base, state, QUESTIONS, 6)] == [a.text for a in expected]
    assert not strategy.affects(tiny_base, state, QUESTIONS[0])


@pytest.mark.parametrize("source", ["no/such/folder/here.bin", "./absent"])
def test_a_hypernetwork_that_is_not_there_is_an_error(
    source: str, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*names: str) -> str:
        raise ConnectionError("offline")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(ModelNotFoundError):
        learn(tiny_base, hypernetwork=source)


def test_a_damaged_hypernetwork_is_an_error(tiny_base: BaseModel, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"expected a whole pytorch_model.bin"):
        learn(tiny_base, hypernetwork=str(tmp_path))


def test_learning_changes_answers_and_forgetting_brings_them_back(tiny_base: BaseModel, folder: str) -> None:
    strategy = doc2lora(hypernetwork=folder, routing=False)
    empty = strategy.init(tiny_base)
    state, report = strategy.learn(tiny_base, empty, A)
    before, after = (strategy.answer(tiny_base, s, QUESTIONS, 8) for s in (empty, state))
    assert report.accepted and report.bytes == state.bytes > 0
    assert report.tokens == len(tiny_base.encode(A.text))
    assert [a.text for a in before] != [a.text for a in after]
    assert [s.title for s in after[0].sources] == ["Fox"] and after[0].notes == ()
    [record] = state.meta.documents
    details = {"mode": "doc", "hypernetwork": folder, "chunks": 1, "rank": 4, "transposed": False}
    assert {name: value for name, value in record.details.items() if name != "modules"} == details
    assert strategy.describe(tiny_base, state)["rank"] == 4
    forgotten = strategy.forget(tiny_base, state, A.id)
    assert forgotten.digest() == empty.digest()
    assert strategy.answer(tiny_base, forgotten, QUESTIONS, 8)[0].text == before[0].text


def test_a_memory_answers_without_its_hypernetwork(tiny_base: BaseModel, folder: str, tmp_path: Path) -> None:
    state, _ = learn(tiny_base, hypernetwork=folder)
    gone = doc2lora(hypernetwork=str(tmp_path / "gone"))
    with_it = doc2lora(hypernetwork=folder)
    assert with_it.affects(tiny_base, state, ABOUT_A)
    found, expected = (s.answer(tiny_base, state, [ABOUT_A], 8) for s in (gone, with_it))
    assert [a.text for a in found] == [a.text for a in expected]


def test_documents_add_up_in_the_order_they_were_learned(tiny_base: BaseModel, folder: str) -> None:
    strategy = doc2lora(hypernetwork=folder)
    first, _ = strategy.learn(tiny_base, strategy.init(tiny_base), A)
    both, _ = strategy.learn(tiny_base, first, B)
    one, sum_ = state_adapter(first), state_adapter(both)
    for place, (A_RI, B_RO) in sum_.items():
        assert torch.equal(A_RI[:4], one[place].A_RI) and torch.equal(B_RO[:4], one[place].B_RO)
        assert A_RI.shape[0] == 8


def test_the_title_is_read_too(tiny_base: BaseModel, folder: str) -> None:
    titled, _ = learn(tiny_base, Document(A.text, "Fox"), hypernetwork=folder)
    other, _ = learn(tiny_base, Document(A.text, "Dog"), hypernetwork=folder)
    assert not same(titled, other)


def same(one: State, other: State) -> bool:
    pairs = zip(one.tensors.values(), other.tensors.values(), strict=True)
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


# -- every setting -----------------------------------------------------------------------------------


def test_settings_that_change_what_is_learned(tiny_base: BaseModel, folder: str, text_folder: str) -> None:
    assert same(learn(tiny_base, hypernetwork=folder)[0], learn(tiny_base, hypernetwork=folder)[0])
    few, _ = learn(tiny_base, hypernetwork=folder, chunk_tokens=10)
    assert few.meta.documents[0].details["chunks"] > 1
    simulated = [learn(tiny_base, mode="simulated", lora_rank=rank)[0] for rank in (8, 8, 2)]
    assert same(simulated[0], simulated[1]) and not same(simulated[0], simulated[2])
    described, _ = learn(tiny_base, mode="text", hypernetwork=text_folder)
    assert {name.split(".")[1] for name in described.tensors} == {"q_proj", "v_proj"}  # and no key to find it by


GUARDS = {
    "recall": (Limits(0.9, 1e9, 0.0), "expected a rise of more than 0.90"),
    "perplexity": (Limits(-2.0, -2.0, 0.0), "perplexity of unrelated text"),
    "general": (Limits(-2.0, 1e9, 1.0), "general questions"),
}


@pytest.mark.parametrize("name", GUARDS)
def test_the_guard_refuses_what_passes_a_limit(
    name: str, tiny_base: BaseModel, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, message = GUARDS[name]
    # A random model knows nothing that could be lost: the share is set.
    monkeypatch.setattr("continual_learning.strategies.gate._general_kept", lambda *given: 0.5)
    monkeypatch.setattr("continual_learning.strategies.gate.LIMITS", limits)
    strategy = doc2lora(hypernetwork=folder, guard=True, routing=False)
    state = strategy.init(tiny_base)
    after, report = strategy.learn(tiny_base, state, A, QA)
    assert after is state and not report.accepted and message in report.reason
    free = doc2lora(hypernetwork=folder, guard=False)
    assert free.learn(tiny_base, state, A, QA)[1].accepted


def test_the_guard_reports_what_it_measured(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("continual_learning.strategies.gate.LIMITS", Limits(-1.0, 1e9, 0.0))
    strategy = doc2lora(mode="simulated", guard=True)
    _, report = strategy.learn(tiny_base, strategy.init(tiny_base), A, QA)
    assert report.accepted and report.perplexity_change is not None
    assert report.recall_before is not None and report.recall_after is not None


# -- routing -----------------------------------------------------------------------------------------

ABOUT_A, ABOUT_B = "Where does the brown fox with seven cats live?", "Which plankton do comb jellies near Lund eat?"
ABOUT_BOTH = "Do comb jellies of Lund eat plankton with the quick brown fox and seven cats?"
ABOUT_NONE = "What is the capital of Japan?"


@pytest.fixture(scope="module")
def both(tiny_base: BaseModel, folder: str) -> State:
    strategy = doc2lora(hypernetwork=folder)
    first, _ = strategy.learn(tiny_base, strategy.init(tiny_base), A)
    return strategy.learn(tiny_base, first, B)[0]


def opened(base: BaseModel, state: State, question: str, **options: Any) -> list[str]:
    [answer] = doc2lora(**options).answer(base, state, [question], 4)
    return [source.title for source in answer.sources]


def texts(base: BaseModel, state: State, questions: list[str], **options: Any) -> list[str]:
    return [a.text for a in doc2lora(**options).answer(base, state, questions, 8)]


def test_a_question_opens_the_document_that_it_is_about(tiny_base: BaseModel, both: State) -> None:
    strategy = doc2lora()
    alone = {d.id: strategy.forget(tiny_base, both, other.id) for d, other in ((A, B), (B, A))}
    asked = [ABOUT_B, ABOUT_NONE, ABOUT_A]
    found = strategy.answer(tiny_base, both, asked, 8)
    assert [[s.document_id for s in a.sources] for a in found] == [[B.id], [], [A.id]]
    # Exactly as if the other document were not there, and as the base alone where none is opened.
    frozen = make_strategy("frozen")
    [base_answer] = frozen.answer(tiny_base, frozen.init(tiny_base), [ABOUT_NONE], 8)
    [from_b], [from_a] = texts(tiny_base, alone[B.id], [ABOUT_B]), texts(tiny_base, alone[A.id], [ABOUT_A])
    assert [a.text for a in found] == [from_b, base_answer.text, from_a]
    assert strategy.answer_key(tiny_base, both, ABOUT_NONE) == UNAFFECTED
    assert not strategy.affects(tiny_base, both, ABOUT_NONE) and strategy.affects(tiny_base, both, ABOUT_A)
    for question, document in ((ABOUT_A, A), (ABOUT_B, B)):
        key = strategy.answer_key(tiny_base, both, question)
        assert key == strategy.answer_key(tiny_base, alone[document.id], question) == (document.id,)


def test_a_text_is_scored_with_what_it_opens(tiny_base: BaseModel, both: State) -> None:
    def nll(text: str, **options: Any) -> float:
        with doc2lora(**options).adapted(tiny_base, both, text):
            return tiny_base.token_nll([text])[0]

    assert nll(ABOUT_NONE) == tiny_base.token_nll([ABOUT_NONE])[0] != nll(ABOUT_NONE, routing=False)
    assert nll(ABOUT_A) != tiny_base.token_nll([ABOUT_A])[0]


def test_without_routing_all_documents_are_in_place(tiny_base: BaseModel, both: State) -> None:
    assert opened(tiny_base, both, ABOUT_NONE, routing=False) == ["Fox", "Jellies"]
    assert doc2lora(routing=False).affects(tiny_base, both, ABOUT_NONE)
    assert doc2lora(routing=False).answer_key(tiny_base, both, ABOUT_NONE) == (A.id, B.id)


def test_how_much_of_a_question_a_document_must_cover(tiny_base: BaseModel, both: State) -> None:
    # Without naming its title, which would be evidence enough: two rare words open it, one does not.
    assert opened(tiny_base, both, "Who was born in 1811 and had seven quick cats?") == ["Fox"]
    assert opened(tiny_base, both, "Which cats?") == []


def test_a_turn_that_goes_on_opens_what_the_one_before_did(tiny_base: BaseModel, both: State) -> None:
    history = [{"role": "user", "content": ABOUT_A}, {"role": "assistant", "content": "x"}]
    [answer] = doc2lora().answer(tiny_base, both, ["And when?"], 4, history=history)
    assert [s.title for s in answer.sources] == ["Fox"]


def test_a_description_is_in_place_for_every_question(tiny_base: BaseModel, folder: str, text_folder: str) -> None:
    state, _ = learn(tiny_base, TASK, mode="text", hypernetwork=text_folder)
    assert opened(tiny_base, state, ABOUT_NONE) == [""]
    state, _ = doc2lora(hypernetwork=folder).learn(tiny_base, state, A)
    assert opened(tiny_base, state, ABOUT_NONE) == [""] and opened(tiny_base, state, ABOUT_A) == ["", "Fox"]


def test_the_check_asks_only_what_a_document_touches(
    tiny_base: BaseModel, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = doc2lora(hypernetwork=folder, guard=True)
    monkeypatch.setattr("continual_learning.strategies.gate.kept_answers", lambda *_: pytest.fail("nothing to ask"))
    _, report = strategy.learn(tiny_base, strategy.init(tiny_base), A)
    assert report.accepted and report.general_kept == 1.0 and report.perplexity_change == 0.0


def test_values_that_are_refused() -> None:
    with pytest.raises(ConfigError, match="chunk_tokens = 0"):
        doc2lora(chunk_tokens=0)
    with pytest.raises(ConfigError, match="mode = 'docs'"):
        doc2lora(mode="docs")


# -- simulated ---------------------------------------------------------------------------------------


def test_simulated_says_so_everywhere(tiny_base: BaseModel) -> None:
    strategy = doc2lora(mode="simulated")
    state, report = strategy.learn(tiny_base, strategy.init(tiny_base), A)
    assert report.accepted and report.reason.startswith(SIMULATED)
    assert all(SIMULATED in a.notes for a in strategy.answer(tiny_base, state, QUESTIONS, 4))
    assert strategy.describe(tiny_base, state)["simulated"] is True
    assert state.meta.documents[0].details["mode"] == "simulated"
    # A memory keeps the label, whatever mode it is opened in.
    assert all(SIMULATED in a.notes for a in doc2lora().answer(tiny_base, state, QUESTIONS, 4))


def test_nothing_simulated_without_being_asked(tiny_base: BaseModel, folder: str) -> None:
    strategy = doc2lora(hypernetwork=folder)
    state, report = strategy.learn(tiny_base, strategy.init(tiny_base), A)
    assert "simulated" not in report.reason and strategy.describe(tiny_base, state)["simulated"] is False
    assert strategy.answer(tiny_base, state, QUESTIONS, 4)[0].notes == ()


# -- text --------------------------------------------------------------------------------------------

TASK = Document("Answer every question with one word.")


def test_a_description_comes_with_controls(tiny_base: BaseModel, text_folder: str) -> None:
    state, report = learn(tiny_base, TASK, QA, mode="text", hypernetwork=text_folder)
    found = state.meta.documents[0].details["controls"]
    assert set(found) == {"described", "random", "mismatched"}
    assert "with a random one" in report.warnings[-1] and "with mismatched ones" in report.warnings[-1]


def test_without_questions_it_says_that_there_are_none(tiny_base: BaseModel, text_folder: str) -> None:
    state, report = learn(tiny_base, TASK, mode="text", hypernetwork=text_folder)
    assert "no questions were given" in report.warnings[-1]
    assert "controls" not in state.meta.documents[0].details


def test_controls_ask_with_the_adapter_of_each_description(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = DescriptionGenerator(tiny_base, text_network(tiny_base))
    read: list[str] = []
    internalise = generator.internalise

    def noted(base: BaseModel, text: str, on_chunk: Any = None) -> Any:
        read.append(text)
        return internalise(base, text, on_chunk)

    monkeypatch.setattr(generator, "internalise", noted)
    # Right under mismatched descriptions alone.
    answered = controls.plain_answers

    def answers(base: BaseModel, questions: list[str], tokens: int) -> Any:
        text = "plankton" if read[-1] in MISMATCHED[:2] else "no"
        return [controls_answer(a, text) for a in answered(base, questions, tokens)]

    monkeypatch.setattr(controls, "plain_answers", answers)
    found = description_controls(tiny_base, generator, TASK.text, QA, seed=3)
    assert found == Controls(described=0.0, random=0.0, mismatched=0.25)
    assert set(read) == {TASK.text, random_description(tiny_base, TASK.text, 3), *MISMATCHED}
    assert "makes no difference" in found.summary()
    assert "the description matters" in Controls(0.5, 0.25, 0.25).summary()


def controls_answer(answer: Any, text: str) -> Any:
    return replace(answer, text=text)


def test_random_descriptions_differ_by_seed(tiny_base: BaseModel) -> None:
    first, again, other = (random_description(tiny_base, TASK.text, seed) for seed in (0, 0, 1))
    assert first == again != other and first.strip()


# -- with the learner --------------------------------------------------------------------------------


def test_a_memory_on_disk(tiny_base: BaseModel, folder: str) -> None:
    learner = Learner.open(tiny_base, "doc2lora", memory="work", hypernetwork=folder, guard=False)
    learner.learn(A)
    learner.learn(B)
    answers = [a.text for a in learner.ask(QUESTIONS, max_new_tokens=8)]
    reopened = Learner.open(tiny_base, "doc2lora", memory="work")
    assert [a.text for a in reopened.ask(QUESTIONS, max_new_tokens=8)] == answers
    reopened.forget(A.id)
    assert [d.title for d in reopened.documents] == ["Jellies"]
    alone = Learner.open(tiny_base, "doc2lora", hypernetwork=folder, guard=False)
    alone.learn(B)
    assert reopened.state.digest() == alone.state.digest()
    assert reopened.perplexity([B.text]) == pytest.approx(alone.perplexity([B.text]))
    assert reopened.perplexity([B.text]) != Learner.open(tiny_base, "frozen").perplexity([B.text])


def test_a_memory_as_a_peft_adapter(tiny_base: BaseModel, tiny_llama_dir: Path, both: State, tmp_path: Path) -> None:
    ids_1T = torch.tensor([tiny_base.encode(ABOUT_A)])
    strategy = doc2lora(routing=False)
    with torch.no_grad(), strategy.adapted(tiny_base, both, ABOUT_A):
        expected = tiny_base.model(ids_1T).logits
    folder = strategy.write_peft(both, tmp_path / "peft")
    plain = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    with torch.no_grad():
        found = PeftModel.from_pretrained(plain, folder)(ids_1T).logits
        assert not torch.allclose(expected, tiny_base.model(ids_1T).logits, atol=1e-3)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="nothing is learned"):
        strategy.write_peft(strategy.init(tiny_base), tmp_path / "none")


def test_a_hypernetwork_is_loaded_once(tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_hypernetwork(base_adapter_network(tiny_base), tmp_path)
    loads: list[Path] = []
    load = generators.load_hypernetwork

    def load_hypernetwork(path: Path) -> Hypernetwork:
        loads.append(path)
        return load(path)

    monkeypatch.setattr(generators, "load_hypernetwork", load_hypernetwork)
    for document in (A, B):
        learn(tiny_base, document, hypernetwork=str(tmp_path))
    assert loads == [tmp_path]
