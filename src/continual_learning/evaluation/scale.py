"""`benchmark scale`: the same questions asked of memories with one document, with ten, with a hundred.

A memory with one document has the right one opened for it: what is lost with more of them is what finding it among
others costs. Every document is in one memory of each size, so that the sizes are compared question by question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from continual_learning.datasets.base import Dataset, QADocument
from continual_learning.errors import InputError
from continual_learning.evaluation.bootstrap import paired_interval
from continual_learning.evaluation.contender import Contender
from continual_learning.evaluation.protocols import Settings, asked_of, benchmark_tasks, one_memory
from continual_learning.evaluation.summary import Done, Record, Task, summarise
from continual_learning.model.base_model import BaseModel
from continual_learning.types import ProgressCallback

SIZES = (1, 10, 100)


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

    Raises InputError if the sizes do not each divide the next, or the number of documents.
    """
    sizes = sorted(sizes)
    count = len(dataset.documents)
    if not sizes or any(large % small for small, large in zip(sizes, [*sizes[1:], count], strict=True)):
        raise InputError(
            f"sizes {', '.join(map(str, sizes)) or 'none'} for {count} documents; expected each to divide the next, "
            "and the last to divide the number of documents, such as 1,10,100"
        )
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
        "scale", dataset, strategies, model, settings, progress, tasks, lambda done: _summary(dataset, sizes, done)
    )


def _summary(dataset: Dataset, sizes: Sequence[int], done: Sequence[Done]) -> Record:
    by_size = {size: summarise([d for d in done if len(d.task.plan.documents) == size]) for size in sizes}
    largest = by_size[sizes[-1]]
    documents = {item.document.id: item for item in dataset.documents}
    order = {
        size: sorted(summary["answers"], key=lambda a: (a["document"], a["question"], a["seed"]))
        for size, summary in by_size.items()
    }
    smallest = _clusters(order[sizes[0]], documents)
    rows = []
    for size, answers in order.items():
        interval = paired_interval(_clusters(answers, documents), smallest)
        rows.append(
            {
                "documents": size,
                "recall": by_size[size]["recall"],
                "f1": by_size[size]["f1"],
                "f1_interval": by_size[size]["f1_interval"],
                "f1_change": by_size[size]["f1"] - by_size[sizes[0]]["f1"],
                "f1_change_interval": None if interval is None else list(interval),
                "opened": fmean(_opened(answer, documents) for answer in answers),
                "answer_seconds": by_size[size]["answer_seconds"],
                "refused": by_size[size]["refused"],
            }
        )
    foreign = [answer for d in done for step in d.steps[-1:] for answer in step.get("holdout", ())]
    left_alone = fmean(answer["origin"] == "model" for answer in foreign) if foreign else None
    return {
        **largest,
        "sizes": rows,
        "f1_alone": rows[0]["f1"],
        "opened": rows[-1]["opened"],
        "left_alone": left_alone,
        "others": len(foreign),
    }


def _clusters(answers: Sequence[Record], documents: dict[str, QADocument]) -> list[list[float]]:
    return [[a["f1"] for a in answers if a["document"] == document] for document in sorted(documents)]


def _opened(answer: Record, documents: dict[str, QADocument]) -> bool:
    """Whether what was read for an answer is of the right document."""
    right = documents[answer["document"]].document
    text = " ".join(right.text.split())
    return any(s["title"] == right.title and " ".join(s["quote"].split()) in text for s in answer["sources"])
