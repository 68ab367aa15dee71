"""The outer loop of ttt on a tiny random model: its gradient, resuming, several processes, and starts in ttt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from continual_learning.datasets.base import Dataset, QADocument, load_dataset
from continual_learning.documents import Document
from continual_learning.errors import ConfigError, CorruptMemoryError, InputError, MismatchError
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.methods.ttt import TTT, inner_loop
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.dual_mlp import NeuronBranch
from continual_learning.strategies.methods.ttt.inner_loop import Course
from continual_learning.strategies.methods.ttt.learning import Passage
from continual_learning.strategies.methods.ttt.outer_loop.config import StartConfig
from continual_learning.strategies.methods.ttt.outer_loop.gradient import after_steps, outer_loss, start_gradient
from continual_learning.strategies.methods.ttt.outer_loop.passages import split_passages, study_passage
from continual_learning.strategies.methods.ttt.outer_loop.processes import Processes
from continual_learning.strategies.methods.ttt.outer_loop.run import Outcome, first_branches, train_start
from continual_learning.strategies.methods.ttt.start import Start, chosen_start, load_start, save_start
from continual_learning.types import QuestionAnswer

pytestmark = pytest.mark.slow

PLACES = ["Lund", "Paris", "Oslo", "Rome", "Bern", "Kiel"]
INNER: dict[str, Any] = {"neurons": 5, "part_tokens": 6, "passes": 20}
ALONE = Processes(0, 1, torch.device("cpu"))
OUTER: dict[str, Any] = {"inner_steps": 2, "passages_per_step": 2, "validate_every": 2, "validation_passages": 1}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    documents = []
    for number in range(2 * len(PLACES)):
        place, article = PLACES[number % len(PLACES)], f"Dog {number // 2}"
        text = f"The lazy dog number {number} lives in {place} with {number + 2} cats and eats plankton."
        questions = (QuestionAnswer(f"Where does dog number {number} live?", (place,)),)
        documents.append(QADocument(Document(text, article), questions, article))
    return Dataset("dogs", "generated", tuple(documents))


@pytest.fixture(scope="module")
def passage(dataset: Dataset) -> Passage:
    document = dataset.documents[0].document
    return Passage(document.text, document.title, 0.0, "")


# -- the gradient ------------------------------------------------------------------------------------

RATE, STEPS = 0.3, 3


def course_of(base: BaseModel, passage: Passage) -> Course:
    ttt = TTTConfig(**INNER)
    branches = first_branches(base, ttt, [passage.text])
    study = study_passage(base, passage, ttt, min(branches))
    return Course(base, branches, 0.0, study.batch, study.job.stop_ids)


def start_of(base: BaseModel) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {3: (0.1 * torch.randn(5, base.hidden_size, generator=generator)).requires_grad_()}


def test_the_gradient_is_the_slope_of_the_loss_after_the_steps(
    tiny_base: BaseModel, passage: Passage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inner_loop, "as_stored", lambda values: values)  # rounding has no slope
    start = start_of(tiny_base)
    direction = torch.randn(start[3].shape, generator=torch.Generator().manual_seed(0))

    def at(step: float) -> float:
        course = course_of(tiny_base, passage)
        course.look_up(start)
        moved = {3: start[3].detach() + step * direction}
        with torch.no_grad():
            return outer_loss(course, after_steps(course, moved, RATE, STEPS)).item()

    slopes = []
    for truncate in (STEPS, 1):
        gradient, loss = start_gradient(course_of(tiny_base, passage), start, RATE, STEPS, truncate)
        assert loss.item() == pytest.approx(at(0.0), rel=1e-4)
        slopes.append(float((gradient * direction).sum()))
    measured = (at(2e-3) - at(-2e-3)) / 4e-3
    assert slopes[0] == pytest.approx(measured, rel=0.02, abs=1e-3)
    assert abs(slopes[1] - measured) > 3 * abs(slopes[0] - measured), "one step alone has another slope"


# -- training ----------------------------------------------------------------------------------------


def train(base: BaseModel, dataset: Dataset, folder: Path, steps: int, **outer: Any) -> Outcome:
    return train_start(base, dataset, StartConfig(**{**OUTER, **outer}), TTTConfig(**INNER), folder, steps, ALONE)


def same(a: Start, b: Start) -> bool:
    return all(torch.equal(t, b.deltas[block][n]) for block, d in a.deltas.items() for n, t in d.items())


@pytest.fixture(scope="module")
def trained(tiny_base: BaseModel, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("run")
    return folder, train(tiny_base, dataset, folder, 12, learning_rate=0.3)


def test_a_trained_start_lowers_the_loss_after_the_steps(trained: tuple[Path, Outcome]) -> None:
    curve = trained[1].curve
    assert [p.step for p in curve] == [0, 2, 4, 6, 8, 10, 12]
    assert min(p.loss for p in curve) < curve[0].loss - 0.1


def test_a_run_that_was_interrupted_ends_with_the_same_bits(
    tiny_base: BaseModel, dataset: Dataset, tmp_path: Path, trained: tuple[Path, Outcome]
) -> None:
    config, ttt = StartConfig(**OUTER, learning_rate=0.3), TTTConfig(**INNER)

    def kill(done: int, total: int, loss: float) -> None:
        raise KeyboardInterrupt

    part = train_start(tiny_base, dataset, config, ttt, tmp_path, 12, ALONE, max_seconds=0.0)
    assert part.steps == 0 and part.planned_steps == 12
    train_start(tiny_base, dataset, config, ttt, tmp_path, 3, ALONE)
    with pytest.raises(KeyboardInterrupt):
        train_start(tiny_base, dataset, config, ttt, tmp_path, 12, ALONE, on_step=kill)
    whole = train_start(tiny_base, dataset, config, ttt, tmp_path, 12, ALONE)
    _, expected = trained
    assert whole.curve == expected.curve
    assert same(whole.start, expected.start)
    assert same(load_start(tmp_path / "start.safetensors", tiny_base), expected.start)


def test_a_folder_with_another_run_is_refused(
    tiny_base: BaseModel, dataset: Dataset, trained: tuple[Path, Outcome]
) -> None:
    with pytest.raises(InputError, match="holds a run with seed = 0, not 1"):
        train(tiny_base, dataset, trained[0], 12, learning_rate=0.3, seed=1)


def test_a_damaged_checkpoint_is_an_error(tiny_base: BaseModel, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(CorruptMemoryError, match="delete it to start over"):
        train(tiny_base, dataset, tmp_path, 1)


KNOBS = {
    "inner_steps": 1,
    "truncate": 1,
    "passages": 1,
    "passages_per_step": 1,
    "learning_rate": 1e-4,
    "validate_every": 1,
    "validation_passages": 2,
    "seed": 1,
}


@pytest.mark.parametrize("knob", StartConfig.model_fields)
def test_every_setting_is_read(knob: str, tiny_base: BaseModel, dataset: Dataset, tmp_path: Path) -> None:
    usual = train(tiny_base, dataset, tmp_path / "a", 2)
    other = train(tiny_base, dataset, tmp_path / "b", 2, **{knob: KNOBS[knob]})
    assert usual.curve != other.curve


def test_validation_articles_are_apart_from_training(tiny_base: BaseModel, dataset: Dataset) -> None:
    learn, held = split_passages(tiny_base, dataset, TTTConfig(**INNER), StartConfig())
    assert len(learn) == 10 and len(held) == 2
    assert not {p.title for p in learn} & {p.title for p in held}


def _worker(folder: Path, model: Path, data: Path) -> None:
    torch.set_num_threads(1)
    base = BaseModel.load(str(model), device="cpu")
    processes = Processes.join("cpu")
    assert processes.count == 2
    found = train_start(base, load_dataset(data), StartConfig(**OUTER), TTTConfig(**INNER), folder, 2, processes)
    if processes.main:
        (folder / "curve.json").write_text(json.dumps([p.loss for p in found.curve]))


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
    one = train(tiny_base, load_dataset(data), tmp_path / "one", 2)
    assert json.loads((tmp_path / "two" / "curve.json").read_text()) == pytest.approx(
        [p.loss for p in one.curve], rel=1e-4
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
    tiny_base: BaseModel, passage: Passage, trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    path = str(trained[0] / "start.safetensors")
    strategy = ttt(start=path, learning_rate=0.0, neurons=99)
    document = Document(passage.text, passage.title)
    state, report = strategy.learn(tiny_base, strategy.init(tiny_base), document)
    start = load_start(Path(path), tiny_base)
    for block, deltas in start.deltas.items():
        for name, tensor in deltas.items():
            torch.testing.assert_close(state.tensors[f"{document.id}/0000.{block:03d}.{name}"], tensor)
    assert report.bytes < 10_000 and strategy.describe(tiny_base, state)["neurons_per_block"] == 5
    learned = logits(tiny_base, strategy, state, passage.text)
    assert not torch.equal(learned, logits(tiny_base, strategy, strategy.init(tiny_base), passage.text))
    assert torch.equal(learned, logits(tiny_base, ttt(), state, passage.text)), "the memory alone is enough"


def test_a_start_changes_what_is_learned(tiny_base: BaseModel, passage: Passage, trained: tuple[Path, Outcome]) -> None:
    document = Document(passage.text, passage.title)
    digests = {
        strategy.learn(tiny_base, strategy.init(tiny_base), document)[0].digest()
        for strategy in (ttt(), ttt(start=str(trained[0] / "start.safetensors")))
    }
    assert len(digests) == 2


@pytest.mark.model
def test_the_start_that_ships_is_the_default_unless_neurons_are_chosen(
    embedded_base: BaseModel, tiny_base: BaseModel
) -> None:
    shipped = chosen_start(TTTConfig(), embedded_base)
    assert shipped and len(shipped.deltas[shipped.blocks.start]["neurons"]) == 96
    assert chosen_start(TTTConfig(neurons=8), embedded_base) is None
    assert chosen_start(TTTConfig(start=None), embedded_base) is None
    assert chosen_start(TTTConfig(), tiny_base) is None


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
    with pytest.raises(ConfigError, match="no such file"):
        learn(str(tmp_path / "missing.safetensors"))
    (tmp_path / "text.safetensors").write_text("words")
    with pytest.raises(CorruptMemoryError, match="cannot be read"):
        learn(str(tmp_path / "text.safetensors"))
