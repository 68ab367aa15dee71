"""`train hypernetwork`: a generator of adapters for the strategy doc2lora."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from continual_learning.strategies.commands import (
    Command,
    CommandContext,
    CommandOutput,
    Json,
    MenuContext,
    MenuEntry,
    Model,
    Preparation,
    Work,
)

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel
    from continual_learning.strategies.methods.doc2lora.network import DocumentHypernetwork
    from continual_learning.strategies.methods.doc2lora.training.settings import HypernetworkTraining
    from continual_learning.types import ProgressCallback

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder; an existing run is resumed.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the run, such as generator=linear or steps=300."),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="FILE", help="SQuAD .json, .jsonl or lessons; trains on the first half of its articles."
    ),
]
StopAfter = Annotated[
    int | None, typer.Option("--stop-after", metavar="N", min=1, help="Stop after N more steps; the run is resumable.")
]
Ladder = Annotated[
    int,
    typer.Option("--ladder", metavar="N", min=0, help="Finally, recall on N test documents of each size (0: none)."),
]


def hypernetwork(
    cli: CommandContext,
    folder: Folder,
    settings: Setting = None,
    data: Data = None,
    stop_after: StopAfter = None,
    ladder: Ladder = 0,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Train a hypernetwork for a base model. After an interruption, the same command resumes it."""
    from continual_learning.errors import InputError
    from continual_learning.options import parse_config
    from continual_learning.strategies.methods.doc2lora.training.devices import local_device, process_rank
    from continual_learning.strategies.methods.doc2lora.training.settings import HypernetworkTraining

    out = cli.output(as_json)
    if ladder == 1:
        raise InputError("--ladder 1; expected 0, or at least 2 documents, to have one that does not match")
    place = cli.config({"model.name": model}).settings.model
    given: dict[str, Any] = dict(cli.assignments(list(settings or ())))
    run = parse_config(HypernetworkTraining, {**given, **({"data": data} if data else {})}, "train hypernetwork")

    from continual_learning.model.base_model import BaseModel
    from continual_learning.strategies.methods.doc2lora.training.run import train_hypernetwork

    base = BaseModel.load(place.name, local_device(place.device), place.dtype, frozen_weights=place.frozen_weights)
    with cli.progress_bar("hypernetwork") as progress:
        result = train_hypernetwork(base, run, folder, progress, stop_after)
    if process_rank():
        return
    rows = _ladder(out, base, result.network, ladder, data)
    out.result(
        {
            "folder": str(result.folder),
            "model": base.name,
            "settings": run.model_dump(mode="json"),
            "steps": result.steps,
            "finished": result.steps == run.all_steps,
            "curve": result.curve,
            "ladder": rows,
            "seconds": result.seconds,
        }
    )
    columns = ("step", "kind", "matched", "mismatched", "none", "movement")
    out.table(columns, [[_short(point[name]) for name in columns] for point in result.curve])
    out.line(f"{result.steps} of {run.all_steps} steps in {result.seconds:.0f} s: {result.folder}")


def _ladder(
    out: CommandOutput, base: BaseModel, network: DocumentHypernetwork, documents: int, data: str | None
) -> list[dict[str, Any]]:
    if not documents:
        return []
    from continual_learning.strategies.methods.doc2lora.training.ladder import ladder

    rows = ladder(base, network, documents, data, on_rung=lambda name: out.note(f"ladder: {name}"))
    names = ("recall_matched", "recall_mismatched", "recall_none", "recall_prompt", "share")
    table = [[row["rung"], *(_short(row.get(name)) for name in names)] for row in rows[:-1]]
    out.table(("rung", "recall", "mismatched", "none", "in the prompt", "share of the prompt's gain"), table)
    last = rows[-1]
    out.line(
        f"an irrelevant document: {last['general_changed']:.0%} of the general answers differ, "
        f"{last['general_lost']:.0%} of the right ones are lost"
    )
    return rows


def _short(value: float | int | None) -> str | None:
    return None if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


