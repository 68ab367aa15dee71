"""Reading: one answer from a text that is there, how sure it is, and whether the text says it at all.

An experiment with ``confidence: true`` asks the reader about passages of SQuAD, with as many questions that they do not
answer. The others learn single texts of three kinds and are asked about each; the sets that are not SQuAD lie next to
its file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from continual_learning.datasets.base import Dataset, halves, load_dataset, sample_evenly
from continual_learning.evaluation.bootstrap import paired_interval
from continual_learning.evaluation.cache import ResultCache
from continual_learning.evaluation.contender import Contender
from continual_learning.evaluation.protocols import Settings, compare
from continual_learning.evaluation.reading import ReadingProbe, calibration, seconds_one_by_one, told_apart
from continual_learning.reading.answering import chosen_reader
from continual_learning.text.scoring import contains_answer
from protocols import Bench, note, progress_notes
from protocols.sequences import show

Json = dict[str, Any]
SETS = {"squad": "SQuAD", "fairytaleqa": "Stories (FairytaleQA)", "covid_qa": "Research papers (COVID-QA)"}
RULES = {
    "reader": "the reader",
    "gate_published": "free gate, published threshold",
    "gate_tuned": "free gate, threshold from the other half",
    "always_answer": "always answers",
    "never_answer": "never answers",
}
AGAINST = "quote"


def measure(experiment: Any, bench: Bench) -> tuple[Json, Json, Any]:
    """Confidence and refusals of the reader, or a strategy's answers about each set of texts."""
    return (_confidence if experiment.setting.get("confidence") else _texts)(experiment, bench)


def _confidence(experiment: Any, bench: Bench) -> tuple[Json, Json, Any]:
    given, base = experiment.setting, bench.base
    tuning, reported = halves(load_dataset(bench.data))
    strategy = Contender(experiment.strategy, experiment.options).make(0)
    reader = chosen_reader(base, strategy.config)
    if reader is None:
        raise SystemExit(f"{experiment.name}: no reader for {base.name}; expected one that ships, or --set reader=FILE")
    tokens, questions, seed = given["max_new_tokens"], given["questions"], given["data_seed"]
    cache = ResultCache.default()

    def asked(probe: ReadingProbe, half: Dataset, count: int) -> list[Json]:
        # with that many questions each, a passage more or less changes the number of questions by as many
        documents = sample_evenly(half, count, seed, questions, min_questions=questions).documents
        found = []
        for number, document in enumerate(documents, start=1):
            found += probe.ask(document, half)
            if number % 10 == 0:
                note(f"{number}/{len(documents)} passages of the {half.split} half")
        return found

    tuned = asked(ReadingProbe(base, None, cache=cache), tuning, given["tuning_passages"])
    records = asked(ReadingProbe(base, reader, strategy, tokens, cache), reported, given["passages"])
    figures = {
        "passages": len({r["document"] for r in records}),
        "questions": len(records),
        "calibration": calibration(records),
        "refusal": told_apart(records, tuned),
    }
    return figures, {"config": strategy.config.model_dump(mode="json"), "reader": dict(reader.facts)}, records


def _texts(experiment: Any, bench: Bench) -> tuple[Json, Json, Any]:
    given, base = experiment.setting, bench.base
    contender = Contender(experiment.strategy, experiment.options, experiment.label)
    how = Settings(given["max_new_tokens"], retention_documents=0, count_flops=False)
    figures: Json = {}
    datasets: Json = {}
    every: Json = {}
    for name, label in SETS.items():
        if not given[name]:
            continue
        note(f"{label}, {given[name]} texts")
        data = _sample(bench, name, given[name], given)
        timed = data.documents[: given["timed"]]
        # before anything else, so that the first question about a text does find it unread
        seconds = seconds_one_by_one(base, contender.make(0), timed, given["max_new_tokens"])
        result = compare(data, [contender], base, each=True, settings=how, progress=progress_notes())
        if not result["results"]:
            raise SystemExit(f"{experiment.name}: {'; '.join(result['notes'])}")
        found = result["results"][0]
        every[name] = found["answers"]
        datasets[name] = result["dataset"]
        figures[name] = {**summary(found, data), "seconds": seconds}
    return figures, {"datasets": datasets, "config": found["config"]}, every


def _sample(bench: Bench, name: str, count: int, given: Mapping[str, Any]) -> Dataset:
    path = bench.data if name == "squad" else bench.data.with_name(f"{name}.jsonl")
    data = load_dataset(path)
    if name == "squad":
        data = halves(data)[1]
    return sample_evenly(data, count, given["data_seed"], given["questions"])


def summary(found: Mapping[str, Any], data: Dataset) -> Json:
    """The figures of one set. F1 by document is text, which takes a twentieth of the lines of numbers."""
    texts = {item.document.id: item.document.text for item in data.documents}
    by_document: defaultdict[str, list[float]] = defaultdict(list)
    for answer in found["answers"]:
        by_document[answer["document"]].append(answer["f1"])
    spans = [a["f1"] for a in found["answers"] if contains_answer(texts[a["document"]], a["answers"])]
    kept = ("documents", "questions", "f1", "f1_interval", "exact_match", "recall", "recall_interval", "hit_at_3")
    return {
        **{name: found[name] for name in kept},
        "f1_of_spans": sum(spans) / len(spans) if spans else None,
        "questions_with_spans": len(spans),
        "origins": {o: sum(a["origin"] == o for a in found["answers"]) for o in ("memory", "model", "unknown")},
        "f1_by_document": [" ".join(f"{f1:.3g}" for f1 in row) for row in by_document.values()],
    }


# -- tables -------------------------------------------------------------------------------------------------


