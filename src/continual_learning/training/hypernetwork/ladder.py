"""How much is internalised: one fact, eight, thirty-two, a passage; and is anything else disturbed?

Every document is learned alone and is in no prompt. Facts are of the test split, whose words no training has seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from continual_learning.answering import plain_answers
from continual_learning.background import general_questions
from continual_learning.base import BaseModel
from continual_learning.doc2lora.adapter import installed
from continual_learning.doc2lora.generators import DocumentGenerator
from continual_learning.doc2lora.network import DocumentHypernetwork
from continual_learning.evaluation.datasets import halves, load_dataset
from continual_learning.training.hypernetwork.data import Example, facts, passages
from continual_learning.training.hypernetwork.probe import context_sensitivity

RungCallback = Callable[[str], None]


def ladder(
    base: BaseModel,
    network: DocumentHypernetwork,
    documents: int = 8,
    data: str | None = None,
    sizes: Sequence[int] = (1, 8, 32),
    on_rung: RungCallback | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row for each rung, as plain JSON: recall and negative log-likelihood of `context_sensitivity`.

    ``data`` is a file in SQuAD's form, of whose second half of articles ``documents`` passages are read. The last row
    counts the general questions whose answer an irrelevant document changes.
    """
    rows: list[dict[str, Any]] = []
    sets = [(f"{size} facts" if size > 1 else "1 fact", facts("test", documents, size, seed), size) for size in sizes]
    if data is not None:
        found = passages(halves(load_dataset(data))[1], documents, seed)
        sets.append(("passage", found, max(len(e.questions) for e in found)))
    for name, examples, most in sets:
        if on_rung:
            on_rung(name)
        started = time.perf_counter()
        measured = context_sensitivity(base, network, examples, recall=True, in_prompt=True, max_questions=most)
        rows.append({"rung": name, **measured.to_json(), "seconds": time.perf_counter() - started})
    if on_rung:
        on_rung("irrelevant document")
    rows.append({"rung": "irrelevant document", **interference(base, network, facts("test", 1, 8, seed)[0])})
    return rows


def interference(base: BaseModel, network: DocumentHypernetwork, example: Example) -> dict[str, Any]:
    """The share of general questions whose answer a document that is about none of them changes."""
    questions = [q.question for q in general_questions()]
    before = plain_answers(base, questions, 24)
    started = time.perf_counter()
    adapter = DocumentGenerator(base, network).internalise(base, example.text).adapter
    internalise_seconds = time.perf_counter() - started
    with installed(base, adapter):
        after = plain_answers(base, questions, 24)
    changed = sum(a.text != b.text for a, b in zip(after, before, strict=True))
    return {"general_changed": changed / len(questions), "internalise_seconds": internalise_seconds}
