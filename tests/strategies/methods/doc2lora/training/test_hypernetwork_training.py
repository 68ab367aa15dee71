"""Training a hypernetwork on a tiny base: what is taught, that it goes on exactly, and what the probe reveals."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from generations import watch_generations
from tiny_models import make_tiny

from continual_learning.doc2lora import load_hypernetwork
from continual_learning.errors import ConfigError, DivergedError, InputError, MismatchError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.fast_decoder import shared_start
from continual_learning.model.generation import generate
from continual_learning.options import parse_config
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.methods.doc2lora.adapter import installed
from continual_learning.strategies.methods.doc2lora.generated_lora import Generated, LowRank
from continual_learning.strategies.methods.doc2lora.generators import DocumentGenerator
from continual_learning.strategies.methods.doc2lora.linear import LinearHypernetwork
from continual_learning.strategies.methods.doc2lora.module_inputs import module_inputs
from continual_learning.strategies.methods.doc2lora.network import DocumentHypernetwork
from continual_learning.strategies.methods.doc2lora.training import networks as networks_module
from continual_learning.strategies.methods.doc2lora.training import run as run_module
from continual_learning.strategies.methods.doc2lora.training import targets as targets_module
from continual_learning.strategies.methods.doc2lora.training.data import facts, training_data
from continual_learning.strategies.methods.doc2lora.training.ladder import ladder
from continual_learning.strategies.methods.doc2lora.training.networks import initial_network, memory_blocks
from continual_learning.strategies.methods.doc2lora.training.packing import packed
from continual_learning.strategies.methods.doc2lora.training.probe import context_sensitivity
from continual_learning.strategies.methods.doc2lora.training.retrieval import queries, retrieval_loss
from continual_learning.strategies.methods.doc2lora.training.run import train_hypernetwork
from continual_learning.strategies.methods.doc2lora.training.settings import HypernetworkTraining
from continual_learning.strategies.methods.doc2lora.training.student import (
    States,
    adapters,
    candidates,
    joined,
    prompt_losses,
    question_losses,
    row_adapter,
)
from continual_learning.strategies.methods.doc2lora.training.targets import (
    Target,
    irrelevant_target,
    prompt_ids,
    relevant_target,
    reply_ids,
)
from continual_learning.types import Progress, QuestionAnswer

pytestmark = pytest.mark.slow

DOCUMENT, QUESTION = "Comb jellies eat plankton.", "What do comb jellies eat?"
ASKED = QuestionAnswer(QUESTION, ("plankton",))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents, answers and networks that a tiny model is done with in a moment."""
    monkeypatch.setattr(run_module, "QUESTIONS_PER_DOCUMENT", 2)
    monkeypatch.setattr(run_module, "_SINGLE_CHUNK_SHARE", 0.5)
    monkeypatch.setattr(targets_module, "ANSWER_TOKENS", 4)
    monkeypatch.setattr(networks_module, "_LATENT_WIDTH", 8)


def settings(**changes: Any) -> HypernetworkTraining:
    fields: dict[str, Any] = {
        "steps": 4,
        "retrieval_steps": 0,
        "facts_documents": 3,
        "facts_per_document": 2,
        "validation_documents": 2,
        "irrelevant_questions": 1,
        "rank": 8,
        "max_chunks": 2,
        "warm_up": 1,
        "validate_every": 2,
        "checkpoint_every": 2,
    }
    return HypernetworkTraining(**{**fields, **changes})


