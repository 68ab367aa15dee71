"""What `compare` and `benchmark` share: their options, the bar, and how a result is shown."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from continual_learning.cli.output import Output, clean, note, size
from continual_learning.errors import ConfigError, InputError

if TYPE_CHECKING:
    from continual_learning.evaluation.bases import Measure
    from continual_learning.evaluation.contender import Contender
    from continual_learning.evaluation.protocols import Settings
    from continual_learning.model.base_model import BaseModel
    from continual_learning.types import Progress, ProgressCallback

_NOTE_SECONDS = 30.0

Strategies = Annotated[
    str | None, typer.Option("--strategies", "-s", metavar="A,B,…", help="Strategies to run [default: all of them].")
]
Options = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STRATEGY.KEY=VALUE", help="An option of a strategy; may be repeated."),
]
Seeds = Annotated[str, typer.Option("--seeds", metavar="N,N,…", help="Run once with each of these seeds.")]
MaxNewTokens = Annotated[
    int, typer.Option("--max-new-tokens", metavar="N", help="Maximum tokens per answer.", min=1, show_default=True)
]
Retention = Annotated[
    int,
    typer.Option(
        "--retention-documents", metavar="N", min=0,
        help="Measure retention after every N documents (when each is learned alone).",
    ),
]  # fmt: skip
Report = Annotated[
    list[Path] | None,
    typer.Option(
        "--report", metavar="FILE", help="Write the result to a .html, .md, .csv or .json file; may be repeated."
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure everything again, and store no results to resume from.")]
NoFlops = Annotated[
    bool, typer.Option("--no-flops", help="Do not count operations (saves learning one extra document).")
]


Models = Annotated[
    str | None,
    typer.Option(
        "--models", metavar="A,B,…", help="Base models to run on, one after another, in one report; instead of --model."
    ),
]


def contenders_from(strategies: str | None, assignments: Sequence[str]) -> list[Contender]:
    """The strategies named, with the options of the settings and of ``--set``.

    Raises UnknownNameError and ConfigError.
    """
    from continual_learning.evaluation.contender import Contender
    from continual_learning.settings.schema import load_config
    from continual_learning.strategies.base import strategy_class, strategy_names

    names = [n.strip() for n in strategies.split(",") if n.strip()] if strategies else strategy_names()
    given: dict[str, dict[str, str]] = {name: {} for name in names}
    for text in assignments:
        key, equals, value = text.partition("=")
        name, dot, option = key.partition(".")
        if not equals or not dot:
            raise ConfigError(f"--set {text!r}; expected STRATEGY.KEY=VALUE, such as ttt.passes=4")
        if name not in given:
            raise ConfigError(f"--set {text!r}: {name!r} is not among the strategies of this run: {', '.join(names)}")
        given[name][option] = value
    config = load_config({})
    for name in names:
        strategy_class(name)  # an unknown name is reported before the first of them is run
    return [Contender(name, config.strategy_options(name, given[name])) for name in names]


def settings_from(seeds: str, max_new_tokens: int, retention_documents: int, no_flops: bool, fresh: bool) -> Settings:
    """The settings of a run. Raises InputError."""
    from continual_learning.evaluation.protocols import Settings

    numbers = whole_numbers("--seeds", seeds, "0,1,2")
    return Settings(max_new_tokens, numbers, retention_documents, not no_flops, not fresh)


def whole_numbers(flag: str, text: str, example: str) -> tuple[int, ...]:
    """The numbers of a flag, with commas between them. Raises InputError."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{flag} {text!r}; expected whole numbers with commas, such as {example}") from None


def load_base(model: str | None) -> BaseModel:
    """The base model of the flag or the settings."""
    from continual_learning.cli import session
    from continual_learning.settings.schema import load_config

    place = load_config({"model.name": model}).settings.model
    return session.load_base(place.name, place)


def run(out: Output, reports: Sequence[Path], model: str | None, models: str | None, measure: Measure) -> None:
    """Measure on the base of ``--model``, or on those of ``--models``, with a progress bar; show and write the result.

    Raises InputError for both flags, or for a report of no kind.
    """
    from continual_learning.evaluation.bases import on_each_base
    from continual_learning.evaluation.report import RENDERERS, write_report

    for path in reports:
        if path.suffix.lower() not in RENDERERS:  # before hours of work, not after
            raise InputError(f"--report {path}: expected a name that ends in one of {', '.join(RENDERERS)}")
    if model is not None and models is not None:
        raise InputError(f"--model {model!r} with --models {models!r}; expected one of the two")
    try:
        with _bar() as progress:
            if models is None:
                result = measure(load_base(model), progress)
            else:
                names = [name.strip() for name in models.split(",") if name.strip()]
                result = on_each_base(names, measure, progress, load_base)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what was measured is kept: the same command resumes from there") from None
    result["command"] = command_line()
    out.result(result)
    _show(out, result)
    for path in reports:
        out.note(f"wrote {write_report(result, path)}")


def command_line() -> str:
    """This command as it can be given again; of paths only the names."""
    words = [Path(word).name if "/" in word and Path(word).exists() else word for word in sys.argv[1:]]
    return shlex.join(["continual-learning", *words])


