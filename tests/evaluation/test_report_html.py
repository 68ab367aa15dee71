from __future__ import annotations

import base64
import copy
import hashlib
import math
import re
from typing import Any

import pytest
from report_page import Node, read
from report_results import result

from continual_learning.evaluation.report import columns, render_html

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}</style></svg>"


def emptied(value: Any) -> Any:
    """The same result with nothing measured."""
    if isinstance(value, dict):
        return {key: emptied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [emptied(item) for item in value]
    return None if isinstance(value, int | float) and not isinstance(value, bool) else value


def without(found: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**found, "results": [{**row, **changes} for row in found["results"]]}


CASES: dict[str, dict[str, Any]] = {
    "compare": result("compare"),
    "squad": result("squad", documents=3),
    "stream": result("stream"),
    "needle": result("needle", documents=2, seeds=3),
    "one strategy": result("stream", strategies=1, documents=1),
    "no strategy": result("compare", strategies=0),
    "no answers": without(result("compare"), answers=[]),
    "nothing measured": emptied(result("stream", documents=3)),
    "not numbers": without(result("compare", documents=2), recall=math.nan, learn_seconds=math.inf, f1=None),
    "bare": {"results": [{"strategy": "ttt"}]},
    "same strategy twice": {**result(), "results": [result()["results"][0]] * 2},
    "unknown protocol": result("duel", documents=2),
}


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "_"))
def case(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Node, str]:
    """A result, its page and the page's source."""
    html = render_html(CASES[request.param])
    return CASES[request.param], read(html), html


def test_the_reader_refuses_what_is_not_well_formed() -> None:
    for bad in ("<p><b></p></b>", "<div>", "<i id=a></i><i id=a></i>", "<p x=1 x=2></p>", "<td></td>"):
        with pytest.raises(AssertionError):
            read(f"<!DOCTYPE html>\n{bad}")


def test_pages_are_whole_and_lead_nowhere_else(case: tuple[dict[str, Any], Node, str]) -> None:
    _, page, html = case
    assert page.one("html").attributes["lang"] == "en"
    assert not re.search(r"https?:|//\w|@import|url\(|\bsrc=", html, re.IGNORECASE)
    assert not page.all("link") + page.all("iframe") + page.all("img")
    ids = {node.attributes["id"] for node in page.all() if "id" in node.attributes}
    for node in page.all("a"):
        assert (node.attributes["href"] or "").removeprefix("#") in ids
    for node in page.all():
        assert node.attributes.get("aria-labelledby", "results") in {*ids, "results"}
        assert not any(name.startswith("on") or name == "style" for name in node.attributes)


def test_tables_have_scopes_and_pictures_have_names(case: tuple[dict[str, Any], Node, str]) -> None:
    _, page, _ = case
    for head in page.all("th"):
        assert head.attributes["scope"] in ("col", "row")
    for table in page.all("table"):
        widths = {len(row.children) for row in table.all("tr")}
        assert len(widths) == 1, "rows of different lengths"
    for picture in page.all("svg"):
        named = picture.attributes.get("role") == "img" and picture.attributes.get("aria-label")
        assert named or picture.attributes.get("aria-hidden") == "true"
    sections = page.all("section")
    assert [s.all("h2")[0].attributes["id"] for s in sections] == [s.attributes["aria-labelledby"] for s in sections]


def test_what_was_not_measured_is_a_dash(case: tuple[dict[str, Any], Node, str]) -> None:
    _, page, _ = case
    words = re.findall(r"[\w.]+", " ".join(node.text for node in page.all("main") + page.all("header")))
    assert not {"None", "nan", "NaN", "inf", "Infinity", "null"} & set(words)
    for number in page.one(id="results").all("td"):
        assert re.fullmatch(r"–|[<+−]?[\d.,]+%?( \[.*\])?", number.text)


def test_every_number_of_the_results_stands_in_the_table(case: tuple[dict[str, Any], Node, str]) -> None:
    given, page, _ = case
    rows = page.one(id="results").all("tbody")[0].all("tr")
    entries = columns.entries(given)
    assert len(rows) == len(entries)
    for row, entry in zip(rows, entries, strict=True):
        shown = columns.visible(entries)
        for column, cell in zip(shown, row.all("td"), strict=True):
            assert cell.text == f"{column.cell(entry)} {column.bracket(entry)}".strip()
            raw = cell.attributes.get("data-value")
            assert (None if raw is None else float(raw)) == entry.value(column.name)