def test_a_base_that_never_saw_a_chat_is_taught_as_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tiny("llama", tmp_path, chat=False, max_position_embeddings=1536)
    base = BaseModel.load(str(folder), device="cpu")
    calls = watch_generations(monkeypatch)
    plain_answers(base, [QUESTION], 4)
    assert prompt_ids(base, QUESTION) == calls[0].prompts[0]
    read = base.decode(prompt_ids(base, QUESTION, DOCUMENT))
    assert read.endswith(f"Passage: {DOCUMENT}\nQuestion: {QUESTION}\nAnswer:")
    assert base.decode(reply_ids(base, "Plankton.")) == " Plankton.\n\n"
    taught = [relevant_target(base, DOCUMENT, ASKED, "Plankton.", own, settings()) for own in (False, True)]
    targets = [one for one in (*taught, irrelevant_target(base, "Who lives in Paris?")) if one is not None]
    assert [call.one_line for call in calls] == [True, True, True] and len(targets) == 3
    # All prompts begin with the worked examples, which a row computes once.
    start = packed(base, [targets]).start
    assert base.decode(targets[0].prompt[:start]).endswith("Norway\n\nQuestion:")


@pytest.mark.parametrize("generator", ["linear", "perceiver"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(generator: str, tiny_base: BaseModel, tmp_path: Path) -> None:
    chosen = settings(generator=generator, own_answers=0.3)
    seen: list[Progress] = []
    whole = train_hypernetwork(tiny_base, chosen, tmp_path / "whole", seen.append)
    part = train_hypernetwork(tiny_base, chosen, tmp_path / "parts", stop_after=3)
    assert part.steps == 3
    rest = train_hypernetwork(tiny_base, chosen, tmp_path / "parts")
    assert rest.steps == whole.steps == 4 and rest.curve == whole.curve
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, rest.network.state_dict()[name]), name
    assert [p.done for p in seen if p.stage == "train"] == [1, 2, 3, 4]
    assert [point["step"] for point in json.loads((tmp_path / "whole" / "curve.json").read_text())] == [2, 4]
    # What was written is what was trained, in half precision, and works where hypernetworks are used.
    loaded = load_hypernetwork(rest.folder)
    made = DocumentGenerator(tiny_base, loaded).internalise(tiny_base, DOCUMENT)
    assert made.adapter and loaded.config.base_name == tiny_base.name


def test_an_interrupt_keeps_the_run(tiny_base: BaseModel, tmp_path: Path) -> None:
    def interrupt(step: Progress) -> None:
        if step.stage == "train" and step.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="kept at step 3"):
        train_hypernetwork(tiny_base, settings(), tmp_path / "a", interrupt)
    again = train_hypernetwork(tiny_base, settings(), tmp_path / "a")
    whole = train_hypernetwork(tiny_base, settings(), tmp_path / "b")
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name


def test_what_was_computed_once_is_not_computed_again(
    tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(facts_documents=2, max_chunks=1, irrelevant_questions=0, validate_every=9, steps=3)
    train_hypernetwork(tiny_base, chosen, tmp_path, stop_after=1)
    assert list(tmp_path.glob("kept-*/*"))

    def again_(*_: object) -> None:
        raise AssertionError("the teacher was asked again")

    real = BaseModel.hidden_before

    def hidden_before(self: BaseModel, ids: torch.Tensor, block: int, attention: Any = None) -> torch.Tensor:
        assert attention is None, "questions went through the lower blocks again"
        return real(self, ids, block, attention)

    with monkeypatch.context() as patched:
        patched.setattr("continual_learning.strategies.methods.doc2lora.training.run.relevant_target", again_)
        patched.setattr(BaseModel, "hidden_before", hidden_before)
        again = train_hypernetwork(tiny_base, chosen, tmp_path, stop_after=1)
    assert again.steps == 2
    train_hypernetwork(tiny_base, chosen, tmp_path)
    assert not list(tmp_path.glob("kept-*"))


def test_a_run_may_start_from_another(tiny_base: BaseModel, tmp_path: Path) -> None:
    first = train_hypernetwork(tiny_base, settings(steps=1), tmp_path / "first")
    tiny_rate = settings(steps=1, start=str(first.folder), rate=1e-12)
    second = train_hypernetwork(tiny_base, tiny_rate, tmp_path / "second")
    for name, tensor in load_hypernetwork(first.folder).state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], tensor)
    with pytest.raises(MismatchError, match="other sizes"):
        train_hypernetwork(tiny_base, settings(start=str(first.folder), rank=4), tmp_path / "third")


