"""`benchmark conversation`, `repository` and `transfer`: use cases of a chat whose weights learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from continual_learning.cli import evaluation, options
from continual_learning.cli.output import Output

if TYPE_CHECKING:
    from continual_learning.datasets.base import Dataset
    from continual_learning.evaluation.contender import Contender
    from continual_learning.evaluation.protocols import Settings as RunSettings

Rows = Annotated[
    str | None,
    typer.Option(
        "--rows", metavar="A,B,…",
        help="Rows to run: frozen, prompt, retrieval, or a variant of a strategy [default: all].",
    ),
]  # fmt: skip


def conversation(
    turns: Annotated[
        int, typer.Option("--turns", metavar="N", min=1, help="Number of turns in the conversation.")
    ] = 40,
    facts: Annotated[int, typer.Option("--facts", metavar="N", min=1, help="Number of turns that tell a fact.")] = 20,
    part: Annotated[Literal["tune", "report"], typer.Option("--part", help="Tune on one, report on the other.")] = (
        "report"
    ),
    rows: Rows = None,
    settings: evaluation.Options = None,
    seeds: evaluation.Seeds = "0",
    max_new_tokens: evaluation.MaxNewTokens = 24,
    model: options.Model = None,
    models: evaluation.Models = None,
    report: evaluation.Report = None,
    fresh: evaluation.Fresh = False,
    as_json: options.Json = False,
) -> None:
    """Facts told along a conversation, asked with the conversation gone; retention against distance."""
    from continual_learning.datasets.conversation import conversation_dataset
    from continual_learning.evaluation.summary import with_distances

    entrants = chosen_rows(rows, settings or ())
    how = evaluation.settings_from(seeds, max_new_tokens, 0, True, fresh)
    dataset = conversation_dataset(part, turns, facts)
    _run("conversation", dataset, entrants, how, model, models, report, as_json, with_distances)


def repository(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder of Python files [default: this program's own `retrieval`].")
    ] = None,
    files: Annotated[int, typer.Option("--files", metavar="N", min=1, help="Maximum number of files to learn.")] = 8,
    definitions: Annotated[
        int, typer.Option("--definitions", metavar="N", min=1, help="Maximum number of definitions per file.")
    ] = 4,
    rows: Rows = None,
    settings: evaluation.Options = None,
    seeds: evaluation.Seeds = "0",
    max_new_tokens: evaluation.MaxNewTokens = 24,
    model: options.Model = None,
    models: evaluation.Models = None,
    report: evaluation.Report = None,
    fresh: evaluation.Fresh = False,
    as_json: options.Json = False,
) -> None:
    """Learn the files of a small code base, then ask what is where without the code at hand."""
    from importlib.resources import files as package_files

    from continual_learning.datasets.repository import repository_dataset

    entrants = chosen_rows(rows, settings or ())
    how = evaluation.settings_from(seeds, max_new_tokens, 0, True, fresh)
    code = folder or Path(str(package_files("continual_learning") / "retrieval"))
    dataset = repository_dataset(code, files, definitions)
    _run("repository", dataset, entrants, how, model, models, report, as_json)


def transfer(
    examples: Annotated[int, typer.Option("--examples", metavar="N", min=1, help="Number of labelled examples.")] = 16,
    questions: Annotated[
        int, typer.Option("--questions", metavar="N", min=1, help="Number of texts to classify.")
    ] = 20,
    rows: Rows = None,
    settings: evaluation.Options = None,
    seeds: evaluation.Seeds = "0",
    max_new_tokens: evaluation.MaxNewTokens = 24,
    model: options.Model = None,
    models: evaluation.Models = None,
    report: evaluation.Report = None,
    fresh: evaluation.Fresh = False,
    as_json: options.Json = False,
) -> None:
    """Adapt on labelled examples, then classify without them in the prompt; half is chance."""
    from continual_learning.datasets.transfer import transfer_dataset

    entrants = chosen_rows(rows, settings or ())
    how = evaluation.settings_from(seeds, max_new_tokens, 0, True, fresh)
    dataset = transfer_dataset(examples, questions)
    _run("transfer", dataset, entrants, how, model, models, report, as_json)


def _run(
    name: str,
    dataset: Dataset,
    entrants: list[Contender],
    how: RunSettings,
    model: str | None,
    models: str | None,
    report: list[Path] | None,
    as_json: bool,
    *summary: Any,
) -> None:
    """Learn all documents of a use case in one memory, then ask its questions."""
    from continual_learning.evaluation.protocols import benchmark_together

    evaluation.run(
        Output(as_json),
        report or (),
        model,
        models,
        lambda base, progress: benchmark_together(name, dataset, entrants, base, how, progress, *summary),
    )


def chosen_rows(names: str | None, assignments: Sequence[str]) -> list[Contender]:
    """The rows named, with options of ``--set STRATEGY.KEY=VALUE`` for the variants that take some.

    Raises ConfigError.
    """
    from continual_learning.evaluation.variants import variant_rows, with_variants

    given = {c.strategy: c.options for c in evaluation.contenders_from(",".join(with_variants()), assignments)}
    return variant_rows([n.strip() for n in names.split(",") if n.strip()] if names else None, given)
