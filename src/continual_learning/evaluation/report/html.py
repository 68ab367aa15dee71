"""HTML: one self-contained file, with nothing to fetch."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from continual_learning.evaluation.report import answers, charts, columns, formats, words
from continual_learning.evaluation.report.columns import Entry
from continual_learning.evaluation.report.formats import DASH, cell, number, ratio
from continual_learning.text.words import several

_PACKAGE = "continual_learning.evaluation.report"
# Up to this many questions are all shown; with more, all documents but the first are folded.
_OPEN_QUESTIONS = 60


def render_html(result: Mapping[str, Any]) -> str:
    """The whole report as one page: no network, no font or script from elsewhere.

    Answers, titles and settings are untrusted: all of them are escaped, and the page's own policy allows no script
    but the one it was made with.
    """
    clean = formats.plain(result)
    entries = columns.entries(clean)
    script = _file("report.js")
    return _environment().get_template("report.html.j2").render(
        title=words.title(clean),
        style=_file("report.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        facts=_facts(clean),
        notes=_notes(clean, entries),
        **_strategies(entries),
        scatter=charts.recall_against_seconds(entries),
        **_stream(entries),
        needles=_needles(entries),
        seeds=_seeds(entries),
        **_answers(entries),
        configurations=[(entry, _settings(entry.data.get("config"))) for entry in entries],
        command=clean.get("command") or "",
        run=_run(clean),
        settings=_settings(clean.get("settings")),
        sign_of=charts.sign,
        colour_of=charts.colour,
        several=several,
        dash=DASH,
    )  # fmt: skip


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _file(name: str) -> str:
    return files(_PACKAGE).joinpath("templates", name).read_text(encoding="utf-8").strip()


def _facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The header of the page: what was run."""
    facts = result.get("dataset") or {}
    found = [
        ("Models" if result.get("models") else "Model", words.model(result)),
        ("Data", " · ".join(str(facts[k]) for k in ("name", "source") if facts.get(k))),
        ("Documents", _documents(facts)),
        (
            "Questions",
            " · ".join(part for part in (cell(facts.get("questions"), formats.count), _split(facts)) if part),
        ),
        ("Seeds", words.seeds(result).partition(" ")[2]),
        ("Wall time", words.wall_time(result)),
    ]
    return [(name, text) for name, text in found if text and text != DASH]


def _documents(facts: Mapping[str, Any]) -> str:
    documents, tokens = number(facts.get("documents")), number(facts.get("tokens"))
    if not documents:
        return ""
    return formats.count(documents) + (
        f" · {formats.count(tokens / documents)} tokens each on average" if tokens else ""
    )


def _split(facts: Mapping[str, Any]) -> str:
    return f"split: {facts['split']}" if facts.get("split") else ""


def _notes(result: Mapping[str, Any], entries: Sequence[Entry]) -> list[tuple[str, str]]:
    general = [("", str(note)) for note in result.get("notes") or ()]
    return general + [(entry.label, str(note)) for entry in entries for note in entry.data.get("notes") or ()]


def _strategies(entries: Sequence[Entry]) -> dict[str, Any]:
    """The verdict and the table."""
    shown = columns.visible(entries)
    best = {column.name: columns.best_of_each(column, entries) for column in shown}
    high = charts.recall_limit(entries)
    return {
        "entries": entries,
        "several_models": any(entry.model for entry in entries),
        "verdicts": [(e, _bar(e, high), _unbroken(words.verdict(e))) for e in entries],
        "axis_end": f"{high:g}",
        "columns": shown,
        "rows": [
            (e, [(c, c.cell(e), c.bracket(e), e.index in best[c.name], e.value(c.name)) for c in shown])
            for e in entries
        ],
        "baselines": [entry.label for entry in entries if entry.baseline],
        "idle": [entry.label for entry in entries if entry.idle],
        "comparisons": [
            (c.heading, c.summary, [(f.measure, _unbroken(f.sentence)) for f in c.findings])
            for c in words.comparisons(entries)
        ],
    }  # fmt: skip


def _bar(entry: Entry, high: float) -> tuple[float | None, ...]:
    """The ends of the interval and the recall, on a bar 140 units long that shows recall from 0 to ``high``."""
    values = (*(entry.bounds("recall_interval") or (None, None)), entry.value("recall"))
    return tuple(None if value is None else round(7 + 126 * min(value, high) / high, 1) for value in values)


