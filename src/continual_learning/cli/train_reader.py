"""`train reader`: the adapter that answers from a text, trained once per base model."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, progress_bar, size

Data = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DATA]",
        help="JSON lines: `title`, `context`, `questions` with `question` and `answers`; .jsonl.xz and .jsonl.gz too "
        "[default: the texts that ship with the package].",
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Run folder; an existing run is resumed.")]
Minutes = Annotated[
    float | None, typer.Option("--minutes", metavar="N", help="Stop after this time; the next call continues.", min=0.1)
]
HeldOut = Annotated[
    int,
    typer.Option(
        "--held-out", metavar="N", min=1, help="The last N texts of DATA, with all of the same titles, calibrate."
    ),
]
Start = Annotated[
    str | None,
    typer.Option("--start", metavar="FILE", help="A reader to train on from: a file, or `packaged`."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the training; may be repeated."),
]


def reader(
    out_folder: Out,
    data: Data = None,
    minutes: Minutes = None,
    held_out: HeldOut = 100,
    start: Start = None,
    settings: Settings = None,
    model: options.Model = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Train a reader for a base; use it with `--set reader=FOLDER/reader.safetensors`."""
    from continual_learning.documents.shipped import LESSONS
    from continual_learning.errors import InputError
    from continual_learning.model.base_model import BaseModel
    from continual_learning.options import parse_config
    from continual_learning.reading.answering import ReaderConfig, chosen_reader
    from continual_learning.reading.reader.lessons import apart, read_lessons
    from continual_learning.reading.reader.training import ReaderTraining, train_reader
    from continual_learning.settings.schema import from_text, load_config, parse_assignments
    from continual_learning.types import Progress

    config = load_config({"model.name": model})
    given = {key: from_text(ReaderTraining, key, text) for key, text in parse_assignments(settings or []).items()}
    chosen = parse_config(ReaderTraining, given, "train reader --set")
    learned, tried = apart(read_lessons(data or LESSONS), held_out)
    out = Output(as_json)
    place = config.settings.model
    base = BaseModel.load(place.name, place.device, place.dtype, frozen_weights=place.frozen_weights)
    before = chosen_reader(base, ReaderConfig(reader=start))
    if start and before is None:
        raise InputError(f"--start {start}: no reader for {base.name} ships; give a file, or leave --start out")
    if overwrite and out_folder.exists():
        shutil.rmtree(out_folder)  # now, as --start may be in it
    with progress_bar("train reader") as bar:

        def show(stage: str, done: int, total: int, word: str) -> None:
            if bar:
                bar(Progress(stage, done, total, word))

        limit = math.inf if minutes is None else minutes * 60
        found = train_reader(base, learned, tried, chosen, out_folder, limit, show, before)
    if found is None:
        out.result({"reader": None, "folder": out_folder})
        out.line(f"stopped after {minutes:g} minutes; the same command continues the run in {out_folder}")
        return
    facts: dict[str, Any] = {
        "reader": found.path,
        "bytes": found.path.stat().st_size,
        "seconds": found.seconds,
        "questions": found.questions,
        "held_out": {"texts": len(tried), "f1": found.f1, "exact": found.exact},
        "curve": [point._asdict() for point in found.curve],
        "settings": chosen.model_dump(mode="json"),
    }
    out.result(facts)
    out.table(("step", "loss"), [(point.step, f"{point.loss:.3f}") for point in found.curve])
    out.line(
        f"{found.questions} questions, {found.seconds:.0f} s; on {len(tried)} texts held out F1 {found.f1:.2f}, exact "
        f"{found.exact:.2f}; {found.path} ({size(facts['bytes'])})"
    )