def test_another_runs_folder_is_refused(tiny_base: BaseModel, tmp_path: Path) -> None:
    train_hypernetwork(tiny_base, settings(steps=1), tmp_path)
    with pytest.raises(MismatchError, match=r"other settings \(seed\)"):
        train_hypernetwork(tiny_base, settings(steps=1, seed=2), tmp_path)


def test_a_loss_that_is_no_number_stops_it(
    tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "continual_learning.strategies.methods.doc2lora.training.run.question_losses",
        lambda _base, adapter, rows, _states, _among: (
            sum(x.A_RI.sum() for x in adapter.values())
            * torch.full((sum(len(group) for groups in rows for group in groups),), float("nan"))
        ),
    )
    with pytest.raises(DivergedError, match="lower the rate"):
        train_hypernetwork(tiny_base, settings(), tmp_path)


def test_a_run_that_can_teach_nothing_says_so(tiny_base: BaseModel, tmp_path: Path) -> None:
    for stage in (0, 3):  # what the base keeps saying to irrelevant questions teaches nothing of a document
        with pytest.raises(InputError, match=r"none of 3 documents taught anything.*window of 256 tokens"):
            long = settings(facts_per_document=30, retrieval_steps=stage, irrelevant_questions=1)
            train_hypernetwork(tiny_base, long, tmp_path / str(stage))


def test_the_loss_falls_on_what_is_trained(tiny_base: BaseModel, tmp_path: Path) -> None:
    chosen = settings(steps=25, facts_documents=1, teacher_weight=0.0, irrelevant_questions=0, rate=0.03, max_chunks=1)
    losses: list[float] = []
    train_hypernetwork(
        tiny_base,
        chosen,
        tmp_path,
        lambda p: losses.append(float(p.message.split()[1])) if p.stage == "train" else None,
    )
    assert losses[-1] < 0.8 * losses[0]


def test_the_linear_generator_starts_by_raising_what_the_document_says(tiny_base: BaseModel) -> None:
    network = initial_network(tiny_base, settings())
    found = context_sensitivity(tiny_base, network, facts("validation", 3, 3, 0), recall=True, in_prompt=True)
    assert found.movement > 0.1 and found.documents == 3 and found.questions == 9
    assert found.matched != found.mismatched and found.prompt is not None and found.recall_prompt is not None


def test_a_base_with_fewer_inputs_than_ranks(tiny_base: BaseModel) -> None:
    network = initial_network(tiny_base, settings(rank=None))
    assert isinstance(network, LinearHypernetwork) and network.config.rank == network.config.module[1] == 64
    with pytest.raises(InputError, match="rank 65 over 64 inputs"):
        initial_network(tiny_base, settings(rank=65))


def test_the_probe_reveals_a_generator_that_ignores_its_document(tiny_base: BaseModel) -> None:
    network = initial_network(tiny_base, settings())
    first: list[Generated] = []
    generate = network.generate

    def collapsed(activations: torch.Tensor, mask: torch.Tensor | None = None) -> Generated:
        first.append(generate(activations, mask))
        return first[0]

    network.generate = collapsed  # type: ignore[method-assign]
    found = context_sensitivity(tiny_base, network, facts("validation", 3, 2, 0))
    assert found.movement == pytest.approx(0, abs=1e-3) and found.matched == pytest.approx(found.mismatched, rel=1e-5)


def _target(base: BaseModel, question: str = QUESTION, reply: str = "plankton") -> Target:
    return Target(tuple(prompt_ids(base, question)), tuple(reply_ids(base, reply)), None, None, 1.0)


TEXTS = (DOCUMENT, "The cat lives in the house with a dog.")


def test_rows_meet_their_own_documents_adapter(tiny_base: BaseModel) -> None:
    network = initial_network(tiny_base, settings())
    states = States(tiny_base, network.config.first_block)
    readings = [network.read(tiny_base, [tiny_base.encode(text)]) for text in TEXTS]

    def losses(owners: list[int]) -> torch.Tensor:
        combined = adapters(network, [readings[n] for n in owners])
        adapter = row_adapter(network, combined)
        return question_losses(tiny_base, adapter, [[[_target(tiny_base)]]] * len(owners), states)

    one, two = losses([0]), losses([1])
    torch.testing.assert_close(losses([0, 1, 0]), torch.cat([one, two, one]))
    assert not torch.allclose(one, two)


