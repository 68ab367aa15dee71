from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from report_results import result

from continual_learning.errors import InputError, StorageError
from continual_learning.evaluation.report import (
    columns,
    formats,
    render_answers_csv,
    render_csv,
    render_markdown,
    words,
    write_report,
)
from continual_learning.text.words import several


def compared(**columns_: list[Any]) -> list[columns.Entry]:
    """Strategies ttt, rag and ace with these values."""
    rows = [dict(zip(columns_, values, strict=True)) for values in zip(*columns_.values(), strict=True)]
    return columns.entries(
        {"results": [{"strategy": n, **r} for n, r in zip(("ttt", "rag", "ace"), rows, strict=False)]}
    )


def table(markdown: str) -> list[list[str]]:
    return [[c.strip() for c in line.strip("|").split(" | ")] for line in markdown.splitlines() if line.startswith("|")]


def test_numbers_as_people_read_them() -> None:
    assert [formats.seconds(v) for v in (0, 0.0002, 0.794, 9.999, 20.96, 99.96, 1240)] == [
        "0.00", "<0.01", "0.79", "10.0", "21.0", "100", "1,240",
    ]  # fmt: skip
    assert [formats.ratio(v) for v in (0.337, -0.05, -0.001, 1)] == ["0.34", "−0.05", "0.00", "1.00"]
    assert [formats.change(v) for v in (4.5e-9, -1e-9, 3.13, -0.02)] == ["+0.0%", "+0.0%", "+313.0%", "−2.0%"]
    assert [formats.duration(v) for v in (8.4, 59.96, 245, 3599.7, 8132)] == [
        "8.4 s", "1 min 00 s", "4 min 05 s", "1 h 00 min", "2 h 16 min",
    ]  # fmt: skip
    assert [formats.size(v) for v in (824, 3_322_074, 25e9)] == ["824 B", "3.3 MB", "25.0 GB"]
    assert [formats.cell(v, formats.ratio) for v in (None, math.nan, math.inf, "x", True)] == ["–"] * 5
    assert [formats.interval(v) for v in ([0.1, 0.2], None, [None, 1], [1])] == ["[0.10, 0.20]", "", "", ""]
    assert several(1, "document") == "1 document" and several(2500, "document") == "2,500 documents"


def test_markdown_has_a_row_a_strategy_with_units_and_the_best_in_bold() -> None:
    head, _, *rows = table(render_markdown(result()))
    assert head[:9] == [
        "strategy", "recall", "token F1", "exact match", "learn, s", "answer, s", "general kept",
        "unrelated perplexity", "kept, MB",
    ]  # fmt: skip
    assert [row[0] for row in rows] == [
        "rag", "ttt", "lora_per_document", "in_context", "full_finetune", "lora", "frozen",
    ]  # fmt: skip
    by = {row[0]: row[1:] for row in rows}
    assert by["rag"][0] == "**0.47** [0.37, 0.58]" and by["ttt"][0] == "0.34 [0.24, 0.45]"
    assert by["ttt"][4] == "**0.79**"
    assert by["rag"][3] == by["in_context"][3] == "**<0.01**", "values that read the same"
    assert by["frozen"][3] == "0.00", "who learns nothing is not the fastest to learn"


def test_markdown_says_how_it_was_measured() -> None:
    text = render_markdown(result()).partition("\n\n")[2]
    assert text.startswith("```\ncontinual-learning compare passages/")
    assert "20 documents (3,140 tokens), 100 questions from questions.jsonl" in text
    assert "smollm2-135m (135 M parameters); seed 0" in text
    assert "Xeon(R) CPU @ 2.60GHz, 2 cores, 2 threads, 25.3 GB" in text
    assert "2 h 16 min, started 2025-11-21 22:14 UTC" in text


def test_markdown_keeps_its_shape_whatever_the_names() -> None:
    given = {**result(strategies=1, documents=1), "command": "x ``` y\nz"}
    given["results"][0]["strategy"] = "a|b\n<i>*c*"
    text = render_markdown(given)
    assert "| a\\|b &lt;i>\\*c\\* |" in text
    assert "````\nx ``` y z\n````" in text


def test_columns_that_nobody_measured_are_left_out() -> None:
    head, _, row = table(render_markdown({"results": [{"strategy": "ttt", "recall": 0.5, "f1": None}]}))
    assert (head, row) == (["strategy", "recall"], ["ttt", "0.50"])


