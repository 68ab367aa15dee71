"""The protocols: which strategy learns what, in which order, and what is asked when.

Every function returns plain JSON values, which `evaluation.report` turns into HTML, Markdown or CSV.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from continual_learning.app.estimate import Estimate
from continual_learning.datasets.base import Dataset
from continual_learning.datasets.needle import needle_dataset
from continual_learning.documents.shipped import general_questions, unrelated_texts
from continual_learning.errors import InputError
from continual_learning.evaluation.cache import ResultCache
from continual_learning.evaluation.contender import Contender, contenders
from continual_learning.evaluation.machine import machine_facts
from continual_learning.evaluation.sequence import LearningSequence, SequenceRunner
from continual_learning.evaluation.session import run_tasks
from continual_learning.evaluation.summary import Asked, Done, Task, summarise, summarise_stream
from continual_learning.model.base_model import BaseModel
from continual_learning.model.quantised import parameter_count
from continual_learning.strategies.gate import base_perplexity
from continual_learning.types import ProgressCallback

FORMAT = 1
MatrixPart = Literal["whole", "ends"]


@dataclass(frozen=True)
class Settings:
    """What all protocols have in common."""

    max_new_tokens: int = 24
    """Maximum tokens per answer."""
    seeds: tuple[int, ...] = (0,)
    """One run per seed. Strategies that sample at random get the seed, and all but seed 0 shuffle the documents."""
    retention_documents: int = 4
    """If each document is learned by itself: measure retention after every this many documents."""
    count_flops: bool = True
    """Learn one extra document per strategy to count its operations."""
    resume: bool = True
    """Reuse results of earlier runs if nothing they depend on has changed."""
    matrix: MatrixPart = "whole"
    """Which part of R is measured in a stream. whole: all questions after every document. ends: a document's own
    questions right after it, and all questions before the first and after the last document, which gives final
    recall, BWT and plasticity for a tenth of the work."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens = {self.max_new_tokens}; expected at least 1")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"seeds = {list(self.seeds)}; expected at least one, each once")
        if self.matrix not in get_args(MatrixPart):
            raise InputError(f"matrix = {self.matrix!r}; expected one of {', '.join(get_args(MatrixPart))}")
        if self.retention_documents < 0:
            raise InputError(f"retention_documents = {self.retention_documents}; expected 0 or more")


