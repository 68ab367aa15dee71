"""The outer loop of ttt on a tiny random model: its gradients, resuming, several processes, and the command."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from continual_learning.datasets.base import Dataset, QADocument, load_dataset
from continual_learning.documents import Document
from continual_learning.errors import ConfigError, CorruptMemoryError, InputError, MismatchError
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.retrieval.parts import cut_parts
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.methods.ttt import TTT
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.dual_mlp import NeuronBranch
from continual_learning.strategies.methods.ttt.inner_loop import InnerLoop, learned_weights
from continual_learning.strategies.methods.ttt.learning import inner_loop
from continual_learning.strategies.methods.ttt.outer_loop.config import StartConfig
from continual_learning.strategies.methods.ttt.outer_loop.gradients import adapt, judge, sgd_update, task_gradient
from continual_learning.strategies.methods.ttt.outer_loop.processes import Processes
from continual_learning.strategies.methods.ttt.outer_loop.run import Outcome, first_branches, train_start
from continual_learning.strategies.methods.ttt.outer_loop.tasks import StudyPassage, Task, make_task, training_passages
from continual_learning.strategies.methods.ttt.start import Start, load_start, save_start
from continual_learning.types import QuestionAnswer

pytestmark = pytest.mark.slow

PLACES = ["Lund", "Paris", "Oslo", "Rome", "Bern", "Kiel"]
INNER: dict[str, Any] = {
    "neurons": 5,
    "part_tokens": 6,
    "mini_batch_tokens": 60,
    "learning_rate": 0.05,
}
SGD: dict[str, Any] = {**INNER, "optimizer": "sgd", "learning_rate": 0.5}
ALONE = Processes(0, 1, torch.device("cpu"))
OUTER: dict[str, Any] = {
    "inner_tokens": 120,
    "inner_passes": 1,
    "passages_per_step": 2,
    "validate_every": 2,
    "validation_passages": 1,
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    documents = []
    for number, place in enumerate(PLACES):
        text = f"The lazy dog number {number} lives in {place} with {number + 2} cats and eats plankton."
        questions = (
            QuestionAnswer(f"Where does dog number {number} live?", (place,)),
            QuestionAnswer(f"How many cats live in {place}?", (str(number + 2),)),
        )
        documents.append(QADocument(Document(text, f"Dog {number}"), questions, f"Dog {number}"))
    return Dataset("dogs", "generated", tuple(documents))


@pytest.fixture(scope="module")
def passage(dataset: Dataset) -> StudyPassage:
    item = dataset.documents[0]
    return StudyPassage(item.document.text, item.document.title, item.questions)


def loop(base: BaseModel, ttt: TTTConfig) -> InnerLoop:
    return inner_loop(base, ttt, 1)


def moved_branches(base: BaseModel, ttt: TTTConfig, passage: StudyPassage) -> dict[int, NeuronBranch]:
    """Branches with output weights, so that every weight has a gradient."""
    branches = first_branches(base, ttt, [passage], 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in learned_weights(branches):
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return branches


def task_of(base: BaseModel, passage: StudyPassage, ttt: TTTConfig, inner_tokens: int = 150) -> Task:
    first_block = min(first_branches(base, ttt, [passage], 0))
    return make_task(base, passage, ttt, ["A cat sat there."], first_block, inner_tokens, 8, random.Random(0))


def test_with_parts_the_cues_are_asked(tiny_base: BaseModel, passage: StudyPassage) -> None:
    ttt = TTTConfig(**INNER)
    task = task_of(tiny_base, passage, ttt)
    said = {tiny_base.decode(item.ids[item.prompt_tokens :]) for item in task.asked}
    parts = cut_parts(passage.text, lambda t: len(tiny_base.encode(t)), 6)
    assert len(parts) > 1 and said == {part.text for part in parts}
    assert task.study == task.asked
    control = task_of(tiny_base, passage, ttt, inner_tokens=0)
    assert control.study == [] and len(control.asked) == len(task.asked)


def adapted_loss(base: BaseModel, branches: dict[int, NeuronBranch], task: Task, ttt: TTTConfig) -> float:
    learned = adapt(base, branches, 0.0, task, loop(base, ttt), random.Random(3))
    return judge(base, learned, 0.0, task)[0]


def gradient(base: BaseModel, branches: dict[int, NeuronBranch], task: Task, ttt: TTTConfig, mode: Any, u: int) -> Any:
    return task_gradient(base, branches, 0.0, task, mode, loop(base, ttt), u, random.Random(3))


def test_second_order_is_the_slope_of_the_loss_after_learning(tiny_base: BaseModel, passage: StudyPassage) -> None:
    ttt = TTTConfig(**SGD, first_block=2)
    branches, task = moved_branches(tiny_base, ttt, passage), task_of(tiny_base, passage, ttt)
    whole = gradient(tiny_base, branches, task, ttt, "second_order", 99)
    assert whole.loss == pytest.approx(adapted_loss(tiny_base, branches, task, ttt), rel=1e-4), "not ttt's inner loop"
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(w.shape, generator=generator) for w in learned_weights(branches)]
    slope = sum(float((g * d).sum()) for g, d in zip(whole.gradient, direction, strict=True))

    def at(step: float) -> float:
        weights = learned_weights(branches)
        with torch.no_grad():
            for w, d in zip(weights, direction, strict=True):
                w += step * d
            loss = adapted_loss(tiny_base, branches, task, ttt)
            for w, d in zip(weights, direction, strict=True):
                w -= step * d
        return loss

    measured = (at(2e-3) - at(-2e-3)) / 4e-3
    first = gradient(tiny_base, branches, task, ttt, "first_order", 1)
    plain = sum(float((g * d).sum()) for g, d in zip(first.gradient, direction, strict=True))
    assert slope == pytest.approx(measured, rel=0.03, abs=0.02)
    assert abs(plain - measured) > 3 * abs(slope - measured), "first order is another gradient"


def test_truncation_drops_the_earlier_updates(tiny_base: BaseModel, passage: StudyPassage) -> None:
    ttt = TTTConfig(**SGD)
    branches, task = moved_branches(tiny_base, ttt, passage), task_of(tiny_base, passage, ttt)
    found = [gradient(tiny_base, branches, task, ttt, "second_order", u) for u in (1, 2)]
    assert found[0].loss == found[1].loss, "the updates are the same"
    assert not torch.equal(found[0].gradient[0], found[1].gradient[0])


def test_reptile_goes_to_where_learning_ends(tiny_base: BaseModel, passage: StudyPassage) -> None:
    ttt = TTTConfig(**INNER)
    branches, task = moved_branches(tiny_base, ttt, passage), task_of(tiny_base, passage, ttt)
    before = [w.detach().clone() for w in learned_weights(branches)]
    found = gradient(tiny_base, branches, task, ttt, "reptile", 1)
    assert all(torch.equal(a, b) for a, b in zip(before, learned_weights(branches), strict=True)), "phi_0 moved"
    with torch.no_grad():
        for weight, step in zip(learned_weights(branches), found.gradient, strict=True):
            weight -= step
    assert judge(tiny_base, branches, 0.0, task)[0] < found.loss, "there the questions were studied too"


def test_instruction_takes_no_inner_step(tiny_base: BaseModel, passage: StudyPassage) -> None:
    ttt = TTTConfig(**INNER)
    branches, task = moved_branches(tiny_base, ttt, passage), task_of(tiny_base, passage, ttt)
    found = gradient(tiny_base, branches, task, ttt, "instruction", 1)
    assert found.loss == pytest.approx(judge(tiny_base, branches, 0.0, task)[0], rel=1e-5)
    study_only = task_gradient(
        tiny_base, branches, 0.0, Task([], [], task.asked, task.asked_prefix, task.rivals_S), "instruction",
        loop(tiny_base, ttt), 1,
        random.Random(0),
    )  # fmt: skip
    assert not torch.equal(found.gradient[0], study_only.gradient[0]), "the passage is studied too"


def test_an_sgd_update_clips_as_the_inner_loop_does() -> None:
    weights = [torch.tensor([1.0, 2.0], requires_grad=True)]
    slope = torch.tensor([3.0, 4.0])
    weights[0].grad = slope.clone()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    assert weights[0].grad is not None
    expected = weights[0].detach() - 0.1 * weights[0].grad
    torch.testing.assert_close(sgd_update(weights, [slope], 0.1, 1.0)[0], expected)
    still = torch.zeros(2, requires_grad=True)
    [moved] = sgd_update([torch.ones(2)], [still], 0.1, 1.0)
    moved.sum().backward()
    assert torch.isfinite(still.grad).all()  # type: ignore[arg-type]


def test_fused_attention_is_why_second_order_runs_in_plain_math() -> None:
    q = torch.randn(1, 1, 4, 8, requires_grad=True)

    def second(backend: SDPBackend) -> None:
        with sdpa_kernel([backend]):
            out = torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
            [g] = torch.autograd.grad(out.square().sum(), q, create_graph=True)
            g.square().sum().backward()

    second(SDPBackend.MATH)
    with pytest.raises(RuntimeError, match="not implemented"):
        second(SDPBackend.FLASH_ATTENTION)


# -- training ----------------------------------------------------------------------------------------


def train(
    base: BaseModel, dataset: Dataset, folder: Path, steps: int, neurons: int | None = 5, **outer: Any
) -> Outcome:
    inner = TTTConfig(**{**(SGD if outer.get("mode") == "second_order" else INNER), "neurons": neurons})
    return train_start(base, dataset, StartConfig(**{**OUTER, **outer}), inner, folder, steps, ALONE)


def same(a: Start, b: Start) -> bool:
    return all(torch.equal(t, b.deltas[block][n]) for block, d in a.deltas.items() for n, t in d.items())


@pytest.mark.parametrize("mode", ["second_order", "first_order", "instruction"])
@pytest.mark.slow
def test_the_validation_loss_after_learning_falls(
    mode: str, tiny_base: BaseModel, dataset: Dataset, tmp_path: Path
) -> None:
    found = train(tiny_base, dataset, tmp_path, 12, neurons=None, mode=mode, learning_rate=3e-2, validate_every=6)
    assert [p.step for p in found.curve] == [0, 6, 12]
    assert found.curve[-1].loss_on < found.curve[0].loss_on - 0.3


def test_reptile_moves_the_start(tiny_base: BaseModel, dataset: Dataset, tmp_path: Path) -> None:
    found = train(tiny_base, dataset, tmp_path, 6, neurons=None, mode="reptile", validate_every=6)
    assert found.curve[-1].loss_on < found.curve[0].loss_on


@pytest.fixture(scope="module")
def trained(tiny_base: BaseModel, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("run")
    return folder, train(tiny_base, dataset, folder, 4, learning_rate=1e-2)


def test_a_run_that_was_interrupted_ends_with_the_same_bits(
    tiny_base: BaseModel, dataset: Dataset, tmp_path: Path, trained: tuple[Path, Outcome]
) -> None:
    config, ttt = StartConfig(**OUTER, learning_rate=1e-2), TTTConfig(**INNER)

    def kill(done: int, total: int, loss: float) -> None:
        raise KeyboardInterrupt

    part = train_start(tiny_base, dataset, config, ttt, tmp_path, 4, ALONE, max_seconds=0.0)
    assert part.steps == 0 and part.planned_steps == 4
    train_start(tiny_base, dataset, config, ttt, tmp_path, 1, ALONE)
    with pytest.raises(KeyboardInterrupt):
        train_start(tiny_base, dataset, config, ttt, tmp_path, 4, ALONE, on_step=kill)
    whole = train_start(tiny_base, dataset, config, ttt, tmp_path, 4, ALONE)
    _, expected = trained
    assert whole.curve == expected.curve
    assert same(whole.start, expected.start)
    assert same(load_start(str(tmp_path / "start.safetensors"), tiny_base), expected.start)


def test_a_folder_with_another_run_is_refused(
    tiny_base: BaseModel, dataset: Dataset, trained: tuple[Path, Outcome]
) -> None:
    with pytest.raises(InputError, match="holds a run with seed = 0, not 1"):
        train(tiny_base, dataset, trained[0], 4, learning_rate=1e-2, seed=1)


def test_a_damaged_checkpoint_is_an_error(tiny_base: BaseModel, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(CorruptMemoryError, match="delete it to start over"):
        train(tiny_base, dataset, tmp_path, 1)


@pytest.mark.parametrize(
    ("knob", "value"),
    [("inner_tokens", 1), ("inner_passes", 2),
     ("questions", 1), ("passages_per_step", 1), ("learning_rate", 1e-4), ("warmup_steps", 0),
     ("seed", 1), ("mode", "instruction"), ("truncate", None),
     ("validate_every", None), ("validation_passages", None)],
)  # fmt: skip
def test_every_setting_is_read(knob: str, value: Any, tiny_base: BaseModel, dataset: Dataset, tmp_path: Path) -> None:
    if value is None:  # has a test of its own
        return
    others = {"mode": "instruction"} if knob == "questions" else {}
    usual = train(tiny_base, dataset, tmp_path / "a", 2, **others)
    other = train(tiny_base, dataset, tmp_path / "b", 2, **{**others, knob: value})
    assert usual.curve != other.curve


def test_every_setting_has_a_test() -> None:
    marks = test_every_setting_is_read.pytestmark  # type: ignore[attr-defined]
    assert {name for name, _ in marks[0].args[1]} == set(StartConfig.model_fields)


def test_validation_articles_are_apart_from_training(tiny_base: BaseModel, dataset: Dataset) -> None:
    learn, held = training_passages(tiny_base, dataset, 200, 0.3, 0)
    assert len(learn) == 4 and len(held) == 2
    assert not {p.title for p in learn} & {p.title for p in held}


def _worker(folder: Path, model: Path, data: Path) -> None:
    torch.set_num_threads(1)
    base = BaseModel.load(str(model), device="cpu")
    processes = Processes.join("cpu")
    assert processes.count == 2
    config, ttt = StartConfig(**OUTER, learning_rate=1e-2), TTTConfig(**INNER)
    found = train_start(base, load_dataset(data), config, ttt, folder, 2, processes)
    if processes.main:
        (folder / "curve.json").write_text(json.dumps([p.loss_on for p in found.curve]))


def test_two_processes_take_the_steps_of_one(
    tiny_base: BaseModel, tiny_llama_dir: Path, dataset: Dataset, tmp_path: Path
) -> None:
    from accelerate import PartialState, debug_launcher

    data = tmp_path / "dogs.jsonl"
    rows = [
        {
            "title": d.document.title,
            "context": d.document.text,
            "questions": [{"question": q.question, "answer": list(q.answers)} for q in d.questions],
        }
        for d in dataset.documents
    ]
    data.write_text("\n".join(map(json.dumps, rows)))
    PartialState._reset_state()
    debug_launcher(_worker, args=(tmp_path / "two", tiny_llama_dir, data), num_processes=2)
    one = train_start(
        tiny_base, load_dataset(data), StartConfig(**OUTER, learning_rate=1e-2), TTTConfig(**INNER), tmp_path / "one",
        2, ALONE,
    )  # fmt: skip
    assert json.loads((tmp_path / "two" / "curve.json").read_text()) == pytest.approx(
        [p.loss_on for p in one.curve], rel=1e-4
    )


# -- a start in ttt ----------------------------------------------------------------------------------


def ttt(**options: Any) -> TTT:
    made = make_strategy("ttt", {**INNER, "passes": 1, "guard": False, **options})
    assert isinstance(made, TTT)
    return made


def logits(base: BaseModel, strategy: TTT, state: State, text: str) -> torch.Tensor:
    with torch.no_grad(), strategy.adapted(base, state, text):
        found: torch.Tensor = base.model(torch.tensor([base.encode(text)])).logits
    return found


def test_ttt_begins_at_the_start(
    tiny_base: BaseModel, passage: StudyPassage, trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    path = str(trained[0] / "start.safetensors")
    strategy = ttt(start=path, learning_rate=0.0, neurons=99)
    document = Document(passage.text, passage.title)
    state, report = strategy.learn(tiny_base, strategy.init(tiny_base), document)
    start = load_start(path, tiny_base)
    for block, deltas in start.deltas.items():
        for name, tensor in deltas.items():
            torch.testing.assert_close(state.tensors[f"{document.id}/0000.{block:03d}.{name}"], tensor)
    assert report.bytes < 10_000 and strategy.describe(tiny_base, state)["neurons_per_block"] == 5
    learned = logits(tiny_base, strategy, state, passage.text)
    assert not torch.equal(learned, logits(tiny_base, strategy, strategy.init(tiny_base), passage.text))
    assert torch.equal(learned, logits(tiny_base, ttt(), state, passage.text)), "the memory alone is enough"


def test_a_start_changes_what_is_learned(
    tiny_base: BaseModel, passage: StudyPassage, trained: tuple[Path, Outcome]
) -> None:
    document = Document(passage.text, passage.title)
    digests = {
        strategy.learn(tiny_base, strategy.init(tiny_base), document)[0].digest()
        for strategy in (ttt(), ttt(start=str(trained[0] / "start.safetensors")))
    }
    assert len(digests) == 2


@pytest.fixture
def start_of_another_base(tiny_base: BaseModel, tmp_path: Path) -> Iterator[Path]:
    parts = mlp_parts(tiny_base.mlp(3))
    start = Start.of(tiny_base, {3: NeuronBranch(parts, torch.tensor([1, 2]))}, {})
    save_start(Start("0" * 64, start.deltas, {}), tmp_path / "other.safetensors")
    yield tmp_path / "other.safetensors"


def test_a_start_that_does_not_fit_is_refused(
    tiny_base: BaseModel, start_of_another_base: Path, tmp_path: Path
) -> None:
    document = Document("The lazy dog lives in Lund.", "Dog")

    def learn(start: str) -> None:
        strategy = ttt(start=start)
        strategy.learn(tiny_base, strategy.init(tiny_base), document)

    with pytest.raises(MismatchError, match="trained for the base 000000000000"):
        learn(str(start_of_another_base))
    with pytest.raises(ConfigError, match="none ships for"):
        learn("packaged")
    with pytest.raises(ConfigError, match="no such file"):
        learn(str(tmp_path / "missing.safetensors"))
    (tmp_path / "text.safetensors").write_text("words")
    with pytest.raises(CorruptMemoryError, match="cannot be read"):
        learn(str(tmp_path / "text.safetensors"))
