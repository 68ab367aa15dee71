"""`learn`: documents into a memory."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, confirmed, percent, plain, progress_bar, size
from continual_learning.errors import (
    ContinualLearningError,
    DocumentError,
    InputError,
    LearningError,
    MissingExtraError,
)
from continual_learning.text.words import several

if TYPE_CHECKING:
    from continual_learning.app.learner import Learner
    from continual_learning.app.learning_estimate import LearningEstimate
    from continual_learning.cli.session import Choice
    from continual_learning.documents import Document, Limits, Skipped
    from continual_learning.types import LearnReport, QuestionAnswer

# As documents.formats.KINDS, which --help cannot wait for.
KINDS = (
    ".txt, .md, .html, .pdf, .docx, .odt, .rtf, .epub, .eml, .csv, .tsv, .json, .jsonl, .ipynb "
    "or source code such as .py"
)
_QUICK_SECONDS = 60.0
"""Learning that takes no longer begins without being announced."""
Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help=f"Files ({KINDS}), folders, URLs, sitemaps, or - for standard input.",
    ),
]
Title = Annotated[str | None, typer.Option("--title", help="Title of the document; only for a single document.")]
QA = Annotated[
    Path | None,
    typer.Option(
        "--qa", metavar="FILE", help="Questions with answers about a single document (.jsonl, .json, .csv, .tsv)."
    ),
]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Learn nothing: show what each strategy would cost, and what auto chooses.")
]


def learn(
    paths: Paths,
    strategy: options.Strategy = None,
    memory: options.Memory = None,
    title: Title = None,
    model: options.Model = None,
    settings: options.Set = None,
    qa: QA = None,
    allow_private: options.AllowPrivate = False,
    dry_run: DryRun = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Learn documents. Exit code 1 if none was accepted.

    Learning that is expected to take over a minute says first how long, and asks; --yes answers.
    """
    from continual_learning.cli import costs
    from continual_learning.cli.session import choose, open_learner
    from continual_learning.documents.qa_files import load_qa

    out = Output(as_json)
    started = time.perf_counter()
    documents, skipped = _read(paths, title, options.limits(allow_private))
    if qa is not None and len(documents) != 1:
        raise InputError(f"--qa {qa}: its questions fit one document, and there are {len(documents)}; learn it alone")
    choice = choose(memory, strategy, model, settings or (), must_exist=False)
    questions = load_qa(qa) if qa is not None else None
    for item in skipped:
        out.note(f"skipped {item.source}: {item.reason}")
    if dry_run:
        costs.dry_run(out, choice, documents)
        return
    learner = open_learner(choice)
    chosen = learner.choose(documents)
    choice = replace(choice, strategy=learner.strategy.name)
    expected = learner.estimate(documents)
    if not _agreed(out, expected, yes):
        out.line("nothing was learned")
        raise typer.Exit(1)
    reports = _learn_all(out, learner, documents, questions)
    auto = {"auto": {"reason": chosen.reason, "strategies": costs.rows(chosen.considered)}} if chosen else {}
    _show(out, choice, documents, reports, skipped, expected, time.perf_counter() - started, auto)
    if not any(report.accepted for report in reports):
        raise typer.Exit(1)


def _read(paths: Sequence[str], title: str | None, limits: Limits) -> tuple[list[Document], list[Skipped]]:
    """Read the documents of all paths, before anything is learned.

    A path that does not exist stops everything, as it is probably a typing error. Of several that exist, one that
    cannot be read is skipped.
    """
    from continual_learning.documents import (
        STDIN,
        Document,
        Skipped,
        is_url,
        read_documents,
        without_repeats,
        without_secret,
    )

    documents: list[Document] = []
    skipped: list[Skipped] = []
    errors: list[ContinualLearningError] = []
    for path in paths:
        try:
            with progress_bar("reading") as progress:
                found, passed_over = read_documents(path, limits=limits, progress=progress)
        except (DocumentError, MissingExtraError) as error:
            if len(paths) == 1 or not (path == STDIN or is_url(path) or os.path.exists(os.path.expanduser(path))):
                raise
            errors.append(error)
            name = without_secret(path)
            skipped.append(Skipped(name, str(error).removeprefix(f"{name}: ")))
            continue
        documents += found
        skipped += passed_over
    if not documents and errors:
        raise errors[0]
    documents, repeats = without_repeats(documents)
    skipped += repeats
    if title is not None:
        if len(documents) != 1:
            raise InputError(f"--title {title!r}: fits one document, and there are {len(documents)}; leave it out")
        documents = [Document(documents[0].text, " ".join(title.split()), documents[0].source)]
    return documents, skipped


