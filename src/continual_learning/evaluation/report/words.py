"""The results of a run, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from continual_learning.evaluation.report import formats
from continual_learning.evaluation.report.columns import COLUMN, Column, Entry, by_model
from continual_learning.evaluation.report.formats import number
from continual_learning.text.words import several

# What is reported about the best strategies, in this order.
_COMPARED = {
    "recall": "Recall",
    "score": "Score",
    "f1": "Token F1",
    "exact_match": "Exact match",
    "final_recall": "Recall after the last document",
    "forgetting": "Least forgetting",
    "bwt": "Backward transfer",
    "fwt": "Forward transfer",
    "plasticity": "Plasticity",
    "learn_seconds": "Time to learn",
    "answer_seconds": "Time to answer",
    "general_kept": "General questions kept",
    "perplexity_change": "Perplexity of unrelated text",
    "forgetting_ratio": "Least of the holdout lost",
    "bytes_kept": "Size of the memory",
}
# Of these, what means the same on every base; the others are measured against the base itself.
_ACROSS_BASES = (
    "recall",
    "score",
    "f1",
    "exact_match",
    "final_recall",
    "learn_seconds",
    "answer_seconds",
    "bytes_kept",
)


def title(result: Mapping[str, Any]) -> str:
    """A heading for the run."""
    facts = result.get("dataset") or {}
    documents = number(facts.get("documents"))
    strategies = _strategies(result)
    on = f" on {several(documents, 'document')}" if documents else ""
    titles = {
        "compare": f"{strategies}{on}",
        "squad": f"SQuAD, closed book: {strategies}{on}",
        "stream": f"A stream of {several(documents, 'document')}: {strategies}" if documents else "A stream",
        "scale": f"One memory of {several(documents, 'document')}: {strategies}" if documents else "Scale",
        "everyday": f"Everyday documents: {strategies}{on}",
        "needle": f"Needle in a haystack: {strategies}",
        "forgetting": f"What is forgotten: {strategies}{on}",
    }
    protocol = str(result.get("protocol") or "evaluation")
    return titles.get(protocol, f"{protocol}: {strategies}{on}")


def _strategies(result: Mapping[str, Any]) -> str:
    rows = result.get("results") or ()
    models = result.get("models") or ()
    if not models:
        return several(len(rows), "strategy", "strategies")
    most = max(Counter(str(row.get("model")) for row in rows).values(), default=0)
    return f"{several(most, 'strategy', 'strategies')} on each of {several(len(models), 'base model')}"


def data(result: Mapping[str, Any]) -> str:
    """Documents, questions, where they are from, model and seeds."""
    facts = result.get("dataset") or {}
    documents, questions, tokens = (number(facts.get(name)) for name in ("documents", "questions", "tokens"))
    source = facts.get("source") or facts.get("name")
    parts = []
    if documents is not None:
        of = f" ({several(tokens, 'token')})" if tokens else ""
        parts.append(several(documents, "document") + of)
    if questions is not None:
        parts.append(several(questions, "question"))
    text = ", ".join(parts) + (f" from {source}" if source else "")
    if split := facts.get("split"):
        text += f" (split: {split})"
    return "; ".join(part for part in (text, model(result), seeds(result)) if part)


def model(result: Mapping[str, Any]) -> str:
    """Name and size of the base model, or of each."""
    if result.get("models"):
        return ", ".join(filter(None, (model({"model": one}) for one in result["models"])))
    facts = result.get("model") or {}
    parameters = number(facts.get("parameters"))
    size = f" ({parameters / 1e6:,.0f} M parameters)" if parameters else ""
    return f"{facts['name']}{size}" if facts.get("name") else ""


def seeds(result: Mapping[str, Any]) -> str:
    """The seeds that were run."""
    found = (result.get("settings") or {}).get("seeds") or []
    return f"{'seed' if len(found) == 1 else 'seeds'} {', '.join(map(str, found))}" if found else ""


def machine(result: Mapping[str, Any]) -> str:
    """Processor, memory, versions and speed."""
    facts = result.get("machine") or {}
    cores, threads, memory = (number(facts.get(name)) for name in ("cores", "threads", "memory_bytes"))
    speed = number(facts.get("matmul_gflops"))
    device = facts.get("device")
    parts = [
        facts.get("cpu"),
        several(cores, "core") if cores else None,
        several(threads, "thread") if threads else None,
        formats.size(memory) if memory else None,
        device if device and device != "cpu" else None,
        f"{speed:,.0f} GFLOP/s in an fp32 matrix product" if speed else None,
        *(
            f"{name} {facts[key]}"
            for key, name in (("python", "Python"), ("torch", "PyTorch"), ("transformers", "Transformers"))
            if facts.get(key)
        ),
    ]
    return ", ".join(str(part) for part in parts if part)


def wall_time(result: Mapping[str, Any]) -> str:
    """How long the run took, and when it began."""
    found, began = number(result.get("seconds")), started(result)
    took = formats.duration(found) if found is not None else ""
    return ", ".join(part for part in (took, f"started {began}" if began else "") if part)


def started(result: Mapping[str, Any]) -> str:
    """When the run began, ``2025-11-22 10:04 UTC``; unchanged if it is not a time."""
    given = str(result.get("started_at") or "")
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        return given
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.strftime("%Y-%m-%d %H:%M UTC")


def verdict(entry: Entry) -> str:
    """One strategy in one sentence, without its name."""
    answers = [
        f"{word} {' '.join(filter(None, (COLUMN[name].cell(entry), COLUMN[name].bracket(entry))))}"
        for name, word in (("recall", "recall"), ("f1", "token F1"), ("score", "score"))
        if entry.value(name) is not None
    ]
    price = []
    if entry.idle:
        price.append("nothing was learned")
    elif (learn := entry.value("learn_seconds")) is not None:
        price.append(f"{formats.seconds(learn)} s to learn a document")
    if (answer := entry.value("answer_seconds")) is not None:
        price.append(f"{formats.seconds(answer)} s to answer a question")
    if (kept := entry.value("bytes_kept")) is not None and not entry.idle:
        price.append(f"{formats.size(kept)} kept")
    groups = [", ".join(answers), ", ".join(price), ", ".join(_retention(entry))]
    sentence = "; ".join(group for group in groups if group)
    return f"{sentence}." if sentence else "nothing was measured."


def _retention(entry: Entry) -> list[str]:
    found = []
    for name, word in (("final_recall", "recall after the last document"), ("forgetting", "forgetting")):
        if entry.value(name) is not None and not (entry.idle and name == "forgetting"):
            found.append(f"{word} {COLUMN[name].cell(entry)}")
    if entry.value("general_kept") is not None and not entry.idle:
        found.append(f"{COLUMN['general_kept'].cell(entry)} of the general questions kept")
    if entry.value("perplexity_change") is not None and not entry.idle:
        found.append(f"perplexity of unrelated text {COLUMN['perplexity_change'].cell(entry)}")
    if refused := entry.value("refused"):
        # Counted over all seeds, each of which received every document.
        given = (entry.value("documents") or 0) * max(1, len(entry.data.get("seeds") or ()))
        found.append(f"{formats.count(refused)} of {several(given, 'document')} refused")
    return found


@dataclass(frozen=True)
class Finding:
    """Which strategies are best at something."""

    measure: str
    sentence: str
    winners: tuple[Entry, ...]

    @property
    def baseline(self) -> bool:
        """Whether only baselines are the best."""
        return all(entry.baseline for entry in self.winners)


@dataclass(frozen=True)
class Comparison:
    """What is best at what: on one base, or across all of them."""

    heading: str
    """The base model, or what is compared; empty if there was one base."""
    summary: str
    findings: tuple[Finding, ...]


def comparisons(entries: Sequence[Entry]) -> list[Comparison]:
    """What is best on each base, and then across them by what means the same on every base."""
    groups = by_model(entries)
    found = []
    for model, group in groups.items():
        group = [replace(entry, label=entry.name, model="") for entry in group]
        found.append(_comparison(model and f"On {model}", group, best(group)))
    if len(groups) > 1:
        found.append(_comparison("Across the base models", entries, best(entries, _ACROSS_BASES)))
    return [one for one in found if one.findings]


def _comparison(heading: str, entries: Sequence[Entry], found: Sequence[Finding]) -> Comparison:
    baselines = sum(entry.baseline for entry in entries)
    return Comparison(heading, summary(found) if 0 < baselines < len(entries) else "", tuple(found))


def best(entries: Sequence[Entry], measures: Collection[str] = tuple(_COMPARED)) -> list[Finding]:
    """What each strategy is best at.

    Measures on which all values read the same, or that fewer than two strategies have, are left out.
    """
    found = []
    for name, measure in _COMPARED.items():
        if name not in measures:
            continue
        column = COLUMN[name]
        winners = column.best(entries)
        ranked = [entry for _, entry in column.compared(entries)]
        first = tuple(entry for entry in ranked if entry.index in winners)
        if first:
            found.append(Finding(measure, _sentence(column, first, ranked[len(first) :]), first))
    return found


def summary(found: Sequence[Finding]) -> str:
    """On how many measures the baselines are best, and each strategy."""
    wins = Counter(_named(entry) for finding in found for entry in finding.winners)
    baseline = sum(finding.baseline for finding in found)
    counts = ", ".join(f"{name} on {count}" for name, count in wins.most_common())
    return (
        f"A baseline is best on {baseline} of {several(len(found), 'measure')}. With draws counted for each: {counts}."
    )


def _sentence(column: Column, first: Sequence[Entry], rest: Sequence[Entry]) -> str:
    verb = "is best with" if len(first) == 1 else "are level with"
    parts = [f"{_joined([_named(entry) for entry in first])} {verb} {_value(column, first[0])}"]
    others = [("next is", rest[0])]
    # If baselines lead, a reader wants to know how far behind the rest are.
    ours = next((entry for entry in rest if not entry.baseline), None)
    if ours not in (None, rest[0]) and all(entry.baseline for entry in first):
        others.append(("the best that is no baseline is", ours))
    for lead, entry in others:
        parts.append(f"{lead} {_named(entry)} with {_value(column, entry)}{_overlap(column, first[0], entry)}")
    return f"{'; '.join(parts)}."


def _overlap(column: Column, better: Entry, other: Entry) -> str:
    # Only shares have intervals, and for them higher is better.
    a, b = better.bounds(column.interval), other.bounds(column.interval)
    if a is None or b is None:
        return ""
    return " (the intervals overlap)" if a[0] <= b[1] else " (the intervals are apart)"


def _named(entry: Entry) -> str:
    return f"{entry.label} (baseline)" if entry.baseline else entry.label


def _value(column: Column, entry: Entry) -> str:
    unit = f" {column.measure}" if column.unit else ""
    return f"{column.cell(entry)}{unit} {column.bracket(entry)}".strip()


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