@pytest.mark.parametrize(
    ("family", "chat"), [("llama", True), ("llama", False), ("gpt2", False), ("gpt_neox", True), ("gemma3", True)]
)
def test_questions_in_one_row_are_what_they_are_alone(family: str, chat: bool, tmp_path: Path) -> None:
    wide: dict[str, Any] = {"sliding_window": 256} if family.startswith("gemma") else {}
    base = BaseModel.load(str(make_tiny(family, tmp_path, chat=chat, **wide)))
    network = initial_network(base, settings(blocks=(1, 2)))
    combined = adapters(network, [network.read(base, [base.encode(text)]) for text in TEXTS])
    with torch.no_grad():
        for name, matrix in network.named_parameters():
            if name.startswith("reader_B"):
                matrix.copy_(0.1 * torch.randn(matrix.shape, generator=torch.Generator().manual_seed(0)))
    adapter = row_adapter(network, combined)
    asked = ("What do comb jellies eat?", "Who lives in the house?", "The fox?", "9 dogs")
    targets = [
        _target(base, question, reply) for question, reply in zip(asked, ("plankton", "A cat", "x", "no"), strict=True)
    ]
    states = States(base, network.config.first_block)
    packed_Q = question_losses(base, adapter, [[targets[:2], targets[2:3]], [targets[3:]]], states)
    # Alone, with the adapter of their row.
    alone = []
    for row, target in ((0, targets[0]), (0, targets[1]), (0, targets[2]), (1, targets[3])):
        own = {place: LowRank(*(m[row] if m.ndim > 2 else m for m in both)) for place, both in adapter.items()}
        with installed(base, own):
            logits = base.model(torch.tensor([target.ids])).logits[0, len(target.prompt) - 1 :]
        alone.append(torch.nn.functional.cross_entropy(logits, torch.tensor(target.answer)))
    torch.testing.assert_close(packed_Q, torch.stack(alone), rtol=1e-4, atol=1e-4)
    layout = packed(base, [targets])
    assert layout.start > 2 if chat else layout.start >= 0
    assert layout.ids_BT.shape[1] == sum(len(t.ids) - layout.start for t in targets) + layout.start


def test_prompts_share_their_document(tiny_base: BaseModel) -> None:
    asked = ("What do comb jellies eat?", "Who lives in the house?")
    targets = [
        Target(tuple(prompt_ids(tiny_base, q, DOCUMENT)), tuple(reply_ids(tiny_base, "x")), None, None, 1.0)
        for q in asked
    ]
    alone = [question_losses(tiny_base, {}, [[[target]]], States(tiny_base, 0)) for target in targets]
    torch.testing.assert_close(prompt_losses(tiny_base, targets), torch.cat(alone))
    start = shared_start([target.prompt[:-1] for target in targets])
    assert DOCUMENT in tiny_base.decode(start)
    assert packed(tiny_base, [targets], start).ids_BT.shape[1] < sum(len(t.ids) for t in targets) - len(start) + 1


def test_a_question_beyond_the_window_of_attention_is_refused(tmp_path: Path) -> None:
    base = BaseModel.load(str(make_tiny("gemma2", tmp_path, chat=True)))
    with pytest.raises(InputError, match="attends to the last 8"):
        packed(base, [[_target(base), _target(base)]])


def test_documents_read_as_one(tiny_base: BaseModel) -> None:
    network = initial_network(tiny_base, settings())
    readings = [network.read(tiny_base, [tiny_base.encode(text)]) for text in TEXTS]
    both = joined(readings)
    [name] = network.config.modules
    together = network.generate(*both)[name]["B"]
    # A sum over tokens knows no order, and each alone is something else.
    torch.testing.assert_close(together, network.generate(*joined(readings[::-1]))[name]["B"], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together, network.generate(*readings[0])[name]["B"], rtol=1e-2)
    assert both[0].shape[-2] == sum(activations.shape[-2] for activations, _ in readings)


