"""`compare`: which way of learning answers these questions best, and what each costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from continual_learning.cli import evaluation, options
from continual_learning.cli.output import Output
from continual_learning.errors import InputError

Documents = Annotated[
    Path,
    typer.Argument(metavar="DOCUMENT", help="A document, a folder of documents, or a SQuAD file with its questions."),
]
QA = Annotated[
    Path | None,
    typer.Option("--qa", metavar="FILE", help="Questions with their answers (.jsonl, .json, .csv, .tsv)."),
]
Each = Annotated[bool, typer.Option("--each", help="Use a separate memory for each document instead of one for all.")]


def compare(
    document: Documents,
    qa: QA = None,
    strategies: evaluation.Strategies = None,
    settings: evaluation.Options = None,
    each: Each = False,
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
    """Learn the same documents with every strategy, ask the same questions, and compare."""
    from continual_learning.datasets.base import load_dataset, user_dataset
    from continual_learning.evaluation.protocols import compare as run_compare

    out = Output(as_json)
    dataset = user_dataset(document, qa) if qa is not None else load_dataset(document)
    if each and dataset.shared_questions:
        raise InputError(
            f"--each: {len(dataset.shared_questions)} questions of {qa} name no document; "
            "expected a field 'document' in each, or leave --each out"
        )
    chosen = evaluation.contenders_from(strategies, settings or ())
    how = evaluation.settings_from(seeds, max_new_tokens, retention_documents, no_flops, fresh)
    for text in dataset.notes:
        out.note(text)
    evaluation.run(
        out,
        report or (),
        model,
        models,
        lambda base, progress: run_compare(dataset, chosen, base, each, how, progress),
    )
