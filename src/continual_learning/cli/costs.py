"""What each strategy would cost: the table of `learn --dry-run`, and its rows in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from continual_learning.cli.output import Output, size
from continual_learning.text.words import several

if TYPE_CHECKING:
    from continual_learning.cli.session import Choice
    from continual_learning.documents import Document
    from continual_learning.strategies.choosing import Considered


def dry_run(out: Output, choice: Choice, documents: Sequence[Document]) -> None:
    """Learn nothing; show what each strategy would cost for the documents, and what `auto` chooses.

    Raises InputError if every strategy is ruled out for `auto`.
    """
    from continual_learning.cli.session import automatic_of, load_base

    base = load_base(choice.model, choice.config.settings.model)
    automatic = automatic_of(choice)
    tokens = [len(base.encode(document.text)) for document in documents]
    considered = automatic.consider(base, tokens)
    if not out.as_json:  # an error is the only JSON document
        show_costs(out, considered)
    chosen = automatic.choose(base, tokens)
    out.result(
        {
            **choice.names,
            "documents": len(documents),
            "tokens": sum(tokens),
            "uses": automatic.wanted.uses,
            "auto": chosen.strategy,
            "reason": chosen.reason,
            "strategies": rows(chosen.considered),
        }
    )
    what = f"{several(len(tokens), 'document')} of {sum(tokens)} tokens"
    out.line(f"strategy auto: {chosen.strategy} for {what}: {chosen.reason}")
    if choice.exists:
        out.line(f"memory {choice.memory!r} is there already and keeps its strategy, {choice.strategy}")


def rows(considered: Sequence[Considered]) -> list[dict[str, Any]]:
    """A mapping of JSON values for each strategy."""
    return [
        {
            "strategy": each.candidate.strategy,
            "f1": each.candidate.f1,
            "learn_seconds": each.candidate.learn_seconds,
            "answer_seconds": each.candidate.answer_seconds,
            "total_seconds": each.total_seconds,
            "bytes": each.candidate.bytes,
            "prompt_tokens": each.candidate.prompt_tokens,
            "keeps_text": each.candidate.keeps_text,
            "general_kept": each.candidate.general_kept,
            "ruled_out": [{"by": limit, "reason": reason} for limit, reason in each.ruled_out],
        }
        for each in considered
    ]


def show_costs(out: Output, considered: Sequence[Considered]) -> None:
    """The same as a table: those that fit first, the best first."""
    table = [
        (
            each.candidate.strategy,
            None if each.candidate.f1 is None else f"{each.candidate.f1:.2f}",
            f"{each.candidate.learn_seconds:.1f}",
            f"{each.candidate.answer_seconds:.2f}",
            f"{each.total_seconds:.0f}",
            size(each.candidate.bytes),
            each.candidate.prompt_tokens,
            "yes" if each.candidate.keeps_text else "no",
            "; ".join(reason for _, reason in each.ruled_out) or None,
        )
        for each in sorted(considered, key=lambda one: (bool(one.ruled_out), -(one.candidate.f1 or 0.0)))
    ]
    columns = ("strategy", "F1", "learn, s", "answer, s", "in all, s", "size", "prompt tokens", "keeps text")
    out.table((*columns, "ruled out"), table)
