"""`train reader`: the network that points at answers in a text, trained once per base model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, progress_bar, size

if TYPE_CHECKING:
    from continual_learning.reading.span_reader.training import Point

Data = Annotated[str, typer.Argument(metavar="DATA", help="Texts with questions: SQuAD's JSON, or JSON lines.")]
Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Run folder; an existing run is resumed.")]
Epochs = Annotated[int, typer.Option("--epochs", metavar="N", help="Number of passes over the questions.", min=1)]
Half = Annotated[
    Literal["all", "first", "second"], typer.Option("--half", help="Half of the articles to use, in file order.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the training; may be repeated."),
]


def reader(
    data: Data,
    out_folder: Out,
    epochs: Epochs = 8,
    half: Half = "all",
    settings: Settings = None,
    model: options.Model = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Train a span reader for a base; use it with `--set reader=FOLDER/reader.safetensors`."""
    from continual_learning.datasets.base import halves, load_dataset
    from continual_learning.model.base_model import BaseModel
    from continual_learning.options import parse_config
    from continual_learning.reading.span_reader.training import READER_FILE, ReaderConfig, train_reader
    from continual_learning.settings.schema import from_text, load_config, parse_assignments
    from continual_learning.types import Progress

    config = load_config({"model.name": model})
    texts = parse_assignments(settings or [])
    given = {key: from_text(ReaderConfig, key, text) for key, text in texts.items()}
    chosen = parse_config(ReaderConfig, given, "train reader --set")
    dataset = load_dataset(data)
    if half != "all":
        dataset = halves(dataset)[0 if half == "first" else 1]
    out = Output(as_json)
    if overwrite and out_folder.exists():
        shutil.rmtree(out_folder)
    place = config.settings.model
    base = BaseModel.load(place.name, place.device, place.dtype)

    def show_point(point: Point) -> None:
        out.note(
            f"epoch {point.epoch}: validation loss {point.loss:.3f}; best span: recall {point.recall:.2f}, "
            f"F1 {point.f1:.2f}; best two: {point.recall_of_two:.2f}, {point.f1_of_two:.2f}"
        )

    with progress_bar("train reader") as bar:

        def show(stage: str, done: int, total: int, word: str) -> None:
            if bar:
                bar(Progress(stage, done, total, word))

        found = train_reader(base, dataset, chosen, out_folder, epochs, show, show_point)
    path = out_folder / READER_FILE
    facts: dict[str, Any] = {
        "reader": path,
        "bytes": path.stat().st_size,
        "epochs": epochs,
        "seconds": found.seconds,
        "questions": found.questions,
        "validation_questions": found.validation_questions,
        "curve": found.curve,
        "settings": chosen.model_dump(mode="json"),
        "data": {"name": dataset.name, "half": half, "sha256": dataset.sha256()},
    }
    out.result(facts)
    out.table(
        ("epoch", "loss", "validation loss", "recall", "F1", "recall of two", "F1 of two"),
        [
            (p.epoch, *(f"{v:.3f}" for v in (p.train_loss, p.loss, p.recall, p.f1, p.recall_of_two, p.f1_of_two)))
            for p in found.curve
        ],
    )
    out.line(f"{found.questions} questions, {found.seconds:.0f} s; {path} ({size(facts['bytes'])})")