def test_a_run_that_reads_documents_as_one(tiny_base: BaseModel, tmp_path: Path) -> None:
    chosen = settings(documents_per_step=3, joined_documents=3, max_chunks=1, facts_documents=4)
    whole = train_hypernetwork(tiny_base, chosen, tmp_path / "whole")
    alone = train_hypernetwork(
        tiny_base, settings(documents_per_step=3, max_chunks=1, facts_documents=4), tmp_path / "a"
    )
    train_hypernetwork(tiny_base, chosen, tmp_path / "parts", stop_after=1)
    rest = train_hypernetwork(tiny_base, chosen, tmp_path / "parts")
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, rest.network.state_dict()[name]), name
    assert not torch.equal(whole.network.state_dict()["key"], alone.network.state_dict()["key"])


def test_a_target_has_the_teachers_distribution(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets_module, "TOP_K", 5)
    target = relevant_target(tiny_base, DOCUMENT, ASKED, "They eat plankton.", False, settings())
    assert target is not None and target.answer_weight == 0.5
    assert target.value_at == len(target.answer) == 4  # it is cut off before the value
    monkeypatch.setattr(targets_module, "ANSWER_TOKENS", 24)
    whole = relevant_target(tiny_base, DOCUMENT, ASKED, "They eat plankton.", False, settings())
    assert whole is not None
    before, value = (tiny_base.decode(whole.answer[: whole.value_at + more]).strip() for more in (0, 1))
    assert "They eat".startswith(before) and not "They eat".startswith(value)
    assert target.top_NK is not None and target.top_NK.shape == (len(target.answer), 5)
    asked = prompt_ids(tiny_base, QUESTION, DOCUMENT)
    logits = tiny_base.model(torch.tensor([[*asked, *target.answer]])).logits[0, len(asked) - 1 : -1]
    expected = logits.detach().log_softmax(-1).topk(5, dim=-1)
    assert torch.equal(target.top_NK, expected.indices)
    assert target.top_logprob_NK is not None
    torch.testing.assert_close(target.top_logprob_NK, expected.values, rtol=1e-4, atol=1e-5)
    assert DOCUMENT not in tiny_base.decode(target.ids)


def test_a_target_of_the_base_itself(tiny_base: BaseModel) -> None:
    target = irrelevant_target(tiny_base, QUESTION)
    assert target is not None and target.answer_weight == 0
    own = generate(tiny_base, [prompt_ids(tiny_base, QUESTION)], 4)[0].ids
    assert target.answer == own
    long = "jellies " * tiny_base.window
    assert relevant_target(tiny_base, long, ASKED, "x", False, settings()) is None


def test_with_nothing_installed_the_loss_is_the_bases(tiny_base: BaseModel) -> None:
    prompt, answer = prompt_ids(tiny_base, QUESTION), reply_ids(tiny_base, "plankton")
    target = Target(tuple(prompt), tuple(answer), None, None, 1.0)
    logits = tiny_base.model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(answer))
    assert float(question_losses(tiny_base, {}, [[[target]]], States(tiny_base, 2))[0]) == pytest.approx(
        float(expected), 1e-4
    )


def test_keys_learn_first_and_alone(tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets_module, "ANSWER_TOKENS", 24)
    chosen = settings(retrieval_steps=3, steps=2, max_chunks=1)
    start = initial_network(tiny_base, chosen).state_dict()
    keys = train_hypernetwork(tiny_base, chosen, tmp_path, stop_after=3)
    learned = {name for name, tensor in keys.network.state_dict().items() if not torch.equal(tensor, start[name])}
    reader = {name for name in start if name.startswith("reader_")}
    assert reader and learned == {"key", "query", "gain", "log_ridge"} | reader
    assert [point["step"] for point in keys.curve if point["kind"] == "facts"] == [2, 3]
    rest = train_hypernetwork(tiny_base, chosen, tmp_path)
    assert rest.steps == 5 and not torch.equal(rest.network.state_dict()["value"], start["value"])
    whole = train_hypernetwork(tiny_base, chosen, tmp_path / "whole")
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, rest.network.state_dict()[name]), name


