"""From the steps of sequences to rows of a table: means, intervals, matrices."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from continual_learning.evaluation.bootstrap import clustered_interval
from continual_learning.evaluation.metrics import (
    accuracy,
    backward_transfer,
    forgetting,
    forgetting_ratio,
    forward_transfer,
    plasticity,
    retention_curve,
    stability,
)
from continual_learning.evaluation.sequence import COUNTED_ALTERNATIVES, LearningSequence
from continual_learning.text.scoring import contains_answer, exact_match, token_f1
from continual_learning.types import QuestionAnswer

Record = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A question, and the document that it is about: its id and title, empty if it is about all of them."""

    question: QuestionAnswer
    document: str = ""
    title: str = ""


@dataclass(frozen=True)
class Task:
    """A sequence, and the right answers."""

    plan: LearningSequence
    asked: tuple[Asked, ...]
    """For ``plan.questions``, in the same order."""
    holdout: tuple[Asked, ...] = ()


@dataclass(frozen=True)
class Done:
    """A task and the results of its steps."""

    task: Task
    steps: Sequence[Record]


def scored(asked: Sequence[Asked], records: Sequence[Record], seed: int) -> list[Record]:
    """Each answer with its question, the accepted answers, and its scores.

    The text alone is scored; one that says that the document does not say is no answer. Several guesses count in
    ``hit_at_3`` only: the text or one of the first two alternatives contains an accepted answer, as for ``right``.
    """
    return [
        {
            "document": a.document,
            "title": a.title,
            "question": a.question.question,
            "answers": list(a.question.answers),
            **record,
            **_score(record, a.question.answers),
            "seed": seed,
        }
        for a, record in zip(asked, records, strict=True)
    ]


def _score(record: Record, accepted: Sequence[str]) -> Record:
    # Steps that an earlier version stored have neither an origin nor alternatives.
    said = "" if record.get("origin") == "unknown" else record["text"]
    others = [one["text"] for one in record.get("alternatives", ())[:COUNTED_ALTERNATIVES]]
    return {
        "right": contains_answer(said, accepted),
        "f1": token_f1(said, accepted),
        "exact_match": exact_match(said, accepted),
        "hit_at_3": any(contains_answer(text, accepted) for text in (said, *others)),
    }


def summarise(done: Sequence[Done]) -> Record:
    """The results of one contender over all its sequences and seeds, in the form the report uses."""
    answers = [a for d in done if "answers" in d.steps[-1] for a in _final_answers(d)]
    learned = [step["learn"] for d in done for step in d.steps[1:]]
    kept = [step["retention"] for d in done for step in d.steps if "retention" in step]
    seeds = sorted({d.task.plan.seed for d in done})
    contender = done[0].task.plan.contender
    strategy = contender.make(seeds[0])
    holdout_before, holdout_after = _holdout(done, 0), _holdout(done, -1)
    general_kept = _mean([k["general_kept"] for k in kept])
    return {
        "strategy": contender.strategy,
        "label": contender.name,
        "role": strategy.role,
        "learns": strategy.learns,
        "config": strategy.config.model_dump(mode="json"),
        "documents": len(learned) // len(seeds),
        "questions": len(answers) // len(seeds),
        "refused": sum(not r["accepted"] for r in learned),
        **_scores(answers),
        "recall_interval": _interval(answers, "right"),
        "f1_interval": _interval(answers, "f1"),
        "learn_seconds": _mean([r["seconds"] for r in learned]),
        "answer_seconds": _mean([a["seconds"] for a in answers]),
        "tokens_learned": sum(r["tokens"] for r in learned if r["accepted"]) // len(seeds),
        "bytes_kept": sum(d.steps[-1]["learn"]["kept_bytes"] for d in done if len(d.steps) > 1) // len(seeds),
        "general_kept": general_kept,
        "stability": stability(general_kept),
        "perplexity_change": _mean([k["perplexity_change"] for k in kept]),
        "holdout_before": holdout_before,
        "holdout_after": holdout_after,
        "forgetting_ratio": forgetting_ratio(holdout_before, holdout_after)
        if holdout_before is not None and holdout_after is not None
        else None,
        "learn_gflop": _mean([r.get("gflop") for r in learned]),
        "peak_memory_bytes": max((r["peak_memory_bytes"] for r in learned), default=None),
        "seeds": [{"seed": s, **_scores([a for a in answers if a["seed"] == s])} for s in seeds],
        "answers": answers,
        "notes": _notes(learned),
    }