def test_known_numbers() -> None:
    page = read(render_html(result()))
    heads = [head.text for head in page.one(id="results").all("thead")[0].all("th")]
    assert heads[:6] == ["strategy", "recall", "token F1", "exact match", "learn s a document", "answer s a question"]
    row = {r.all("th")[0].text: [c.text for c in r.all("td")] for r in page.one(id="results").all("tr")[1:]}
    assert row["ttt"][:5] == ["0.34 [0.24, 0.45]", "0.14 [0.11, 0.18]", "0.05", "21.0", "0.79"]
    assert row["ttt"][5:8] == ["99.2%", "+0.0%", "53.2"]
    assert row["frozen baseline"][0] == "0.00"
    bold = [(r.all("th")[0].text, s.text) for r in page.one(id="results").all("tr") for s in r.all("strong")]
    assert ("rag baseline", "0.47") in bold and ("ttt", "0.79") in bold
    assert not [who for who, text in bold if who.startswith("frozen")]


def test_verdict_is_a_sentence_a_strategy() -> None:
    found = {
        v.all(kind="name")[0].text: v.one(kind="sentence").text
        for v in read(render_html(result())).all("li")
        if v.all(kind="sentence")
    }
    assert len(found) == 7
    assert found["ttt"].startswith("recall 0.34 [0.24, 0.45], token F1 0.14 [0.11, 0.18]; 21.0 s to learn a document")
    assert "1 of 20 documents refused" in found["ttt"]
    assert "nothing was learned" in found["frozen"] and "general questions" not in found["frozen"]


def test_untrusted_text_is_inert() -> None:
    found = copy.deepcopy(result("stream", strategies=2, documents=2, seeds=2))
    found["command"] = found["dataset"]["source"] = found["machine"]["cpu"] = found["model"]["name"] = HOSTILE
    found["notes"] = [HOSTILE]
    found["settings"] = {HOSTILE: HOSTILE}
    for row in found["results"]:
        row["strategy"] += HOSTILE
        row["config"] = {HOSTILE: HOSTILE}
        row["notes"] = [HOSTILE]
        for answer in row["answers"]:
            answer |= {key: HOSTILE for key in ("document", "title", "question", "text")}
            answer |= {"answers": [HOSTILE], "right": True, "notes": [HOSTILE], "seed": HOSTILE}
    html = render_html(found)
    page = read(html)
    script = page.one("script")
    digest = base64.b64encode(hashlib.sha256(script.raw.encode()).digest()).decode()
    policy = next(m.attributes["content"] for m in page.all("meta") if "http-equiv" in m.attributes)
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert html.count("<script>") == 1 and not page.all("img") and len(page.all("style")) == 1
    assert page.one(id="answers").all("bdi", kind="question")[0].raw == HOSTILE
    assert HOSTILE in page.one(id="configuration").text and HOSTILE in page.one(id="run").text


def test_control_characters_and_halves_of_characters_do_not_break_the_page() -> None:
    found = result(documents=1, strategies=1)
    found["results"][0]["answers"][0]["text"] = "a\x00b\x1b[31mc\ud83d \u202eright to left"
    page = read(render_html(found))
    given = page.one(id="answers").all(kind="given")[0]
    assert "ab[31mc? \u202eright to left" in given.raw
    # isolated, so that a direction mark in one answer does not turn the rest of the page
    assert given.all("bdi")[0].raw.startswith("ab")


def test_answers_stand_side_by_side() -> None:
    given = result(documents=2, strategies=3)
    page = read(render_html(given))
    documents = page.one(id="answers").all("details", kind="document")
    assert [d.one(kind="document-title").text for d in documents] == [
        "Saltmarsh of Oren 5 questions",
        "Hallow Bridge 5 questions",
    ]
    rows = [row for d in documents for row in d.all("tbody")[0].all("tr")]
    assert len(rows) == 10
    order = [entry.data for entry in columns.entries(given)]
    for i, row in enumerate(rows):
        right = [strategy["answers"][i]["right"] for strategy in order]
        assert [cell.one(kind="given").attributes["class"] for cell in row.all("td")] == [
            f"given {'right' if r else 'wrong'}" for r in right
        ]
        for cell, r, strategy in zip(row.all("td"), right, order, strict=True):
            assert cell.text.startswith("✓right:" if r else "✗wrong:")
            assert strategy["answers"][i]["text"] in cell.text
            assert [mark.text for mark in cell.all("mark")] == (strategy["answers"][i]["answers"][:1] if r else [])
        assert ("same" in (row.attributes.get("class") or "")) == (len(set(right)) == 1)
    assert {s for d in documents for s in [d.all(kind="score")[0].text]} == {
        f"{order[0]['strategy']} {sum(a['right'] for a in order[0]['answers'][at : at + 5])}/5" for at in (0, 5)
    }