def _agreed(out: Output, expected: LearningEstimate, yes: bool) -> bool:
    """Whether to learn: asked, unless it is quick or --yes was given. Raises InputError where nobody can be asked."""
    if expected.seconds <= _QUICK_SECONDS:
        return True
    words = in_words(expected)
    if yes:
        out.note(words)
        return True
    if out.as_json or not sys.stdin.isatty():
        raise InputError(f"{words}; add --yes to learn, or give less")
    return confirmed(f"{words}; learn now?")


def in_words(expected: LearningEstimate) -> str:
    """Say what will be learned, how long it takes and how large it is."""
    from continual_learning.app.estimate import duration

    what = several(expected.tokens, "token")
    if expected.documents > 1:
        what += f" of {expected.documents} documents"
    if expected.passages:
        what += f" in {several(expected.passages, 'passage')}"
    if expected.passages_kept:
        what += f", {expected.passages_kept} of them done before an interruption,"
    return f"learning {what} takes about {duration(expected.seconds)} and {size(expected.bytes)}"


def _learn_all(
    out: Output, learner: Learner, documents: list[Document], questions: list[QuestionAnswer] | None
) -> list[LearnReport]:
    reports: list[LearnReport] = []
    many = len(documents) > 1
    size = learner.documents_together if many else 1
    for first in range(0, len(documents), size):
        group = documents[first : first + size]
        try:
            found = _learn_group(learner, group, questions, _label(documents, first, len(group)))
        except (KeyboardInterrupt, ContinualLearningError) as error:
            kept = sum(r.accepted for r in reports)
            if not kept:
                raise
            known = f"{kept} of {len(documents)} documents were learned before that and are kept"
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(f"{known}; {error}" if str(error) else known) from None
            raise type(error)(f"{error}; {known}") from error
        reports += found
        for document, report in zip(group, found, strict=True):
            name = document.title or document.source
            if many or not report.accepted:
                out.line(f"{'learned' if report.accepted else 'refused'}  {name}: {report.reason}")
            for warning in report.warnings:
                out.note(f"warning: {name}: {warning}")
    return reports


def _label(documents: list[Document], first: int, count: int) -> str:
    name = documents[first].title or documents[first].source
    if len(documents) == 1:
        return name
    which = f"{first + 1}" if count == 1 else f"{first + 1}-{first + count}"
    return f"{which}/{len(documents)} {name}" + (f" and {count - 1} more" if count > 1 else "")


def _learn_group(
    learner: Learner, documents: list[Document], questions: list[QuestionAnswer] | None, label: str
) -> list[LearnReport]:
    from continual_learning.types import LearnReport

    started = time.perf_counter()
    try:
        with progress_bar(label) as progress:
            if len(documents) > 1:
                return learner.learn(documents, progress=progress)
            return [learner.learn(documents[0], qa=questions, progress=progress)]
    except LearningError as error:  # this document cannot be learned; the next one may
        if len(documents) > 1:  # learning each by itself shows which one it was
            return [r for one in documents for r in _learn_group(learner, [one], questions, one.title or one.source)]
        seconds = time.perf_counter() - started
        return [LearnReport(False, str(error), documents[0].id, documents[0].title, 0, seconds, 0)]


def _show(
    out: Output,
    choice: Choice,
    documents: list[Document],
    reports: list[LearnReport],
    skipped: list[Skipped],
    expected: LearningEstimate,
    seconds: float,
    more: Mapping[str, Any],
) -> None:
    accepted = sum(r.accepted for r in reports)
    out.result(
        {
            **choice.names,
            "documents": [{**plain(r), "source": d.source} for d, r in zip(documents, reports, strict=True)],
            "skipped": plain(skipped),
            "accepted": accepted,
            "refused": len(reports) - accepted,
            "seconds": seconds,
            "estimate": plain(expected),
            **more,
        }
    )
    if out.as_json:
        return
    rows = [
        (
            report.title or document.source,
            "yes" if report.accepted else "no",
            report.tokens,
            percent(report.recall_before),
            percent(report.recall_after),
            percent(report.general_kept),
            None if report.perplexity_change is None else f"{report.perplexity_change:+.1%}",
            size(report.bytes),
            f"{report.seconds:.1f}",
        )
        for document, report in zip(documents, reports, strict=True)
    ]
    columns = ("document", "learned", "tokens", "recall before", "after", "kept", "perplexity", "size", "seconds")
    out.table(columns, rows)
    left_out = sum(report.tokens_left_out for report in reports)
    if left_out:
        out.note(f"{left_out} tokens were left out: they are beyond the limit for a document")
    learned = f"{accepted} of {several(len(reports), 'document')} learned"
    out.line(f"memory {choice.memory!r} ({choice.strategy}, {choice.model}): {learned}")
