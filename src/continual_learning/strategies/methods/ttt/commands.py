"""The command `train start`, its menu entry, and ttt's part of `model prepare`: initial branches, once per base."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from continual_learning.errors import InputError
from continual_learning.strategies.commands import (
    Command,
    CommandContext,
    Json,
    MenuContext,
    MenuEntry,
    Model,
    Overwrite,
    Preparation,
    Work,
)

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel
    from continual_learning.strategies.methods.ttt.config import TTTConfig
    from continual_learning.strategies.methods.ttt.outer_loop.config import StartConfig
    from continual_learning.strategies.methods.ttt.outer_loop.run_folder import Point
    from continual_learning.types import ProgressCallback

Data = Annotated[str, typer.Argument(metavar="DATA", help="Documents with questions: SQuAD JSON or JSON lines.")]
Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Run folder; an existing run is resumed.")]
Steps = Annotated[int, typer.Option("--steps", metavar="N", help="Total steps, earlier sessions included.", min=0)]
Half = Annotated[
    Literal["all", "first", "second"], typer.Option("--half", help="Which half of the articles, in the file's order.")
]
Minutes = Annotated[
    float | None, typer.Option("--minutes", metavar="N", help="Stop after this time; the next call continues.", min=0)
]
Outer = Annotated[
    list[str] | None,
    typer.Option("--outer", metavar="KEY=VALUE", help="A setting of the outer loop; may be given several times."),
]
Inner = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option of ttt for the inner loop; may be given several times."),
]


def start(
    cli: CommandContext,
    data: Data,
    out_folder: Out,
    steps: Steps = 100,
    half: Half = "all",
    outer: Outer = None,
    settings: Inner = None,
    model: Model = None,
    minutes: Minutes = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Meta-learn ttt's initial branches; use the result with `--set start=FOLDER/start.safetensors`.

    Several processes: `accelerate launch --num_processes 2 -m continual_learning.cli.main train start …`.
    """
    from continual_learning.datasets.base import halves, load_dataset
    from continual_learning.model.base_model import BaseModel
    from continual_learning.options import parse_config
    from continual_learning.strategies.methods.ttt.config import PACKAGED, TTTConfig
    from continual_learning.strategies.methods.ttt.outer_loop.config import StartConfig
    from continual_learning.strategies.methods.ttt.outer_loop.processes import Processes
    from continual_learning.strategies.methods.ttt.outer_loop.run import train_start
    from continual_learning.strategies.methods.ttt.outer_loop.run_folder import CHECKPOINT
    from continual_learning.strategies.methods.ttt.start import START_FILE
    from continual_learning.types import Progress

    config = cli.config({"model.name": model})
    inner = parse_config(TTTConfig, config.strategy_options("ttt", cli.assignments(settings or [])), "strategy 'ttt'")
    texts = cli.assignments(outer or [])
    given = {key: cli.from_text(StartConfig, key, text) for key, text in texts.items()}
    chosen = parse_config(StartConfig, given, "train start --outer")
    if inner.start not in (None, PACKAGED):
        raise InputError(f"--set start={inner.start}: a start is what is trained here; leave it out")
    dataset = load_dataset(data)
    if half != "all":
        dataset = halves(dataset)[0 if half == "first" else 1]
    place = config.settings.model
    processes = Processes.join(place.device)
    out = cli.output(as_json and processes.main)
    if overwrite and processes.main and (out_folder / CHECKPOINT).exists():
        shutil.rmtree(out_folder)
    processes.wait()
    base = BaseModel.load(place.name, str(processes.device), place.dtype, frozen_weights=place.frozen_weights)

    def show_point(point: Point) -> None:
        if processes.main:
            out.note(
                f"step {point.step}: validation loss {point.loss_before:.3f}, {point.loss:.3f} after "
                f"{chosen.inner_steps} inner steps, tokens right {point.right_before:.1%}, {point.right:.1%}; "
                f"all recited after {point.steps_to_recite:.1f}"
            )

    with cli.progress_bar("train start") as bar:

        def show_step(done: int, total: int, loss: float) -> None:
            if bar and processes.main:
                bar(Progress("step", done, total, f"loss {loss:.3f}"))

        limit = float("inf") if minutes is None else 60 * minutes
        found = train_start(base, dataset, chosen, inner, out_folder, steps, processes, limit, show_step, show_point)
    if not processes.main:
        return
    path = out_folder / START_FILE
    facts: dict[str, Any] = {
        "start": path,
        "bytes": path.stat().st_size,
        "steps": found.steps,
        "planned_steps": found.planned_steps,
        "complete": found.steps >= found.planned_steps,
        "seconds": found.seconds,
        "processes": processes.count,
        "passages": found.passages,
        "validation_passages": found.validation_passages,
        "curve": found.curve,
        "outer": chosen.model_dump(mode="json"),
        "data": {"name": dataset.name, "half": half, "sha256": dataset.sha256()},
    }
    out.result(facts)
    rows = [
        (p.step, f"{p.loss_before:.3f}", f"{p.loss:.3f}", f"{p.right_before:.1%}", f"{p.right:.1%}", p.steps_to_recite)
        for p in found.curve
    ]
    after = f"after {chosen.inner_steps} steps"
    out.table(("step", "loss before", after, "tokens right before", after, "steps to recite all"), rows)
    out.line(f"{found.steps} of {steps} steps in {found.seconds:.0f} s; {path} ({cli.size(facts['bytes'])})")
    if found.steps < steps:
        out.line("give the same command again to resume")


