"""`memory documents` and `memory forgetting`: what was learned, and what it cost the model."""

from __future__ import annotations

from typing import Any

from continual_learning.cli import options
from continual_learning.cli.output import Output, percent


def documents(
    memory: options.MemoryArgument = None, option: options.Memory = None, as_json: options.Json = False
) -> None:
    """The learning history: each document with its file, tokens, last loss and time."""
    from continual_learning.cli.memory import one_name
    from continual_learning.cli.session import head_meta, open_store

    out = Output(as_json)
    store = open_store(one_name(memory, option))
    records: list[dict[str, Any]] = list((head_meta(store) or {}).get("documents", ()))
    out.result({"memory": store.name, "documents": records})
    if not records:
        out.line(f"memory {store.name!r} holds no document yet")
        return
    rows = []
    for record in records:
        details = record["details"]
        loss, seconds = details.get("loss"), details.get("seconds")
        rows.append(
            (
                record["source"],
                record["title"] or None,
                record["tokens"],
                None if loss is None else f"{loss:.3f}",
                None if seconds is None else f"{seconds:.1f}",
                record["learned_at"],
            )
        )
    out.table(("file", "title", "tokens", "final loss", "seconds", "learned_at"), rows)


def forgetting(
    memory: options.MemoryArgument = None, option: options.Memory = None, as_json: options.Json = False
) -> None:
    """Measure forgetting: general questions and unrelated text, by the base model alone and with this memory.

    The forgetting ratio is (before - after) / before of the share of the general questions that are answered right.
    """
    from continual_learning.cli.memory import one_name
    from continual_learning.cli.session import choose, open_learner
    from continual_learning.documents.shipped import general_questions, unrelated_texts
    from continual_learning.evaluation.metrics import FORGETTING_TARGET, forgetting_ratio
    from continual_learning.strategies.gate import before_and_after

    out = Output(as_json)
    choice = choose(one_name(memory, option))
    questions = general_questions()
    learner = open_learner(choice)
    measured = before_and_after(learner.base, learner.strategy, learner.state, questions, unrelated_texts())
    kept, count = measured.retention, len(questions)
    before, after = sum(measured.right_before), sum(measured.right_after)
    ratio = forgetting_ratio(before, after)
    met = None if ratio is None else ratio <= FORGETTING_TARGET
    records = learner.documents
    recalls: list[dict[str, Any]] = [
        {"id": d.id, "title": d.title, **{key: d.details.get(key) for key in ("recall_before", "recall_after")}}
        for d in records
    ]
    out.result(
        {
            **choice.names,
            "forgetting_ratio": ratio,
            "forgetting_target": FORGETTING_TARGET,
            "target_met": met,
            "general_questions": count,
            "general_right_before": before,
            "general_right_after": after,
            "general_kept": kept.general_kept,
            "perplexity_before": measured.perplexity_before,
            "perplexity_after": measured.perplexity_after,
            "perplexity_change": kept.perplexity_change,
            "documents": recalls,
        }
    )
    unknown = f"undefined: the base answers none of the {count} general questions"
    verdict = f"target: at most {FORGETTING_TARGET}, {'met' if met else 'missed'}"
    out.facts(
        {
            "memory": f"{choice.memory} ({choice.strategy}, {len(records)} documents)",
            "forgetting ratio": unknown if ratio is None else f"{ratio:.2f} ({verdict})",
            "general questions right": f"{before} of {count} before, {after} after",
            "general questions kept": percent(kept.general_kept) or unknown,
            "unrelated perplexity": f"{measured.perplexity_before:.2f} before, {measured.perplexity_after:.2f} after "
            f"({kept.perplexity_change:+.2%})",
        }
    )
    rows = [
        (r["title"] or r["id"], percent(r["recall_before"]), percent(r["recall_after"]))
        for r in recalls
        if r["recall_after"] is not None
    ]
    if rows:
        out.line()
        out.table(("document", "recall before", "after learning"), rows)
