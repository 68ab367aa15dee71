"""`benchmark`: the protocols that compare strategies on many documents."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from continual_learning.cli import chat_benchmarks, evaluation, options
from continual_learning.cli.output import Output
from continual_learning.errors import InputError

if TYPE_CHECKING:
    from continual_learning.datasets.base import Dataset

SAMPLE = "squad_sample"
"""`datasets.base.SAMPLE`, which is not imported for ``--help``."""

app = options.group("Compare strategies on many documents.")
app.command("conversation")(chat_benchmarks.conversation)
app.command("repository")(chat_benchmarks.repository)
app.command("transfer")(chat_benchmarks.transfer)

Data = Annotated[
    str,
    typer.Option(
        "--data", metavar="FILE",
        help="SQuAD 1.1 or 2.0 (.json), or .jsonl with title, context and questions; squad_sample for the 50 passages "
        "that ship with the package; squad or squad_v2 for the hub's.",
    ),
]  # fmt: skip
Count = Annotated[
    int,
    typer.Option(
        "--documents", metavar="N", help="Number of documents, from different articles as far as possible.", min=1
    ),
]
Half = Annotated[
    Literal["learn", "holdout", "first", "second", "all"],
    typer.Option(
        "--split",
        help="Articles to use: tune on learn, report on holdout (drawn by the seed), or take a half in file order.",
    ),
]
DataSeed = Annotated[
    int, typer.Option("--data-seed", metavar="N", help="Seed of the split and of the sample of documents.")
]


@app.command("squad")
def squad(
    data: Data = SAMPLE,
    documents: Count = 16,
    holdout_questions: Annotated[
        int,
        typer.Option(
            "--holdout-questions", min=0, help="Questions about other articles, asked before and after learning."
        ),
    ] = 20,
    split: Half = "holdout",
    data_seed: DataSeed = 0,
    strategies: evaluation.Strategies = None,
    settings: evaluation.Options = None,
    seeds: evaluation.Seeds = "0",
    max_new_tokens: evaluation.MaxNewTokens = 24,
    retention_documents: evaluation.Retention = 4,
    model: options.Model = None,
    models: evaluation.Models = None,
    report: evaluation.Report = None,
    fresh: evaluation.Fresh = False,
    no_flops: evaluation.NoFlops = False,
    as_json: options.Json = False,
) -> None:
    """Closed-book question answering: each document learned alone, then asked about."""
    from continual_learning.datasets.base import first_questions
    from continual_learning.evaluation.protocols import benchmark_squad

    out = Output(as_json)
    chosen, others = _documents(out, data, documents, split, data_seed)
    held = first_questions(others, holdout_questions)
    entrants = evaluation.contenders_from(strategies, settings or ())
    how = evaluation.settings_from(seeds, max_new_tokens, retention_documents, no_flops, fresh)
    evaluation.run(
        out,
        report or (),
        model,
        models,
        lambda base, progress: benchmark_squad(chosen, entrants, base, held, how, progress),
    )


@app.command("stream")
def stream(
    data: Data = SAMPLE,
    documents: Count = 20,
    split: Half = "holdout",
    data_seed: DataSeed = 0,
    strategies: evaluation.Strategies = None,
    settings: evaluation.Options = None,
    seeds: evaluation.Seeds = "0",
    max_new_tokens: evaluation.MaxNewTokens = 24,
    matrix: Annotated[
        Literal["whole", "ends"],
        typer.Option(
            "--matrix",
            help="whole: all questions after each document; ends: only its own, and all at the end (quicker).",
        ),
    ] = "whole",
    model: options.Model = None,
    models: evaluation.Models = None,
    report: evaluation.Report = None,
    fresh: evaluation.Fresh = False,
    no_flops: evaluation.NoFlops = False,
    as_json: options.Json = False,
) -> None:
    """Documents one after another in one memory; after each, the questions of all."""
    from continual_learning.evaluation.protocols import benchmark_stream

    out = Output(as_json)
    chosen, _ = _documents(out, data, documents, split, data_seed)
    entrants = evaluation.contenders_from(strategies, settings or ())
    how = replace(evaluation.settings_from(seeds, max_new_tokens, 0, no_flops, fresh), matrix=matrix)
    evaluation.run(
        out,
        report or (),
        model,
        models,
        lambda base, progress: benchmark_stream(chosen, entrants, base, how, progress),
    )


@app.command("scale")
def scale(
    data: Data = SAMPLE,
    sizes: Annotated[
        str,
        typer.Option(
            "--sizes",
            metavar="N,N,…",
            help="Documents in a memory, each size a multiple of the one before.",
        ),
    ] = "1,4,20",
    questions: Annotated[
        int, typer.Option("--questions", metavar="N", min=1, help="Questions about each document, at most.")
    ] = 1,
    others: Annotated[
        int,
        typer.Option("--others", metavar="N", min=0, help="Questions about other articles, to be left to the base."),
    ] = 40,
    split: Half = "first",
    data_seed: DataSeed = 0,
    strategies: evaluation.Strategies = None,
    settings: evaluation.Options = None,
    seeds: evaluation.Seeds = "0",
    max_new_tokens: evaluation.MaxNewTokens = 24,
    model: options.Model = None,
    models: evaluation.Models = None,
    report: evaluation.Report = None,
    fresh: evaluation.Fresh = False,
    as_json: options.Json = False,
) -> None:
    """The same questions in memories of several sizes: what does finding the right document among more cost?"""
    from continual_learning.evaluation.scale import benchmark_scale, scale_data

    out = Output(as_json)
    counts = evaluation.whole_numbers("--sizes", sizes, "1,4,20")
    chosen, foreign = scale_data(_loaded(out, data), counts, questions, others, split, data_seed)
    if foreign is None and others:
        out.note(f"--others {others}: the data have no other articles to ask about")
    entrants = evaluation.contenders_from(strategies, settings or ())
    how = evaluation.settings_from(seeds, max_new_tokens, 0, True, fresh)
    evaluation.run(
        out,
        report or (),
        model,
        models,
        lambda base, progress: benchmark_scale(chosen, entrants, base, counts, foreign, how, progress),
    )


@app.command("forgetting")
def forgetting(
    data: Data = SAMPLE,
    documents: Count = 8,
    split: Half = "holdout",
    data_seed: DataSeed = 0,
    strategies: evaluation.Strategies = None,
    settings: evaluation.Options = None,
    seeds: evaluation.Seeds = "0",
    max_new_tokens: evaluation.MaxNewTokens = 24,
    model: options.Model = None,
    models: evaluation.Models = None,
    report: evaluation.Report = None,
    fresh: evaluation.Fresh = False,
    no_flops: evaluation.NoFlops = False,
    as_json: options.Json = False,
) -> None:
    """General questions and unrelated text before and after learning."""
    from continual_learning.evaluation.protocols import benchmark_forgetting

    out = Output(as_json)
    chosen, _ = _documents(out, data, documents, split, data_seed)
    entrants = evaluation.contenders_from(strategies, settings or ())
    how = evaluation.settings_from(seeds, max_new_tokens, 0, no_flops, fresh)
    evaluation.run(
        out,
        report or (),
        model,
        models,
        lambda base, progress: benchmark_forgetting(chosen, entrants, base, how, progress),
    )


@app.command("everyday")
def everyday(
    half: Annotated[
        Literal["tuning", "report"],
        typer.Option("--half", help="Ten of the documents: tune on one half, report on the other."),
    ] = "report",
    strategies: evaluation.Strategies = None,
    settings: evaluation.Options = None,
    seeds: evaluation.Seeds = "0",
    max_new_tokens: evaluation.MaxNewTokens = 64,
    model: options.Model = None,
    models: evaluation.Models = None,
    report: evaluation.Report = None,
    fresh: evaluation.Fresh = False,
    as_json: options.Json = False,
) -> None:
    """Notes, a recipe, a contract, a timetable and the like: facts, lists, counts, summaries, what is not said."""
    from continual_learning.evaluation.everyday import benchmark_everyday

    entrants = evaluation.contenders_from(strategies, settings or ())
    how = evaluation.settings_from(seeds, max_new_tokens, 0, True, fresh)
    evaluation.run(
        Output(as_json),
        report or (),
        model,
        models,
        lambda base, progress: benchmark_everyday(entrants, base, half, how, progress),
    )


@app.command("needle")
def needle(
    tokens: Annotated[
        str, typer.Option("--tokens", metavar="N,N,…", help="Lengths of the documents, in tokens.")
    ] = "250,500,1000",
    documents: Annotated[
        int, typer.Option("--documents", metavar="N", min=1, help="Number of documents of each length.")
    ] = 5,
    strategies: evaluation.Strategies = None,
    rows: Annotated[
        str | None,
        typer.Option(
            "--rows",
            metavar="A,B,…",
            help="Rows of `benchmark conversation` to run instead of strategies: one,several.",
        ),
    ] = None,
    settings: evaluation.Options = None,
    seeds: evaluation.Seeds = "0",
    max_new_tokens: evaluation.MaxNewTokens = 24,
    model: options.Model = None,
    models: evaluation.Models = None,
    report: evaluation.Report = None,
    fresh: evaluation.Fresh = False,
    no_flops: evaluation.NoFlops = False,
    as_json: options.Json = False,
) -> None:
    """A made-up fact hidden in texts of several lengths."""
    from continual_learning.evaluation.protocols import benchmark_needle

    lengths = evaluation.whole_numbers("--tokens", tokens, "250,500")
    if rows is not None and strategies is not None:
        raise InputError(f"--rows {rows!r} with --strategies {strategies!r}; expected one of the two")
    out = Output(as_json)
    if rows is None:
        entrants = evaluation.contenders_from(strategies, settings or ())
    else:
        entrants = chat_benchmarks.chosen_rows(rows, settings or ())
    how = evaluation.settings_from(seeds, max_new_tokens, 0, no_flops, fresh)
    evaluation.run(
        out,
        report or (),
        model,
        models,
        lambda base, progress: benchmark_needle(entrants, base, lengths, documents, how, progress),
    )


def _documents(out: Output, data: str, count: int, split: str, seed: int) -> tuple[Dataset, Dataset]:
    """The documents to learn, one per article, and the articles that none of them comes from."""
    from continual_learning.datasets.base import choose_documents

    return choose_documents(_loaded(out, data), count, split, seed)


def _loaded(out: Output, data: str) -> Dataset:
    from continual_learning.datasets.base import load_dataset

    dataset = load_dataset(data)
    for text in dataset.notes:
        out.note(text)
    return dataset
