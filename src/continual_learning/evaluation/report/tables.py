"""CSV: the numbers as they were measured, for spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from continual_learning.evaluation.report.columns import COLUMNS
from continual_learning.evaluation.report.formats import plain

_ANSWER_FIELDS = (
    "document",
    "title",
    "seed",
    "question",
    "text",
    "right",
    "f1",
    "exact_match",
    "hit_at_3",
    "origin",
    "confidence",
    "seconds",
    "tokens",
)


def render_csv(result: Mapping[str, Any]) -> str:
    """One row per strategy, in the run's order; the columns are all fields of a result, whatever was measured.

    Numbers are not rounded; the names give the units, seconds or bytes. An interval is two columns, ``…_low`` and
    ``…_high``; ``config`` is JSON; ``model`` is there if several base models ran. What was not measured is empty.
    """
    fields = ["strategy", "label", *_model_field(result)]
    for column in COLUMNS:
        fields += [column.name, *([f"{column.interval}_low", f"{column.interval}_high"] if column.interval else [])]
    rows = []
    for found in plain(result.get("results") or []):
        row = {name: found.get(name) for name in fields}
        for column in COLUMNS:
            if column.interval:
                low, high = found.get(column.interval) or (None, None)
                row |= {f"{column.interval}_low": low, f"{column.interval}_high": high}
        row["config"] = json.dumps(found.get("config") or {}, ensure_ascii=False, sort_keys=True)
        rows.append(row)
    return _csv([*fields, "config"], rows)


def render_answers_csv(result: Mapping[str, Any]) -> str:
    """One row per answer of every strategy, seed and question; ``answers`` are the gold ones, as JSON.

    Texts are written exactly as generated: import them as text into a spreadsheet, which would otherwise treat one that
    begins with ``=`` as a formula.
    """
    rows = []
    for found in plain(result.get("results") or []):
        for answer in found.get("answers") or []:
            row = {name: answer.get(name) for name in _ANSWER_FIELDS}
            gold = json.dumps(answer.get("answers") or [], ensure_ascii=False)
            named = {name: found.get(name) for name in ("strategy", "label", *_model_field(result))}
            rows.append({**named, "answers": gold, **row})
    return _csv(["strategy", "label", *_model_field(result), *_ANSWER_FIELDS[:4], "answers", *_ANSWER_FIELDS[4:]], rows)


def _model_field(result: Mapping[str, Any]) -> list[str]:
    return ["model"] if result.get("models") else []


def _csv(fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