def _unbroken(sentence: str) -> str:
    """The sentence with no line break between a number and its unit."""
    return re.sub(r"(?<=\d) (?=(?:s|B|kB|MB|GB)\b)", "\u00a0", sentence)


def _stream(entries: Sequence[Entry]) -> dict[str, Any]:
    """R-matrices, small and with numbers, and retention curves."""
    matrices = []
    for entry in entries:
        if matrix := entry.data.get("matrix"):
            final = columns.COLUMN["final_recall"].cell(entry)
            label = f"{entry.label}: recall after each of {len(matrix) - 1} documents, final recall {final}"
            rows = [
                (
                    "base" if i == 0 else str(i),
                    [(*_heat(value), "just" if j == i - 1 else "") for j, value in enumerate(row)],
                )
                for i, row in enumerate(matrix)
            ]
            gist = [
                f"{name} {columns.COLUMN[key].cell(entry)}"
                for key, name in (("final_recall", "final recall"), ("bwt", "BWT"), ("forgetting", "forgetting"))
                if entry.value(key) is not None
            ]
            matrices.append((entry, charts.small_matrix(matrix, label), rows, ", ".join(gist)))
    curves = {entry.index: dict(charts.curve(entry)) for entry in entries}
    distances = sorted({distance for points in curves.values() for distance in points})
    return {
        "matrices": matrices,
        "retention": charts.retention(entries),
        "distances": distances,
        "retained": [
            (entry, [cell(curves[entry.index].get(d), ratio) for d in distances])
            for entry in entries
            if curves[entry.index]
        ],
    }


def _needles(entries: Sequence[Entry]) -> list[tuple[Entry, list[str], list[tuple[str, list[tuple[str, str]]]]]]:
    """For each strategy: the lengths, and a row of cells for every depth."""
    found = []
    for entry in entries:
        cells = {
            (length, depth): needle.get("recall")
            for needle in entry.data.get("needles") or ()
            if (length := number(needle.get("tokens"))) is not None
            and (depth := number(needle.get("depth"))) is not None
        }
        lengths, depths = (sorted({key[i] for key in cells}) for i in (0, 1))
        rows = [(f"{depth:.0%}", [_heat(cells.get((length, depth))) for length in lengths]) for depth in depths]
        if rows:
            found.append((entry, [formats.count(length) for length in lengths], rows))
    return found


def _heat(value: Any) -> tuple[str, str]:
    """A cell's text and its colour."""
    recall = number(value)
    return (DASH, "") if recall is None else (ratio(recall), f"h{charts.heat_step(recall)}")


def _seeds(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Recall of every seed, if there are several."""
    by_seed = {e.index: {str(s.get("seed")): s.get("recall") for s in e.data.get("seeds") or ()} for e in entries}
    names = list(dict.fromkeys(seed for seeds in by_seed.values() for seed in seeds))
    if len(names) < 2:
        return None
    rows = []
    for entry in entries:
        recalls = [by_seed[entry.index].get(name) for name in names]
        measured = [r for r in map(number, recalls) if r is not None]
        span = ratio(max(measured) - min(measured)) if len(measured) > 1 else DASH
        rows.append((entry, [cell(recall, ratio) for recall in recalls], span))
    return {"names": names, "rows": rows}


def _answers(entries: Sequence[Entry]) -> dict[str, Any]:
    answering = [entry for entry in entries if entry.data.get("answers")]
    told = answers.by_document(answering)
    questions = sum(len(document.questions) for document in told)
    return {
        "answering": answering,
        "told": told,
        "about": len({answer.get("document") for entry in answering for answer in entry.data["answers"]}),
        "asked": questions,
        "differing": sum(document.differing for document in told),
        "all_open": questions <= _OPEN_QUESTIONS,
    }


def _run(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Model, data and machine to the last digit."""
    found = [("machine", words.machine(result)), ("wall time", words.wall_time(result))]
    parts = [("model", result.get("model")), ("dataset", result.get("dataset"))]
    parts[:1] = [(f"model {n}", one) for n, one in enumerate(result.get("models") or (), 1)] or parts[:1]
    for part, values in parts:
        found += [(f"{part}: {name}", text) for name, text in _settings(values)]
    if version := (result.get("machine") or {}).get("package"):
        found.append(("continual-learning-slm", str(version)))
    return [(name, text) for name, text in found if text]


def _settings(values: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    return [(name, _value(value)) for name, value in (values or {}).items()]


def _value(value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or DASH
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) or DASH
    return value if isinstance(value, str) else json.dumps(value)