# What `model prepare` trains. Quick: made-up facts alone, with the settings of `benchmarks/lab/generators.py`. In full:
# as the last of the runs that made the one that ships, from the beginning.
SETTINGS: dict[bool, dict[str, object]] = {
    True: {
        "facts_documents": 60, "retrieval_steps": 14, "steps": 14, "documents_per_step": 2, "rate": 0.005, "warm_up": 3,
        "validation_documents": 2, "validate_every": 1000, "checkpoint_every": 5, "irrelevant_questions": 0,
        "teacher_weight": 0.0, "max_chunks": 1,
    },
    False: {
        "data": "lessons", "data_documents": 600, "facts_documents": 1300, "retrieval_steps": 60, "steps": 600,
        "documents_per_step": 4, "joined_documents": 4, "rate": 0.003, "warm_up": 10,
        "validation_documents": 6, "validate_every": 100, "checkpoint_every": 10, "irrelevant_questions": 0,
        "teacher_weight": 0.0, "max_chunks": 1,
    },
}  # fmt: skip
_DOCUMENT_TOKENS = {True: 1_200, False: 1_800}
"""What a document of a step takes, in tokens that the base reads in the same time."""


def _ships(base: BaseModel) -> bool:
    from continual_learning.strategies.methods.doc2lora.hub import shipped_for

    return shipped_for(base.name) is not None


def _run(quick: bool) -> HypernetworkTraining:
    from continual_learning.strategies.methods.doc2lora.training.settings import HypernetworkTraining

    return HypernetworkTraining.model_validate(SETTINGS[quick])


def _work(base: BaseModel, quick: bool) -> Work:
    import torch

    from continual_learning.strategies.methods.doc2lora.linear import LinearHypernetwork
    from continual_learning.strategies.methods.doc2lora.training.networks import linear_config

    run = _run(quick)
    with torch.device("meta"):
        size = sum(p.numel() for p in LinearHypernetwork(linear_config(base, run)).parameters())
    return Work(run.all_steps * run.documents_per_step * _DOCUMENT_TOKENS[quick], 2 * size)


def _command(quick: bool, folder: Path) -> Sequence[str]:
    given = [part for name, value in SETTINGS[quick].items() for part in ("--set", f"{name}={value}")]
    return ("train", "hypernetwork", str(folder), *given)


def _train(base: BaseModel, quick: bool, folder: Path, progress: ProgressCallback | None) -> Path:
    from continual_learning.strategies.methods.doc2lora.training.run import train_hypernetwork

    return train_hypernetwork(base, _run(quick), folder, progress).folder


NAME = "doc2lora"
MODES = {
    "doc": "doc: documents become adapters",
    "text": "text: descriptions of tasks become adapters",
    "simulated": "simulated: random weights, to see the steps and nothing more",
}


def _menu_learn(menu: MenuContext) -> None:
    """Turn a document, or in mode text a description, into an adapter."""
    source = menu.prompts.path("Description of a task" if _mode(menu) == "text" else "Document")
    menu.learn(source, menu.memory_of(NAME), "--set", f"mode={_mode(menu)}", strategy=NAME)


def _menu_ask(menu: MenuContext) -> None:
    """Ask the adapted model questions until an empty one."""
    menu.ask_in_turn(menu.memory_of(NAME))


def _menu_switch(menu: MenuContext) -> None:
    """Switch to another mode, save it in the settings, and say what that mode still needs."""
    mode = menu.prompts.select("Mode", MODES, default=_mode(menu))
    if menu.run("config", "set", f"strategies.{NAME}.mode", mode) != 0:
        return
    if _mode(menu) != mode:
        menu.say(f"the setting doc2lora.simulated goes before mode {mode}; set it to false")
    elif lacking := _lacking(menu):
        menu.say(f"mode {mode} cannot learn yet: {lacking}")


def _mode(menu: MenuContext) -> str:
    return str(menu.options(NAME)["mode"])


def _lacking(menu: MenuContext) -> str | None:
    from continual_learning.model.prepared import all_prepared
    from continual_learning.strategies.methods.doc2lora.generators import missing

    options, model = menu.options(NAME), menu.model_for(NAME)
    source = options["hypernetwork"]
    fingerprint = next((found.fingerprint for found in all_prepared() if found.is_for(model, Path(model))), None)
    return missing(model, options["mode"], None if source is None else str(source), fingerprint)


COMMANDS = (Command("train hypernetwork", hypernetwork),)
PREPARES = (
    Preparation(
        name="hypernetwork",
        file="hypernetwork",
        serves="documents into adapters in one pass, by the strategy doc2lora",
        ships=_ships,
        work=_work,
        command=_command,
        train=_train,
    ),
)
MENU = (
    MenuEntry("Doc2LoRA", "Doc-to-LoRA Learn", "a document into an adapter, in one pass", _menu_learn),
    MenuEntry("Doc2LoRA", "Doc-to-LoRA Ask", "questions to the adapted model", _menu_ask),
    MenuEntry("Doc2LoRA", "Doc-to-LoRA Switch Mode", "documents, descriptions, or simulated", _menu_switch),
)
