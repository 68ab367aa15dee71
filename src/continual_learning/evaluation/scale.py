"""`benchmark scale`: the same questions asked of memories of several sizes, such as 1, 10 and 100 documents.

In a memory with one document that is the right one: what is lost with more of them is what finding it among others
costs. Every document is in one memory of each size, so that the sizes are compared question by question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean
from typing import Any

from continual_learning.datasets.base import Dataset, choose_documents, first_questions
from continual_learning.errors import InputError
from continual_learning.evaluation.bootstrap import paired_interval
from continual_learning.evaluation.contender import Contender
from continual_learning.evaluation.protocols import Settings, asked_of, benchmark_tasks, one_memory
from continual_learning.evaluation.summary import Done, Record, Task, summarise
from continual_learning.model.base_model import BaseModel
from continual_learning.types import ProgressCallback

SIZES = (1, 4, 20)


def scale_data(
    dataset: Dataset, sizes: Sequence[int], questions: int, others: int, split: str, seed: int
) -> tuple[Dataset, Dataset | None]:
    """As many documents as the largest size with some questions each, and questions about other articles.

    ``split`` and ``seed`` as in `choose_documents`. Raises InputError as `benchmark_scale` does.
    """
    _check(sizes)
    chosen, rest = choose_documents(dataset, sizes[-1], split, seed)
    documents = tuple(replace(d, questions=d.questions[:questions]) for d in chosen.documents)
    return replace(chosen, documents=documents), first_questions(rest, others)


def benchmark_scale(
    dataset: Dataset,
    strategies: Sequence[str | Contender],
    model: str | BaseModel = "smollm2-135m",
    sizes: Sequence[int] = SIZES,
    others: Dataset | None = None,
    settings: Settings | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Ask all questions of memories of each size; those of ``others``, about nothing learned, of the largest.

    Rows are those of the largest memory, and ``sizes``: for each of them ``f1`` and ``recall`` of the one answer,
    ``f1_change`` against the smallest with its paired ``f1_change_interval``, and ``opened``, the share of the
    questions for which a passage of the right document was read. ``f1_alone`` is that of the smallest, ``opened`` that
    of the largest; ``left_alone`` is the share of the others' questions that the base answered by itself.

    Raises InputError if the sizes do not grow, each dividing the next and the last the number of documents.
    """
    _check(sizes)
    count = len(dataset.documents)
    if count % sizes[-1]:
        raise InputError(f"{count} documents for memories of {sizes[-1]}; expected a multiple of it")
    foreign = asked_of(others) if others else ()

    def tasks(whole: Dataset, contender: Contender, seed: int, given: Settings) -> list[Task]:
        found = []
        for size in sizes:
            for first in range(0, count, size):
                part = replace(whole, documents=whole.documents[first : first + size], shared_questions=())
                largest = size == sizes[-1]
                task = one_memory(part, contender, seed, given, holdout=foreign if largest else ())
                found.append(task if largest else replace(task, plan=replace(task.plan, retention_after=frozenset())))
        return found

    settings = replace(settings or Settings(), count_flops=False)
    return benchmark_tasks(
        "scale",
        dataset,
        strategies,
        model,
        settings,
        progress,
        tasks,
        lambda done: _summary(dataset, sizes, len(foreign), done),
    )


def _check(sizes: Sequence[int]) -> None:
    pairs = list(pairwise(sizes))
    if not sizes or sizes[0] < 1 or any(large <= small or large % small for small, large in pairs):
        raise InputError(
            f"sizes {', '.join(map(str, sizes)) or '(none)'}; expected numbers of documents, each a multiple of "
            f"the one before, such as {','.join(map(str, SIZES))}"
        )


def _summary(dataset: Dataset, sizes: Sequence[int], others: int, done: Sequence[Done]) -> Record:
    by_size = {size: summarise([d for d in done if len(d.task.plan.documents) == size]) for size in sizes}
    documents = [item.document.id for item in dataset.documents if item.questions]
    smallest = _f1_by_document(by_size[sizes[0]]["answers"], documents)
    rows = []
    for size, summary in by_size.items():
        interval = paired_interval(_f1_by_document(summary["answers"], documents), smallest)
        rows.append(
            {
                "documents": size,
                "recall": summary["recall"],
                "f1": summary["f1"],
                "f1_interval": summary["f1_interval"],
                "f1_change": summary["f1"] - by_size[sizes[0]]["f1"],
                "f1_change_interval": None if interval is None else list(interval),
                "opened": fmean(_opened(answer) for answer in summary["answers"]),
                "answer_seconds": summary["answer_seconds"],
                "refused": summary["refused"],
            }
        )
    foreign = [answer for d in done for answer in d.steps[-1].get("holdout", ())]
    return {
        **by_size[sizes[-1]],
        "sizes": rows,
        "f1_alone": rows[0]["f1"],
        "opened": rows[-1]["opened"],
        "left_alone": fmean(answer["origin"] == "model" for answer in foreign) if foreign else None,
        "others": others,
    }


def _f1_by_document(answers: Sequence[Record], documents: Sequence[str]) -> list[list[float]]:
    """Of all seeds, in an order that is the same for every size."""
    ordered = sorted(answers, key=lambda a: (a["seed"], a["question"]))
    return [[a["f1"] for a in ordered if a["document"] == document] for document in documents]


def _opened(answer: Record) -> bool:
    """Whether something of the right document was read."""
    return any(source["document"] == answer["document"] for source in answer["sources"])