def table(results: Mapping[str, Json]) -> str:
    """Answers about each set of texts, then confidence and refusals."""
    probes = [r for r in results.values() if "calibration" in r["figures"]]
    rows = [r for r in results.values() if "calibration" not in r["figures"]]
    parts = [_set_table(name, rows) for name in SETS if any(name in r["figures"] for r in rows)]
    parts += [part for probe in probes for part in (_refusal_table(probe), _reliability_table(probe))]
    return "\n\n".join(parts)


def _set_table(name: str, rows: Sequence[Json]) -> str:
    rows = sorted((r for r in rows if name in r["figures"]), key=lambda r: -r["figures"][name]["f1"])
    reference = next((r for r in rows if (r["strategy"], r["variant"]) == (AGAINST, "default")), None)

    def of(result: Json) -> Json:
        figures: Json = result["figures"][name]
        return figures

    columns: dict[str, Callable[[Json], str]] = {
        "strategy": lambda r: r["label"],
        "F1": lambda r: _between(of(r)["f1"], of(r)["f1_interval"]),
        "exact": lambda r: show(of(r)["exact_match"], ".2f"),
        "recall": lambda r: show(of(r)["recall"], ".2f"),
        "hit@3": lambda r: show(of(r)["hit_at_3"], ".2f"),
        "F1 where the text has the answer's words": lambda r: show(of(r)["f1_of_spans"], ".2f"),
    }
    if reference is not None:
        columns[f"F1, less that of {AGAINST}"] = lambda r: difference(of(r), of(reference))
    columns |= {
        "does not say": lambda r: show(of(r)["origins"]["unknown"] / of(r)["questions"], ".0%"),
        "left to the base": lambda r: show(of(r)["origins"]["model"] / of(r)["questions"], ".0%"),
        "answer, s": lambda r: show(of(r)["seconds"]["warm"], ".2f"),
        "first about a text, s": lambda r: show(of(r)["seconds"]["first"], ".2f"),
        "texts": lambda r: str(of(r)["documents"]),
        "questions": lambda r: str(of(r)["questions"]),
    }
    return "\n".join([f"**{SETS[name]}**", "", *_markdown(columns, rows)])


def _refusal_table(result: Json) -> str:
    found = result["figures"]["refusal"]

    def cell(key: str) -> Callable[[tuple[str, Json]], str]:
        return lambda row: show(row[1].get(key), ".2f")

    columns: dict[str, Callable[[Any], str]] = {
        "rule": lambda row: RULES[row[0]],
        "balanced accuracy": lambda row: _between(row[1]["balanced_accuracy"], row[1]["interval"]),
        "unanswerable refused": cell("unanswerable_refused"),
        "answerable answered": cell("answerable_answered"),
        "AUROC": cell("auroc"),
        "refuses from, nats": cell("threshold"),
    }
    routed = found["routed"]
    return "\n".join(
        [
            "**Questions that the passage does not answer**",
            "",
            *_markdown(columns, list(found["rules"].items())),
            "",
            f"{result['figures']['questions']} questions about {result['figures']['passages']} passages, half of them "
            f"answered there; thresholds from {found['tuning_questions']} others. Of the former "
            f"{routed['answerable']:.0%} open the passage by their words in a memory that holds it alone, of the "
            f"latter {routed['unanswerable']:.0%}; the base answers the others.",
        ]
    )


def _reliability_table(result: Json) -> str:
    found = result["figures"]["calibration"]
    kinds = {"all": "all questions", "answerable": "with an answer in the passage"}
    columns: dict[str, Callable[[int], str]] = {
        "confidence": lambda n: f"{found['all']['table'][n]['low']:.1f} to {found['all']['table'][n]['high']:.1f}"
    }
    for kind, label in kinds.items():
        bins = found[kind]["table"]
        columns[f"{label}: number"] = lambda n, bins=bins: str(bins[n]["count"])
        columns["mean confidence" + " " * len(columns)] = lambda n, bins=bins: show(bins[n]["confidence"], ".2f")
        columns["share right" + " " * len(columns)] = lambda n, bins=bins: show(bins[n]["right"], ".2f")
    lines = _markdown(columns, range(len(found["all"]["table"])))
    facts = [
        f"{label}: {found[kind]['questions']} of which {found[kind]['right']:.0%} are answered right, mean confidence "
        f"{show(found[kind]['confidence'], '.2f')}, expected calibration error {show(found[kind]['error'], '.3f')}, "
        f"AUROC {show(found[kind]['auroc'], '.2f')}"
        for kind, label in kinds.items()
    ]
    return "\n".join(["**Confidence**", "", *lines, "", "; ".join(facts).capitalize() + "."])


def difference(figures: Json, reference: Json) -> str:
    """F1 less that of another row on the texts that both were asked about; empty for the row itself."""
    sides = [[[float(f1) for f1 in row.split()] for row in each["f1_by_document"]] for each in (figures, reference)]
    shared = min(map(len, sides))
    first, second = (side[:shared] for side in sides)
    if figures is reference or [len(row) for row in first] != [len(row) for row in second]:
        return ""
    count = sum(map(len, first))
    mean = (sum(map(sum, first)) - sum(map(sum, second))) / count
    between = paired_interval(first, second)
    return f"{mean:+.2f}" + (f" [{between[0]:+.2f}, {between[1]:+.2f}]" if between else "")


def _between(value: float | None, interval: Sequence[float] | None) -> str:
    return show(value, ".2f") + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def _markdown(columns: Mapping[str, Callable[[Any], str]], rows: Sequence[Any]) -> list[str]:
    lines = ["| " + " | ".join(name.strip() for name in columns) + " |", "|---" * len(columns) + "|"]
    return lines + ["| " + " | ".join(column(row) for column in columns.values()) + " |" for row in rows]