def summarise_stream(done: Sequence[Done]) -> Record:
    """`summarise`, plus the scores on every document as later ones were learned, averaged over the seeds."""
    matrices = [_matrix(d) for d in done]
    counts = [_counts(d.task) for d in done]
    rows = range(len(matrices[0]))
    columns = range(len(matrices[0][0]))
    measures: dict[str, Callable[[list[list[float | None]]], float | None]] = {
        "final_recall": accuracy,
        "bwt": backward_transfer,
        "fwt": forward_transfer,
        "forgetting": forgetting,
        "plasticity": plasticity,
    }
    found = {name: [measure(m) for m in matrices] for name, measure in measures.items()}
    summary = summarise(done)
    for number, seed in enumerate(summary["seeds"]):
        seed.update({name: values[number] for name, values in found.items()})
    return {
        **summary,
        "matrix": [[_mean([m[i][j] for m in matrices]) for j in columns] for i in rows],
        **{name: _mean(values) for name, values in found.items()},
        "retention_curve": _curve(matrices, counts),
    }


def _final_answers(done: Done) -> list[Record]:
    return scored(done.task.asked, done.steps[-1]["answers"], done.task.plan.seed)


def _matrix(done: Done) -> list[list[float | None]]:
    """R: one row per step, one column per document, in the order in which they were learned; None if not asked then."""
    plan = done.task.plan
    order = [document.id for document in plan.documents]
    rows = []
    for number, step in enumerate(done.steps):
        right: defaultdict[str, list[bool]] = defaultdict(list)
        asked = [done.task.asked[i] for i in plan.asked_after(number)]
        for answer in scored(asked, step.get("answers", ()), plan.seed):
            right[answer["document"]].append(answer["right"])
        rows.append([_mean(right[document]) for document in order])
    return rows


def _counts(task: Task) -> list[int]:
    order = [document.id for document in task.plan.documents]
    return [sum(a.document == document for a in task.asked) for document in order]


def _curve(matrices: Sequence[list[list[float | None]]], counts: Sequence[list[int]]) -> list[Record]:
    """Recall by the number of documents learned since, over all seeds."""
    right: defaultdict[int, float] = defaultdict(float)
    questions: defaultdict[int, int] = defaultdict(int)
    for matrix, count in zip(matrices, counts, strict=True):
        for point in retention_curve(matrix, count):
            right[point["distance"]] += point["recall"] * point["questions"]
            questions[point["distance"]] += point["questions"]
    return [{"distance": d, "recall": right[d] / questions[d], "questions": questions[d]} for d in sorted(right)]


def _holdout(done: Sequence[Done], step: int) -> float | None:
    right = [
        a["right"]
        for d in done
        if "holdout" in d.steps[step]
        for a in scored(d.task.holdout, d.steps[step]["holdout"], d.task.plan.seed)
    ]
    return _mean(right)


def _scores(answers: Sequence[Record]) -> Record:
    return {
        "recall": _mean([a["right"] for a in answers]),
        "f1": _mean([a["f1"] for a in answers]),
        "exact_match": _mean([a["exact_match"] for a in answers]),
        "hit_at_3": _mean([a["hit_at_3"] for a in answers]),
    }


def _interval(answers: Sequence[Record], score: str) -> list[float] | None:
    """95% interval by resampling documents, because questions about one document are correlated."""
    clusters: defaultdict[str, list[float]] = defaultdict(list)
    for answer in answers:
        # A question that belongs to no single document is a cluster by itself.
        clusters[answer["document"] or answer["question"]].append(float(answer[score]))
    found = clustered_interval(list(clusters.values()))
    return None if found is None else list(found)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _notes(learned: Sequence[Record]) -> list[str]:
    """Why documents were refused and what was left out, each reason once with its count."""
    found: defaultdict[str, int] = defaultdict(int)
    for record in learned:
        if not record["accepted"]:
            found[f"refused: {record['reason']}"] += 1
        for warning in record["warnings"]:
            found[warning] += 1
    return [f"{text} ({count} times)" if count > 1 else text for text, count in found.items()]


def with_distances(done: Sequence[Done], bins: int = 4) -> dict[str, Any]:
    """`summarise`, plus ``by_distance``: recall by how many turns ago a fact was told, in ``bins`` equal ranges."""
    summary = summarise(done)
    place = {d.task.plan.seed: {doc.id: i for i, doc in enumerate(d.task.plan.documents)} for d in done}
    turns = len(done[0].task.plan.documents)
    edges = [round(i * turns / bins) for i in range(bins + 1)]
    summary["by_distance"] = []
    for low, high in pairwise(edges):
        right = [a["right"] for a in summary["answers"] if low <= turns - 1 - place[a["seed"]][a["document"]] < high]
        if right:
            row = {"from": low, "to": high - 1, "recall": sum(right) / len(right), "questions": len(right)}
            summary["by_distance"].append(row)
    return summary
