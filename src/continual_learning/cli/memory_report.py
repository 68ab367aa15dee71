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
    """Measure forgetting: general questions and unrelated text with this memory, against the base model alone."""
    from continual_learning.cli.memory import one_name
    from continual_learning.cli.session import choose, open_learner
    from continual_learning.documents.shipped import general_questions, unrelated_texts
    from continual_learning.strategies.gate import retention

    out = Output(as_json)
    choice = choose(one_name(memory, option))
    questions, texts = general_questions(), unrelated_texts()
    learner = open_learner(choice)
    kept = retention(learner.base, learner.strategy, learner.state, questions, texts)
    records = learner.documents
    recalls: list[dict[str, Any]] = [
        {"id": d.id, "title": d.title, **{key: d.details.get(key) for key in ("recall_before", "recall_after")}}
        for d in records
    ]
    out.result(
        {
            **choice.names,
            "general_questions": len(questions),
            "general_kept": kept.general_kept,
            "perplexity_change": kept.perplexity_change,
            "documents": recalls,
        }
    )
    unknown = f"the base answers none of the {len(questions)} questions"
    out.facts(
        {
            "memory": f"{choice.memory} ({choice.strategy}, {len(records)} documents)",
            "general questions kept": percent(kept.general_kept) or unknown,
            "unrelated perplexity": f"{kept.perplexity_change:+.2%}",
        }
    )
    measured = [r for r in recalls if r["recall_after"] is not None]
    if measured:
        out.line()
        rows = [(r["title"] or r["id"], percent(r["recall_before"]), percent(r["recall_after"])) for r in measured]
        out.table(("document", "recall before", "after learning"), rows)