def test_answers_of_several_seeds_in_the_same_words_are_shown_once() -> None:
    given = result(documents=1, strategies=1, seeds=3)
    for answer in given["results"][0]["answers"]:
        answer |= {"text": "same" if answer["seed"] else "other", "right": False}
    cell = read(render_html(given)).one(id="answers").all("td")[0]
    assert [g.one("bdi").text for g in cell.all(kind="given")] == ["other", "same"]
    assert [g.one(kind="f1").text.partition(" · ")[2] for g in cell.all(kind="given")] == ["", "2 runs"]


def test_one_question_a_document_does_not_fold_each_of_them() -> None:
    page = read(render_html(result("needle", documents=60)))
    documents = page.one(id="answers").all("details", kind="document")
    assert [d.one(kind="document-title").text for d in documents] == [
        "Questions 1 to 50 50 questions", "Questions 51 to 60 10 questions",
    ]  # fmt: skip
    assert documents[0].all(kind="about")[1].text == "Hallow Bridge"


def test_questions_about_all_documents_have_a_heading() -> None:
    given = result(documents=2, strategies=1)
    for answer in given["results"][0]["answers"][:5]:
        answer |= {"document": "", "title": ""}
    page = read(render_html(given))
    assert page.one(id="answers").all(kind="document-title")[0].text == "All documents 5 questions"


def test_many_questions_are_folded_by_document() -> None:
    few, many = (read(render_html(result(documents=n, strategies=2))) for n in (4, 40))
    assert [("open" in d.attributes) for d in few.all("details", kind="document")] == [True] * 4
    assert [("open" in d.attributes) for d in many.all("details", kind="document")] == [True] + [False] * 39


def test_matrix_and_curve_are_there_in_numbers() -> None:
    given = result("stream", documents=4)
    page = read(render_html(given))
    tables = page.one(id="stream").all("table", kind="heat")
    order = [entry.data for entry in columns.entries(given)]
    for table, row in zip(tables, order, strict=True):
        shown = [[cell.text for cell in line.all("td")] for line in table.all("tr")[1:]]
        assert shown == [[f"{value:.2f}" for value in line] for line in row["matrix"]]
        assert [line.all("th")[0].text for line in table.all("tr")] == ["after", "base", "1", "2", "3", "4"]
        for i, line in enumerate(table.all("tr")[1:]):
            assert [("just" in (c.attributes["class"] or "").split()) for c in line.all("td")] == [
                j == i - 1 for j in range(4)
            ]
    numbers = page.one(id="stream").one("table", kind="numbers")
    assert [c.text for c in numbers.all("tr")[1].all("td")] == [
        f"{p['recall']:.2f}" for p in order[0]["retention_curve"]
    ]


def test_needles_by_length_and_depth() -> None:
    given = result("needle", strategies=1, documents=1)
    table = read(render_html(given)).one(id="needle").one("table")
    assert [h.text for h in table.all("tr")[0].all("th")] == ["depth", "500", "1,000", "2,000", "4,000"]
    assert [line.all("th")[0].text for line in table.all("tr")[1:]] == ["0%", "25%", "50%", "75%", "100%"]
    found = {(n["tokens"], n["depth"]): n["recall"] for n in given["results"][0]["needles"]}
    assert [c.text for c in table.all("tr")[2].all("td")] == [f"{found[t, 0.25]:.2f}" for t in (500, 1000, 2000, 4000)]


def test_recall_by_seed() -> None:
    given = result(strategies=2, documents=1, seeds=3)
    table = read(render_html(given)).one(id="seeds").one("table")
    for line, entry in zip(table.all("tr")[1:], columns.entries(given), strict=True):
        recalls = [seed["recall"] for seed in entry.data["seeds"]]
        assert [c.text for c in line.all("td")] == [f"{r:.2f}" for r in (*recalls, max(recalls) - min(recalls))]
    assert not read(render_html(result(documents=1))).all(id="seeds")


def test_sections_without_anything_to_say_are_left_out() -> None:
    page = read(render_html(CASES["bare"]))
    assert {s.attributes["id"] for s in page.all("section")} == {"verdict", "results", "configuration", "run"}
    assert {a.attributes["href"] for a in page.one("nav").all("a")} == {
        "#verdict",
        "#results",
        "#configuration",
        "#run",
    }
