"""The protocols of `continual-learning benchmark`: documents are learned, then questions are asked without the text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from continual_learning.datasets.base import choose_documents, first_questions, load_dataset
from continual_learning.datasets.conversation import conversation_dataset
from continual_learning.datasets.repository import repository_dataset
from continual_learning.datasets.transfer import transfer_dataset
from continual_learning.evaluation import protocols
from continual_learning.evaluation.bootstrap import paired_interval
from continual_learning.evaluation.contender import Contender
from continual_learning.evaluation.protocols import Settings
from continual_learning.evaluation.summary import Done, summarise, with_distances
from protocols import Bench, progress_notes

Json = dict[str, Any]


def measure(experiment: Any, bench: Bench) -> tuple[Json, Json, Any]:
    """Measure one contender. The setting may have any field of `Settings`, and those of its protocol."""
    given = dict(experiment.setting)
    how = Settings(**{f.name: given[f.name] for f in fields(Settings) if f.name in given and f.name != "seeds"},
                   **({"seeds": tuple(given["seeds"])} if "seeds" in given else {}))  # fmt: skip
    row = [Contender(experiment.strategy, experiment.options, experiment.label)]
    base, show, name = bench.base, progress_notes(), experiment.protocol
    if name in ("squad", "stream"):
        data, others = choose_documents(
            load_dataset(bench.data), given["documents"], given["split"], given.get("data_seed", 0)
        )
        if name == "squad":
            held = first_questions(others, given["holdout_questions"])
            result = protocols.benchmark_squad(data, row, base, held, how, show)
        else:
            result = protocols.benchmark_stream(data, row, base, how, show)
    elif name == "needle":
        result = protocols.benchmark_needle(row, base, given["tokens"], given["documents"], how, show)
    else:
        summary: Callable[[Sequence[Done]], Json] = summarise
        if name == "conversation":
            data, summary = conversation_dataset("report", given["turns"], given["facts"]), with_turns
        elif name == "repository":
            data = repository_dataset(Path(str(files("continual_learning") / "retrieval")))
        else:
            data = transfer_dataset()
        result = protocols.benchmark_together(name, data, row, base, how, show, summary)
    found, setting, answers = only_row(experiment, result)
    return figures(found, answers), setting, answers


def only_row(experiment: Any, result: Json) -> tuple[Json, Json, Any]:
    """Split the result of one contender: its row, data and configuration, and answers.

    Raises SystemExit if the contender could not run.
    """
    if not result["results"]:
        raise SystemExit(f"{experiment.name}: {'; '.join(result['notes'])}")
    found = result["results"][0]
    answers = found.pop("answers")
    return found, {"dataset": result["dataset"], "config": found.pop("config")}, answers


def figures(found: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> Json:
    """A summary without the answers, but with their scores by document, which paired comparisons need."""
    right: defaultdict[str, str] = defaultdict(str)
    for answer in answers:
        right[answer["document"] or answer["question"]] += "1" if answer["right"] else "0"
    without = ("strategy", "config", "answers", "seeds", "turn_seconds")
    return {**{k: v for k, v in found.items() if k not in without}, "right_by_document": list(right.values())}


def with_turns(done: Sequence[Done]) -> Json:
    """`with_distances`, plus the seconds of the slowest turn."""
    seconds = [step["learn"]["seconds"] for d in done for step in d.steps[1:]]
    return {**with_distances(done), "turn_seconds_worst": max(seconds)}


# -- tables -------------------------------------------------------------------------------------------------


def table(results: Mapping[str, Json], against: str = "quote", short: bool = False) -> str:
    """A row for each result; recall is compared with that of the strategy ``against`` on the same questions."""
    rows = sorted(results.values(), key=lambda r: (-(_main(r) or 0.0), r["figures"]["learn_seconds"]))
    if not rows:
        return "Not measured yet."
    columns = _columns(rows, against, short)
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(column(row) for column in columns.values()) + " |" for row in rows]
    of = rows[0]["setting"]["dataset"]
    return "\n".join(
        [*lines, "", f"{of['questions']} questions on {of['documents']} documents, {of['tokens']:,} tokens."]
    )


def _columns(rows: Sequence[Json], against: str = "quote", short: bool = True) -> dict[str, Callable[[Json], str]]:
    """What a table says of each result, by heading."""
    name = rows[0]["protocol"]
    reference = next((r for r in rows if r["strategy"] == against and r["variant"] == "default"), None)
    columns: dict[str, Callable[[Json], str]] = {"strategy": lambda r: r["label"]}
    if name == "stream":
        columns |= {
            "final recall": lambda r: show(r["figures"]["final_recall"], ".2f"),
            "BWT": lambda r: show(r["figures"]["bwt"], ".2f"),
            "forgetting": lambda r: show(r["figures"]["forgetting"], ".2f"),
        }
    else:
        columns |= {
            "recall": lambda r: with_interval(r["figures"]),
            "token F1": lambda r: show(r["figures"]["f1"], ".2f"),
        }
    if not short and any("hit_at_3" in r["figures"] for r in rows):  # results of earlier versions lack it
        columns["hit@3"] = lambda r: show(r["figures"].get("hit_at_3"), ".2f")
    if reference is not None and not short:
        columns[f"recall, less that of {against}"] = lambda r: difference(r, reference)
    for number, bin_ in enumerate(rows[0]["figures"].get("by_distance", ())):
        columns[f"{bin_['from']}-{bin_['to']} ago"] = lambda r, n=number: show(
            r["figures"]["by_distance"][n]["recall"], ".2f"
        )
    columns |= {
        "learn, s": lambda r: show(r["figures"]["learn_seconds"], ".1f"),
        "answer, s": lambda r: show(r["figures"]["answer_seconds"], ".2f"),
    }
    if name not in ("needle",):
        columns["general questions kept"] = lambda r: show(r["figures"]["general_kept"], ".0%")
    if name == "squad":
        columns["unrelated perplexity"] = lambda r: show(r["figures"]["perplexity_change"], "+.1%")
    # If each document has its own memory, this is the bytes of one.
    each = name in ("squad", "needle")
    columns["memory, MB"] = lambda r: show(
        r["figures"]["bytes_kept"] / 1e6 / (r["figures"]["documents"] if each else 1), ".2f"
    )
    return columns


# What stands next to each other for several bases, of the columns of `table`.
_COMPARED = ("final recall", "BWT", "recall", "token F1", "learn, s", "answer, s", "general questions kept")


def side_by_side(by_base: Mapping[str, Mapping[str, Json]]) -> str:
    """The short table of one base; of several a row for each strategy, with the columns of every base."""
    by_base = {model: rows for model, rows in by_base.items() if rows}
    if len(by_base) < 2:
        return table(next(iter(by_base.values()), {}), short=True)
    columns = {model: _columns(list(rows.values())) for model, rows in by_base.items()}
    heads = [(model, head) for model in by_base for head in _COMPARED if head in columns[model]]
    every = {name: row for rows in reversed(by_base.values()) for name, row in rows.items()}
    lines = [
        "| strategy | " + " | ".join(f"{model}: {head}" for model, head in heads) + " |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for name, row in sorted(every.items(), key=lambda pair: -(_main(pair[1]) or 0.0)):
        cells = [columns[model][head](by_base[model][name]) if name in by_base[model] else "" for model, head in heads]
        lines.append(f"| {row['label']} | {' | '.join(cells)} |")
    read = {model: next(iter(rows.values()))["setting"]["dataset"] for model, rows in by_base.items()}
    of = next(iter(read.values()))
    tokens = ", ".join(f"{facts['tokens']:,} tokens of {model}" for model, facts in read.items())
    return "\n".join([*lines, "", f"{of['questions']} questions on {of['documents']} documents, {tokens}."])


def _main(result: Json) -> float | None:
    found = result["figures"]
    return found.get("final_recall", found["recall"])


def with_interval(found: Mapping[str, Any]) -> str:
    """Recall and its 95% interval."""
    between = found["recall_interval"]
    return show(found["recall"], ".2f") + (f" [{between[0]:.2f}, {between[1]:.2f}]" if between else "")


def difference(result: Json, reference: Json) -> str:
    """Recall minus that of another row, with the interval of the difference; empty for the row itself."""
    sides = [[[float(c) for c in right] for right in r["figures"]["right_by_document"]] for r in (result, reference)]
    if result is reference or [len(x) for x in sides[0]] != [len(x) for x in sides[1]]:
        return ""
    means = [sum(map(sum, side)) / sum(map(len, side)) for side in sides]
    between = paired_interval(*sides)
    return f"{means[0] - means[1]:+.2f}" + (f" [{between[0]:+.2f}, {between[1]:+.2f}]" if between else "")


def show(value: float | None, form: str) -> str:
    """A number, or nothing if it was not measured."""
    return "" if value is None else format(value, form)