def test_keys_go_on_learning_beside_the_rest(
    tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets_module, "ANSWER_TOKENS", 48)
    made = {}
    for weight in (None, 0.0, 0.3):
        chosen = settings(retrieval_steps=1, steps=4, max_chunks=1, retrieval_weight=weight)
        made[weight] = train_hypernetwork(tiny_base, chosen, tmp_path / str(weight)).network.state_dict()["query"]
    assert torch.equal(made[None], made[0.3]) and not torch.equal(made[0.0], made[0.3])


def test_the_loss_of_keys_falls_and_asks_only_for_what_the_document_has(tiny_base: BaseModel) -> None:
    network = initial_network(tiny_base, settings())
    assert isinstance(network, LinearHypernetwork)
    ids = tiny_base.encode(TEXTS[1])
    next_S = torch.tensor([*ids[1:], -1])
    states = States(tiny_base, network.config.first_block)
    group = [_target(tiny_base, "Who lives in the house?", "The dog")]

    def losses() -> torch.Tensor:
        asked = queries(tiny_base, network, group, states)
        loss = retrieval_loss(network, network.read(tiny_base, [ids]), next_S, [asked])
        assert loss is not None
        return loss

    before = losses()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(20):
        optimizer.zero_grad()
        loss = losses()
        loss.backward()
        optimizer.step()
    assert loss.detach() < 0.7 * before.detach()
    assert all(float(matrix.detach().abs().max()) > 0 for matrix in network.reader_B.values())
    asked = queries(tiny_base, network, group, states)
    strange = asked._replace(answer_N=torch.full_like(asked.answer_N, tiny_base.vocab_size - 1))
    assert retrieval_loss(network, network.read(tiny_base, [ids]), next_S, [strange]) is None


def test_queries_are_what_the_modules_read_before_each_token_of_an_answer(tiny_base: BaseModel) -> None:
    network = initial_network(tiny_base, settings())
    assert isinstance(network, LinearHypernetwork)
    target = _target(tiny_base)
    states = States(tiny_base, network.config.first_block)
    found = queries(tiny_base, network, [target], states)
    [name] = network.config.modules
    ids_1T = torch.tensor([target.ids])
    hidden_1TD = tiny_base.hidden_before(ids_1T, 0)
    inputs = module_inputs(tiny_base, hidden_1TD, ids_1T, 0, network.config.layers, name)[0]
    before = len(target.prompt) - 1
    count = min(6, len(target.answer))
    torch.testing.assert_close(found.input_LNI, inputs[:, before : before + count], rtol=1e-4, atol=1e-5)
    assert found.answer_N.tolist() == list(target.answer[:count]) and found.weight_N[0] > found.weight_N[1]
    later = queries(tiny_base, network, [target, replace(target, value_at=1)], states)
    assert later.answer_N.tolist() == [*target.answer[:count], *target.answer[1:7]]
    torch.testing.assert_close(later.input_LNI[:, count], inputs[:, before + 1], rtol=1e-4, atol=1e-5)