def _show(out: Output, result: dict[str, Any]) -> None:
    from continual_learning.evaluation.metrics import FORGETTING_TARGET

    if result["protocol"] == "everyday":
        _show_kinds(out, result)
        return
    rows = []
    for r in result["results"]:
        rows.append(
            (
                *_named(result, r),
                _number(r["recall"], ".2f"),
                _interval(r["recall_interval"]),
                _number(r["f1"], ".2f"),
                _number(r["exact_match"], ".2f"),
                _number(r.get("hit_at_3"), ".2f"),
                _number(r["learn_seconds"], ".1f"),
                _number(r["answer_seconds"], ".2f"),
                _number(r["general_kept"], ".0%"),
                _number(r["perplexity_change"], "+.1%"),
                size(r["bytes_kept"]),
            )
        )
    columns = (
        *_head(result),
        "recall",
        "95%",
        "F1",
        "EM",
        "hit@3",
        "learn s",
        "answer s",
        "kept",
        "perplexity",
        "size",
    )
    out.table(columns, rows)
    for r in result["results"]:
        if r.get("matrix"):
            parts = [f"{k} {_number(r[k], '.2f') or '-'}" for k in ("final_recall", "bwt", "fwt", "forgetting")]
            out.line(f"{_who(result, r)}: {', '.join(parts)}")
        for row in r.get("sizes", ()):
            change = f" ({row['f1_change']:+.2f})" if row is not r["sizes"][0] else ""
            out.line(f"{_who(result, r)}: memories of {row['documents']}: F1 {row['f1']:.2f}{change}, right document "
                     f"{row['opened']:.0%}")  # fmt: skip
        if r.get("left_alone") is not None:
            out.line(f"{_who(result, r)}: {r['left_alone']:.0%} of {r['others']} other questions left to the base")
        for row in r.get("by_distance", ()):
            out.line(f"{_who(result, r)}: told {row['from']} to {row['to']} turns before: recall {row['recall']:.2f} "
                     f"of {row['questions']}")  # fmt: skip
        if r["holdout_before"] is not None:
            ratio = _number(r["forgetting_ratio"], ".2f")
            ratio = f"{ratio} (target: at most {FORGETTING_TARGET})" if ratio else "undefined: the base had none right"
            out.line(f"{_who(result, r)}: holdout {r['holdout_before']:.2f} before, {r['holdout_after']:.2f} after, "
                     f"forgetting ratio {ratio}")  # fmt: skip
    _show_notes(out, result)


def _show_kinds(out: Output, result: dict[str, Any]) -> None:
    """The scores of the everyday documents, over all questions and by kind."""
    from continual_learning.datasets.everyday import KINDS

    rows = [
        (
            *_named(result, r),
            _number(r["score"], ".2f"),
            _interval(r["score_interval"]),
            *(_number(r[f"score_{kind}"], ".2f") for kind in KINDS),
            _number(r["answered"], ".0%"),
            _number(r["learn_seconds"], ".1f"),
            _number(r["answer_seconds"], ".2f"),
        )
        for r in result["results"]
    ]
    kinds = (kind.replace("_", " ") for kind in KINDS)
    out.table((*_head(result), "score", "95%", *kinds, "answered", "learn s", "answer s"), rows)
    _show_notes(out, result)


def _show_notes(out: Output, result: dict[str, Any]) -> None:
    for r in result["results"]:
        for text in r["notes"]:
            out.note(f"{_who(result, r)}: {text}")
    for text in result["notes"]:
        out.note(text)


def _head(result: dict[str, Any]) -> tuple[str, ...]:
    return ("strategy", "model") if result.get("models") else ("strategy",)


def _named(result: dict[str, Any], row: dict[str, Any]) -> tuple[str, ...]:
    """What a row is: its label, and its base model if several ran."""
    from continual_learning.evaluation.report.columns import model_names

    names = model_names(result)
    return (row["label"], names[row["model"]]) if names else (row["label"],)


def _who(result: dict[str, Any], row: dict[str, Any]) -> str:
    return " on ".join(_named(result, row))


def _interval(low_high: list[float] | None) -> str | None:
    return f"{low_high[0]:.2f}-{low_high[1]:.2f}" if low_high else None


def _number(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)


@contextlib.contextmanager
def _bar() -> Iterator[ProgressCallback]:
    """A bar on a terminal, elsewhere an occasional line. The estimated time is always reported, once."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    terminal = sys.stderr.isatty()
    columns = (TextColumn("{task.fields[stage]}", markup=False), BarColumn(), TaskProgressColumn(),
               TextColumn("{task.description}", markup=False))  # fmt: skip
    last = [time.perf_counter()]
    with Bar(*columns, console=Console(stderr=True), transient=True, disable=not terminal) as bar:
        task = bar.add_task("", total=100, stage="")

        def show(step: Progress) -> None:
            text = clean(f"{step.stage}: {step.message}")
            if step.stage == "plan":
                bar.console.print(clean(step.message), markup=False, highlight=False) if terminal else note(text)
            elif terminal:
                bar.update(task, completed=step.done, total=step.total, stage=step.stage, description=step.message)
            elif time.perf_counter() - last[0] > _NOTE_SECONDS:
                last[0] = time.perf_counter()
                note(f"{step.done}% {text}")

        yield show