def test_the_best_of_a_column() -> None:
    recall, bytes_kept = columns.COLUMN["recall"], columns.COLUMN["bytes_kept"]
    labels = lambda column, found: {e.label for e in found if e.index in column.best(found)}  # noqa: E731
    assert labels(recall, compared(recall=[0.3, 0.301, 0.1])) == {"ttt", "rag"}
    assert labels(recall, compared(recall=[0.3, 0.3, 0.3])) == set()
    assert labels(recall, compared(recall=[0.3, None, math.nan])) == set()
    assert labels(bytes_kept, compared(bytes_kept=[5e6, 0, 9e6], tokens_learned=[10, 0, 10])) == {"ttt"}


def test_findings_say_where_a_baseline_wins() -> None:
    found = compared(
        recall=[0.34, 0.47, 0.40],
        recall_interval=[[0.24, 0.45], [0.36, 0.58], [0.1, 0.2]],
        answer_seconds=[0.79, 1.31, 1.0],
    )
    best = words.best(found)
    assert [(f.measure, f.baseline) for f in best] == [("Recall", True), ("Time to answer", False)]
    assert best[0].sentence == (
        "rag (baseline) is best with 0.47 [0.36, 0.58]; next is ace with 0.40 [0.10, 0.20] (the intervals are apart)."
    )
    assert best[1].sentence == "ttt is best with 0.79 s a question; next is ace with 1.00 s a question."
    assert words.summary(best) == (
        "A baseline is best on 1 of 2 measures. With draws counted for each: rag (baseline) on 1, ttt on 1."
    )


def test_findings_name_the_best_that_is_no_baseline() -> None:
    rows = [("rag", 0.5), ("lora", 0.4), ("ttt", 0.3), ("ace", 0.2)]
    found = columns.entries({"results": [{"strategy": n, "recall": r} for n, r in rows]})
    assert words.best(found)[0].sentence == (
        "rag (baseline) is best with 0.50; next is lora (baseline) with 0.40; "
        "the best that is no baseline is ttt with 0.30."
    )


def test_findings_of_a_draw() -> None:
    (finding,) = words.best(compared(recall=[0.5, 0.5, 0.1]))
    assert finding.sentence == "ttt and rag (baseline) are level with 0.50; next is ace with 0.10."
    assert not finding.baseline


def test_a_strategy_that_comes_twice_is_told_apart_by_its_settings() -> None:
    rows = [{"strategy": "ttt", "config": {"steps": n, "rate": 1}, "recall": n} for n in (2, 1)]
    rows += [{"strategy": "rag", "config": {}, "recall": 0}] * 2
    assert [e.label for e in columns.entries({"results": rows})] == [
        "ttt (steps=2)",
        "ttt (steps=1)",
        "rag #1",
        "rag #2",
    ]


def test_times_are_shown_in_utc() -> None:
    assert words.started({"started_at": "2025-11-22T00:14:03+02:00"}) == "2025-11-21 22:14 UTC"
    assert words.started({"started_at": "2025-11-21T22:14:03"}) == "2025-11-21 22:14 UTC"
    assert words.started({"started_at": "2025-11-21T22:14:03Z"}) == "2025-11-21 22:14 UTC"
    assert words.started({}) == ""


def test_csv_has_the_numbers_as_they_were_measured() -> None:
    given = result("stream", documents=2)
    rows = list(csv.DictReader(io.StringIO(render_csv(given))))
    assert [row["strategy"] for row in rows] == [row["strategy"] for row in given["results"]]
    for row, wanted in zip(rows, given["results"], strict=True):
        for name in columns.COLUMN:
            value = wanted.get(name)  # some protocols have columns of their own
            assert row[name] == ("" if value is None else repr(value)), name
        low, high = wanted["recall_interval"] or ("", "")
        assert (row["recall_interval_low"], row["recall_interval_high"]) == (str(low), str(high))
        assert json.loads(row["config"]) == wanted["config"]


def test_csv_columns_do_not_depend_on_what_was_measured() -> None:
    head = render_csv(result()).partition("\n")[0]
    assert render_csv({"results": [{"strategy": "ttt"}]}).splitlines() == [head, "ttt" + "," * head.count(",") + "{}"]
    assert head.startswith(
        "strategy,label,recall,recall_interval_low,recall_interval_high,f1,f1_interval_low,f1_interval_high,"
    )


def test_csv_of_not_a_number_is_empty() -> None:
    (row,) = csv.DictReader(io.StringIO(render_csv({"results": [{"strategy": "ttt", "recall": math.nan}]})))
    assert row["recall"] == ""