# What `model prepare` trains, quickly (True) and in full: after 20 steps most is gained, and after 60 nothing more. 96
# neurons are enough for a start, where 160 are taken without one.
STEPS = {True: 20, False: 60}
OUTER: dict[bool, dict[str, object]] = {
    True: {"passages": 64, "validate_every": 20, "validation_passages": 6},
    False: {"passages": 128, "validate_every": 20},
}
INNER: dict[str, object] = {"neurons": 96}
# In tokens that the base reads in the same time.
_STEP_TOKENS, _PASSAGE_TOKENS, _VALIDATED_TOKENS = 1_000, 550, 900
_NEURON_BYTES = 12  # of a neuron's number and scale


def _settings(quick: bool) -> tuple[StartConfig, TTTConfig]:
    from continual_learning.strategies.methods.ttt.config import TTTConfig
    from continual_learning.strategies.methods.ttt.outer_loop.config import StartConfig

    return StartConfig.model_validate(OUTER[quick]), TTTConfig.model_validate(INNER)


def _ships(base: BaseModel) -> bool:
    from continual_learning.strategies.methods.ttt.start import packaged_start

    return packaged_start(base) is not None


def _work(base: BaseModel, quick: bool) -> Work:
    from continual_learning.model.families import mlp_parts
    from continual_learning.strategies.methods.ttt.learning import blocks_with_branches

    outer, inner = _settings(quick)
    validated = (STEPS[quick] // outer.validate_every + 1) * outer.validation_passages
    passages = outer.passages + outer.validation_passages
    tokens = STEPS[quick] * _STEP_TOKENS + passages * _PASSAGE_TOKENS + validated * _VALIDATED_TOKENS
    neurons = len(blocks_with_branches(base, inner)) * (inner.neurons or 0)
    return Work(tokens, neurons * (mlp_parts(base.mlp(0)).hidden_size + _NEURON_BYTES))


def _command(quick: bool, folder: Path) -> Sequence[str]:
    given = [part for name, value in OUTER[quick].items() for part in ("--outer", f"{name}={value}")]
    given += [part for name, value in INNER.items() for part in ("--set", f"{name}={value}")]
    return ("train", "start", "lessons", "--out", str(folder), "--steps", str(STEPS[quick]), *given)


def _train(base: BaseModel, quick: bool, folder: Path, progress: ProgressCallback | None) -> Path:
    from continual_learning.datasets.base import LESSONS_NAME, load_dataset
    from continual_learning.strategies.methods.ttt.outer_loop.processes import Processes
    from continual_learning.strategies.methods.ttt.outer_loop.run import train_start
    from continual_learning.strategies.methods.ttt.start import START_FILE
    from continual_learning.types import Progress

    def show(done: int, total: int, loss: float) -> None:
        if progress:
            progress(Progress("train", done, total, f"loss {loss:.3f}"))

    outer, inner = _settings(quick)
    alone = Processes(0, 1, base.device)
    train_start(base, load_dataset(LESSONS_NAME), outer, inner, folder, STEPS[quick], alone, on_step=show)
    return folder / START_FILE


def _menu_start(menu: MenuContext) -> None:
    """Meta-learn a start for the inner loop; then, if wanted, set ttt to use it."""
    data = menu.prompts.path("Documents with questions (SQuAD's JSON, or JSON lines)")
    folder = menu.prompts.text("Folder of the run (an existing run is resumed)", "outer-loop")
    steps = menu.prompts.number("Steps in all", 100)
    more = menu.prompts.text("More options, such as --minutes 10 (empty: none)", required=False, check=_words)
    code = menu.run("train", "start", data, "--out", folder, "--steps", steps, *shlex.split(more))
    found = Path(folder).expanduser().resolve() / "start.safetensors"
    if code == 0 and found.exists() and menu.prompts.confirm("Let new ttt memories begin there?"):
        menu.run("config", "set", "strategies.ttt.start", found)


def _words(given: str) -> bool | str:
    try:
        shlex.split(given)
    except ValueError as error:
        return f"{error}; expected options as in a shell"
    return True


COMMANDS = (Command("train start", start),)
PREPARES = (
    Preparation(
        name="start",
        file="start.safetensors",
        serves="fewer steps and bytes a passage, by the strategy ttt",
        ships=_ships,
        work=_work,
        command=_command,
        train=_train,
    ),
)
MENU = (
    MenuEntry(
        "Train",
        "Run Outer Loop (Meta-Learning)",
        "train the starting point from which documents are learned",
        _menu_start,
    ),
)