def compare(
    dataset: Dataset,
    strategies: Sequence[str | Contender],
    model: str | BaseModel = "smollm2-135m",
    each: bool = False,
    settings: Settings | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """The same documents and questions for every strategy, each from a clean base.

    All documents go into one memory, which is then asked all questions; with ``each``, every document has a
    memory of its own. Raises InputError for a data set without questions, UnknownNameError and ConfigError.
    """
    return benchmark_tasks(
        "compare", dataset, strategies, model, settings, progress, _each if each else _together, summarise
    )


def benchmark_squad(
    dataset: Dataset,
    strategies: Sequence[str | Contender],
    model: str | BaseModel = "smollm2-135m",
    holdout: Dataset | None = None,
    settings: Settings | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Closed-book question answering: every document is learned alone, then questions are asked without the document.

    Questions of ``holdout``, about articles that are never learned, are asked before and after.
    """

    def tasks(contender: Contender, seed: int, given: Settings) -> list[Task]:
        return _each(dataset, contender, seed, given, asked_of(holdout) if holdout else ())

    return benchmark_tasks("squad", dataset, strategies, model, settings, progress, _ignoring(tasks), summarise)


def benchmark_stream(
    dataset: Dataset,
    strategies: Sequence[str | Contender],
    model: str | BaseModel = "smollm2-135m",
    settings: Settings | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Documents in sequence in one memory; after each of them, the questions of all of them by free generation.

    With ``settings.matrix`` "ends", only those about the new document until the last one was learned.
    """
    lonely = [d.document.title or d.document.source for d in dataset.documents if not d.questions]
    if lonely:
        raise InputError(f"{lonely[0]!r} has no question of its own; expected at least one for each document")
    return benchmark_tasks("stream", dataset, strategies, model, settings, progress, _stream, summarise_stream)


def benchmark_forgetting(
    dataset: Dataset,
    strategies: Sequence[str | Contender],
    model: str | BaseModel = "smollm2-135m",
    settings: Settings | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """The effect of learning all documents on general questions and on the perplexity of unrelated text.

    ``holdout_before`` and ``holdout_after`` are the shares of the general questions that are answered right,
    ``perplexity_before`` and ``perplexity_after`` the perplexities.
    """
    base = model if isinstance(model, BaseModel) else BaseModel.load(model)
    known = tuple(Asked(q) for q in general_questions())

    def with_perplexities(done: Sequence[Done]) -> dict[str, Any]:
        summary = summarise(done)
        before = base_perplexity(base, unrelated_texts())
        change = summary["perplexity_change"]
        after = None if change is None else before * (1.0 + change)
        return {**summary, "perplexity_before": before, "perplexity_after": after}

    def tasks(contender: Contender, seed: int, given: Settings) -> list[Task]:
        return [one_memory(dataset, contender, seed, given, holdout=known)]

    return benchmark_tasks(
        "forgetting", dataset, strategies, base, settings, progress, _ignoring(tasks), with_perplexities
    )


def benchmark_together(
    protocol: str,
    dataset: Dataset,
    strategies: Sequence[str | Contender],
    model: str | BaseModel = "smollm2-135m",
    settings: Settings | None = None,
    progress: ProgressCallback | None = None,
    summary_of: Callable[[Sequence[Done]], dict[str, Any]] = summarise,
) -> dict[str, Any]:
    """Learn all documents in order into one memory, then ask all questions, under the name ``protocol``."""
    return benchmark_tasks(protocol, dataset, strategies, model, settings, progress, _together, summary_of)


def benchmark_each(
    protocol: str,
    dataset: Dataset,
    strategies: Sequence[str | Contender],
    model: str | BaseModel = "smollm2-135m",
    settings: Settings | None = None,
    progress: ProgressCallback | None = None,
    summary_of: Callable[[Sequence[Done]], dict[str, Any]] = summarise,
) -> dict[str, Any]:
    """Learn every document in a memory of its own, then ask its questions, under the name ``protocol``."""
    return benchmark_tasks(protocol, dataset, strategies, model, settings, progress, _each, summary_of)


def benchmark_needle(
    strategies: Sequence[str | Contender],
    model: str | BaseModel = "smollm2-135m",
    tokens: Sequence[int] = (250, 500, 1000),
    count: int = 5,
    settings: Settings | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """A made-up fact hidden in ordinary text of several lengths, learned alone and asked for.

    ``tokens`` are the lengths, ``count`` documents each.
    """
    base = model if isinstance(model, BaseModel) else BaseModel.load(model)
    # One seed for all lengths, so that the same facts are asked for at each.
    parts = [needle_dataset(count, n, 0, lambda text: len(base.encode(text))) for n in tokens]
    documents = tuple(d for part in parts for d in part.documents)
    dataset = Dataset("needle", "generated", documents)
    places = {d.document.id: (n, d.depth) for n, part in zip(tokens, parts, strict=True) for d in part.documents}

    def with_places(done: Sequence[Done]) -> dict[str, Any]:
        summary = summarise(done)
        cells: dict[tuple[int, float], list[bool]] = {}
        for answer in summary["answers"]:
            length, depth = places[answer["document"]]
            cells.setdefault((length, depth or 0.0), []).append(answer["right"])
        summary["needles"] = [
            {"tokens": length, "depth": depth, "recall": sum(right) / len(right), "questions": len(right)}
            for (length, depth), right in sorted(cells.items())
        ]
        return summary

    return benchmark_tasks("needle", dataset, strategies, base, settings, progress, _each, with_places)


# -- who learns what -----------------------------------------------------------------------------------

Tasks = Callable[[Dataset, Contender, int, Settings], list[Task]]


def _ignoring(tasks: Callable[[Contender, int, Settings], list[Task]]) -> Tasks:
    return lambda _dataset, contender, seed, settings: tasks(contender, seed, settings)


def asked_of(dataset: Dataset) -> tuple[Asked, ...]:
    """All questions of a data set, with the documents that they are about."""
    own = [Asked(q, d.document.id, d.document.title) for d in dataset.documents for q in d.questions]
    return (*own, *(Asked(q) for q in dataset.shared_questions))


def _each(
    dataset: Dataset, contender: Contender, seed: int, settings: Settings, holdout: tuple[Asked, ...] = ()
) -> list[Task]:
    """One sequence per document. Retention is measured after some of them, evenly spread."""
    count = len(dataset.documents)
    wanted = min(count, settings.retention_documents)
    chosen = {round(i * count / wanted) for i in range(wanted)}
    tasks = []
    for number, document in enumerate(dataset.documents):
        asked = tuple(Asked(q, document.document.id, document.document.title) for q in document.questions)
        plan = LearningSequence(
            contender,
            seed,
            (document.document,),
            tuple(a.question.question for a in asked),
            ask_after=frozenset({1}),
            retention_after=frozenset({1} if number in chosen else ()),
            holdout=tuple(a.question.question for a in holdout) if number in chosen else (),
            max_new_tokens=settings.max_new_tokens,
            count_flops=settings.count_flops and number == 0 and seed == settings.seeds[0],
        )
        tasks.append(Task(plan, asked, holdout if plan.holdout else ()))
    return tasks


def _together(dataset: Dataset, contender: Contender, seed: int, settings: Settings) -> list[Task]:
    return [one_memory(dataset, contender, seed, settings)]


def _stream(dataset: Dataset, contender: Contender, seed: int, settings: Settings) -> list[Task]:
    return [one_memory(dataset, contender, seed, settings, after_each=settings.matrix)]


def one_memory(
    dataset: Dataset,
    contender: Contender,
    seed: int,
    settings: Settings,
    after_each: MatrixPart | None = None,
    holdout: tuple[Asked, ...] = (),
) -> Task:
    """All documents in one memory, in the order of the data set for seed 0 and in a random order for any other seed.

    ``after_each``: what is asked after each document; none: nothing until the last.
    """
    documents = list(dataset.documents)
    if seed:
        random.Random(seed).shuffle(documents)
    asked = asked_of(Dataset(dataset.name, dataset.source, tuple(documents), shared_questions=dataset.shared_questions))
    last = len(documents)
    rows = {None: {last}, "ends": {0, last}, "whole": set(range(last + 1))}[after_each]
    own = [tuple(i for i, a in enumerate(asked) if a.document == d.document.id) for d in documents]
    plan = LearningSequence(
        contender,
        seed,
        tuple(d.document for d in documents),
        tuple(a.question.question for a in asked),
        ask_after=frozenset(rows),
        ask_own=tuple(own) if after_each == "ends" else (),
        retention_after=frozenset((last,)),
        holdout=tuple(a.question.question for a in holdout),
        max_new_tokens=settings.max_new_tokens,
        count_flops=settings.count_flops and seed == settings.seeds[0],
    )
    return Task(plan, asked, holdout)


# -- running -------------------------------------------------------------------------------------------


def benchmark_tasks(
    protocol: str,
    dataset: Dataset,
    strategies: Sequence[str | Contender],
    model: str | BaseModel,
    settings: Settings | None,
    progress: ProgressCallback | None,
    tasks_of: Tasks,
    summary_of: Callable[[Sequence[Done]], dict[str, Any]],
) -> dict[str, Any]:
    """Run the tasks of each strategy and seed, and sum up those of each strategy, under the name ``protocol``."""
    settings = settings or Settings()
    entrants = contenders(strategies)
    if not dataset.questions:
        raise InputError(f"{dataset.source or dataset.name}: holds no question; expected at least one")
    started, started_at = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    base = model if isinstance(model, BaseModel) else BaseModel.load(model)
    machine = machine_facts(base)
    cache = ResultCache.default() if settings.resume else ResultCache(None)
    tasks = [t for entrant in entrants for seed in settings.seeds for t in tasks_of(dataset, entrant, seed, settings)]
    estimate = Estimate(machine["matmul_gflops"], parameter_count(base.model))
    done, failed = run_tasks(SequenceRunner(base, cache), tasks, estimate, progress)
    rows = {i: [d for d in done if d.task.plan.contender == entrant] for i, entrant in enumerate(entrants)}
    results = [summary_of(row) for row in rows.values() if row]
    return {
        "format": FORMAT,
        "protocol": protocol,
        "command": "",
        "started_at": started_at,
        "seconds": time.perf_counter() - started,
        "machine": machine,
        "model": {"name": base.name, "fingerprint": base.fingerprint, "parameters": parameter_count(base.model)},
        "dataset": _dataset_facts(dataset, base),
        "settings": {
            "max_new_tokens": settings.max_new_tokens,
            "seeds": list(settings.seeds),
            **({"matrix": settings.matrix} if protocol == "stream" else {}),
            "general_questions": len(general_questions()),
            "unrelated_texts": len(unrelated_texts()),
        },
        "results": results,
        "notes": [f"{contender.name} was not run: {error}" for contender, error in failed],
    }


def _dataset_facts(dataset: Dataset, base: BaseModel) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "source": dataset.source,
        "sha256": dataset.sha256(),
        "documents": len(dataset.documents),
        "questions": len(dataset.questions),
        "tokens": sum(len(base.encode(d.document.text)) for d in dataset.documents),
        "split": dataset.split,
        "seed": dataset.seed,
    }