def test_answers_csv_has_a_row_an_answer() -> None:
    given = result(documents=2, strategies=2, seeds=2)
    given["results"][0]["answers"][0]["text"] = 'two\nlines, and "quotes"'
    rows = list(csv.DictReader(io.StringIO(render_answers_csv(given))))
    wanted = [(r["strategy"], a) for r in given["results"] for a in r["answers"]]
    assert len(rows) == len(wanted) == 40
    for row, (strategy, answer) in zip(rows, wanted, strict=True):
        assert (row["strategy"], row["question"], row["text"]) == (strategy, answer["question"], answer["text"])
        assert (json.loads(row["answers"]), row["right"], row["seed"]) == (
            answer["answers"], str(answer["right"]), str(answer["seed"]),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "start"), [(".html", "<!DOCTYPE"), (".MD", "| strategy"), (".csv", "strategy,"), (".json", "{\n")]
)
def test_the_suffix_says_what_is_written(tmp_path: Path, suffix: str, start: str) -> None:
    path = tmp_path / f"report{suffix}"
    assert write_report(result(documents=1), path) == path
    assert path.read_text(encoding="utf-8").startswith(start)
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing is left aside"


def test_json_is_the_whole_result(tmp_path: Path) -> None:
    given = result("stream", documents=2)
    assert json.loads(write_report(given, tmp_path / "r.json").read_text(encoding="utf-8")) == given
    given["seconds"] = math.nan
    assert json.loads(write_report(given, tmp_path / "r.json").read_text(encoding="utf-8"))["seconds"] is None


@pytest.mark.parametrize("name", ["report.pdf", "report", "report.html.zip"])
def test_another_suffix_is_an_error_that_lists_those_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"suffix .* expected one of \.html, \.md, \.csv, \.json$"):
        write_report(result(documents=1), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_report_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.md"
    path.write_text("old", encoding="utf-8")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageError, match=r"r\.md: cannot be written: the disk is full \(No space left on device\); "):
        write_report(result(documents=1), path)
    assert path.read_text(encoding="utf-8") == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        write_report(result(documents=1), tmp_path / "missing" / "r.html")
    assert "\n" not in str(error.value) and "cannot be written" in str(error.value)


def test_refused_documents_are_counted_over_the_seeds() -> None:
    (entry,) = columns.entries({"results": [{"strategy": "ttt", "refused": 2, "documents": 4, "seeds": [{}, {}, {}]}]})
    assert words.verdict(entry) == "2 of 12 documents refused."


def test_frozen_is_not_reproached_with_refusing() -> None:
    rows = [
        {"strategy": name, "refused": 4, "documents": 4, "notes": ["refused: x", "y"]} for name in ("frozen", "ttt")
    ]
    frozen, ttt = columns.entries({"results": rows})
    assert "refused" not in words.verdict(frozen) and frozen.data["notes"] == ["y"]
    assert "refused" in words.verdict(ttt) and ttt.data["notes"] == ["refused: x", "y"]


def test_several_bases_are_compared_each_by_itself_and_then_by_what_means_the_same_on_all() -> None:
    one = result(strategies=4, documents=4)
    rows = [{**row, "model": model} for model in ("a/one", "b/two") for row in one["results"]]
    for row in rows[4:]:
        row |= {"recall": row["recall"] / 2, "f1": 2 * row["f1"], "general_kept": 0.5}
    both = {**one, "results": rows, "models": [{"name": "a/one", "parameters": 1e8}, {"name": "b/two"}]}
    del both["model"]
    entries = columns.entries(both)
    assert [e.label for e in entries[:4]] == [f"{name} on one" for name in ("rag", "ttt", "in_context", "frozen")]
    found = {c.heading: {f.measure: f.sentence for f in c.findings} for c in words.comparisons(entries)}
    assert list(found) == ["On one", "On two", "Across the base models"]
    assert found["On two"]["Recall"].startswith("rag (baseline) is best with 0.23")
    assert "General questions kept" in found["On one"] and "Perplexity of unrelated text" in found["On one"]
    across = found["Across the base models"]
    assert across["Recall"].startswith("rag on one (baseline) is best with 0.47")
    assert across["Token F1"].startswith("rag on two (baseline) is best with 0.82")
    assert not {"General questions kept", "Perplexity of unrelated text"} & set(across)
    _, _, *cells = table(render_markdown(both))
    assert [row[:3] for row in cells if "**" in row[2]] == [
        ["rag", "one", "**0.47** [0.37, 0.58]"], ["rag", "two", "**0.23** [0.37, 0.58]"]
    ]  # fmt: skip
    assert words.data(both).endswith("a/one (100 M parameters), b/two; seed 0")
    same = {**both, "models": [{"name": "a/one"}, {"name": "b/one"}]}
    assert columns.model_names(same) == {"a/one": "a/one", "b/one": "b/one"}