def test_a_loss_among_drawn_tokens_estimates_that_over_all(tiny_base: BaseModel) -> None:
    target = relevant_target(tiny_base, DOCUMENT, ASKED, "They eat plankton.", False, settings())
    assert target is not None
    states = States(tiny_base, 2)
    whole = question_losses(tiny_base, {}, [[[target]]], states)
    drawn = [candidates(tiny_base, target.tokens, tiny_base.vocab_size // 2, random.Random(seed)) for seed in range(20)]
    losses = torch.cat([question_losses(tiny_base, {}, [[[target]]], states, among) for among in drawn])
    torch.testing.assert_close(losses.mean(), whole[0], rtol=0.01, atol=0)
    assert all(among is not None and target.tokens <= set(among.tokens_S.tolist()) for among in drawn)
    assert candidates(tiny_base, target.tokens, 0, random.Random(0)) is None
    assert candidates(tiny_base, target.tokens, tiny_base.vocab_size, random.Random(0)) is None


def test_the_ladder_has_a_row_for_every_rung(tiny_base: BaseModel) -> None:
    network: DocumentHypernetwork = initial_network(tiny_base, settings())
    rows = ladder(tiny_base, network, 2, sizes=(1,))
    assert [row["rung"] for row in rows] == ["1 fact", "irrelevant document"]
    assert rows[0]["questions"] == 2 and 0 <= rows[1]["general_changed"] <= 1


def test_passages_of_a_file_take_part(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    rows = [
        {"title": f"T{n}", "context": f"Town {n} is red.", "questions": [{"question": f"Town {n}?", "answer": "red"}]}
        for n in range(8)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    data = training_data(settings(data=str(path), facts_documents=0))
    texts = {e.text for e in data.train} | {e.text for e in data.validation}
    assert texts == {f"Town {n} is red." for n in range(4)} and not {e.text for e in data.train} & {
        e.text for e in data.validation
    }
    assert data.train[0].replies == ("Red",) and data.train[0].kind == "passage"


def test_the_curve_has_a_point_for_each_kind_of_document(tiny_base: BaseModel, tmp_path: Path) -> None:
    rows = [
        {
            "title": f"T{n // 2}",
            "context": f"Town {n} is red.",
            "questions": [{"question": f"Town {n}?", "answer": "red"}],
        }
        for n in range(8)
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    chosen = settings(steps=1, data=str(tmp_path / "data.jsonl"), data_documents=2)
    curve = train_hypernetwork(tiny_base, chosen, tmp_path / "run").curve
    assert [(point["step"], point["kind"], point["documents"]) for point in curve] == [
        (1, "facts", 2), (1, "passage", 2)
    ]  # fmt: skip


def test_settings_are_checked() -> None:
    assert settings(blocks="1,3").blocks == (1, 3)
    assert memory_blocks(30) == (24, 29) and memory_blocks(1) == (0,)
    with pytest.raises(ConfigError, match="nothing to train on"):
        parse_config(HypernetworkTraining, {"facts_documents": 0}, "train hypernetwork")
    with pytest.raises(ConfigError, match="retrieval_steps = 5 with generator = perceiver"):
        parse_config(HypernetworkTraining, {"generator": "perceiver", "retrieval_steps": 5}, "train hypernetwork")
    with pytest.raises(ConfigError, match=r"retrieval_weight = 0\.5 with generator = perceiver"):
        parse_config(HypernetworkTraining, {"generator": "perceiver", "retrieval_weight": 0.5}, "train hypernetwork")
    with pytest.raises(ConfigError, match="reader_rank = 4 with generator = perceiver"):
        parse_config(HypernetworkTraining, {"generator": "perceiver", "reader_rank": 4}, "train hypernetwork")
    with pytest.raises(ConfigError, match="blocks = 1, 3 with generator = perceiver"):
        parse_config(HypernetworkTraining, {"generator": "perceiver", "blocks": "1,3"}, "train hypernetwork")
    assert HypernetworkTraining().all_steps == 450 and HypernetworkTraining(generator="perceiver").all_steps == 300


def test_the_reader_stands_in_the_attention_of_a_third_of_the_blocks(tiny_base: BaseModel) -> None:
    found = initial_network(tiny_base, settings(blocks=(2, 3), reader_rank=3)).config
    assert (found.reader_layers, found.reader_rank, found.first_block) == ((1, 2), 3, 1)
    assert set(found.reader_modules) == {f"self_attn.{name}_proj" for name in "qkvo"}
    none = initial_network(tiny_base, settings(blocks=(2, 3), reader_rank=0)).config
    assert (none.reader_layers, none.reader_modules, none.first_block) == ((), {}, 2)
