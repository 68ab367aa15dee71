"""How much is internalised: one fact, eight, thirty-two, a passage; and is anything else disturbed?

Every document is learned alone and appears in no prompt. Facts come from the test split, whose names and values occur
in no training facts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from continual_learning.datasets.base import halves, load_dataset
from continual_learning.documents.shipped import general_questions
from continual_learning.model.base_model import BaseModel
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.methods.doc2lora.adapter import installed
from continual_learning.strategies.methods.doc2lora.generators import DocumentGenerator
from continual_learning.strategies.methods.doc2lora.network import DocumentHypernetwork
from continual_learning.strategies.methods.doc2lora.training.data import Example, facts, passages
from continual_learning.strategies.methods.doc2lora.training.probe import context_sensitivity
from continual_learning.text.scoring import contains_answer

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
    """Return one row for each rung, as plain JSON: recall and negative log-likelihood from `context_sensitivity`.

    ``data`` is a file in SQuAD format; ``documents`` passages are read from the second half of its articles. The last
    row counts the general questions whose answers an irrelevant document changes.
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
    """Measure what a document that is unrelated to the general questions does to their answers.

    ``general_changed`` is the share of answers whose text differs at all, ``general_lost`` the share of the right
    answers that are no longer right, ``general_gained`` the share of all answers that were wrong and are now right.
    """
    asked = general_questions()
    questions = [q.question for q in asked]
    before = plain_answers(base, questions, 24)
    started = time.perf_counter()
    adapter = DocumentGenerator(base, network).internalise(base, example.text).whole
    internalise_seconds = time.perf_counter() - started
    with installed(base, adapter):
        after = plain_answers(base, questions, 24)
    changed = sum(a.text != b.text for a, b in zip(after, before, strict=True))
    right = [contains_answer(answer.text, q.answers) for answer, q in zip(before, asked, strict=True)]
    kept = [contains_answer(answer.text, q.answers) for answer, q in zip(after, asked, strict=True)]
    lost = sum(was and not still for was, still in zip(right, kept, strict=True))
    return {
        "general_changed": changed / len(questions),
        "general_lost": lost / max(1, sum(right)),
        "general_gained": sum(still and not was for was, still in zip(right, kept, strict=True)) / len(asked),
        "internalise_seconds": internalise_seconds,
    }
