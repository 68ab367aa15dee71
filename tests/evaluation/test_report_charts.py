from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from report_results import result

from continual_learning.evaluation.report import charts
from continual_learning.evaluation.report.columns import entries

pytestmark = pytest.mark.slow

NAMES = "ttt rag in_context frozen lora lora_per_document full_finetune replay doc2lora ace".split()


def rows(**columns: list[Any]) -> list[Any]:
    """Entries with these values, one list a column."""
    names = list(columns)
    found = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return entries({"results": [{"strategy": name, **row} for name, row in zip(NAMES, found, strict=False)]})


def marks(picture: str) -> list[tuple[float, float]]:
    """Where the marks of a chart are: ends of intervals are drawn on the same x."""
    uses = (
        node for node in ElementTree.fromstring(picture).iter("use") if re.match(r"var\(--s\d", node.get("stroke", ""))
    )
    return [(float(node.get("x", 0)), float(node.get("y", 0))) for node in uses]


def test_every_strategy_is_drawn_and_described() -> None:
    given = entries(result())
    chart = charts.recall_against_seconds(given)
    assert chart and list(chart.entries) == given
    assert "ttt: recall 0.34 [0.24, 0.45] after 21.0 s" in chart.wide
    for picture in (chart.wide, chart.narrow):
        assert all(f"var(--s{i})" in picture for i in range(7))
        width, height = map(float, ElementTree.fromstring(picture).get("viewBox", "").split()[2:])
        assert all(0 < x < width and 0 < y < height for x, y in marks(picture))


def test_the_same_result_gives_the_same_markup_and_no_two_pictures_share_ids() -> None:
    given = entries(result("stream"))
    pictures = [
        p for c in (charts.recall_against_seconds(given), charts.retention(given)) if c for p in (c.wide, c.narrow)
    ]
    again = [
        p for c in (charts.recall_against_seconds(given), charts.retention(given)) if c for p in (c.wide, c.narrow)
    ]
    assert pictures == again
    ids = [name for picture in pictures for name in re.findall(r'\bid="([^"]*)"', picture)]
    assert len(ids) == len(set(ids)) > 0
    assert not re.search(r"style|url\(|https?:|clip-path", "".join(pictures))


def test_the_colours_are_the_page_s_own() -> None:
    chart = charts.retention(entries(result("stream", documents=5)))
    assert chart and not re.search(r"#[0-9a-f]{6}", chart.wide.replace("#000000", ""))


def test_strategies_that_learn_in_no_time_are_told_apart() -> None:
    chart = charts.recall_against_seconds(rows(recall=[0.2] * 4, learn_seconds=[0.0, 0.0, 0.0001, 100.0]))
    assert chart
    for picture in (chart.wide, chart.narrow):
        places = sorted({round(x) for x, _ in marks(picture)})
        assert len(places) == 4 and all(b - a >= 10 for a, b in pairwise(places))


def test_who_was_not_timed_is_named_and_not_drawn() -> None:
    chart = charts.recall_against_seconds(rows(recall=[0.5, 0.25], learn_seconds=[10.0, None]))
    assert chart and "rag" not in chart.wide and chart.remark.endswith("measured: rag.")
    assert charts.recall_against_seconds(rows(recall=[None], learn_seconds=[1.0])) is None


def test_baselines_are_hollow_and_dashed() -> None:
    for name, baseline in (("ttt", False), ("rag", True)):
        chart = charts.retention(
            entries(
                {"results": [{"strategy": name, "retention_curve": [{"distance": d, "recall": 0.5} for d in (0, 1)]}]}
            )
        )
        assert chart
        assert ("stroke-dasharray" in chart.wide) == baseline == ('fill="var(--page)"' in chart.wide)


def test_a_curve_leaves_out_what_was_not_measured() -> None:
    points = [{"distance": 2, "recall": 0.1}, {"distance": 0, "recall": 0.5}, {"distance": 1, "recall": None}]
    (entry,) = rows(retention_curve=[points])
    assert charts.curve(entry) == [(0, 0.5), (2, 0.1)]


def test_small_matrix_has_a_square_a_measured_cell() -> None:
    picture = charts.small_matrix([[0.0, 0.0], [1.0, None], [0.5, 1.0]], '<"ttt">')
    root = ElementTree.fromstring(picture)
    squares = {n.get("class"): re.findall(r"M(\d) (\d)", n.get("d", "")) for n in root.iter("path")}
    assert squares == {"h0": [("0", "0"), ("1", "0")], "h5": [("0", "2")], "h10": [("0", "1"), ("1", "2")]}
    assert root.get("aria-label") == '<"ttt">'


def test_no_two_of_many_strategies_have_the_same_sign() -> None:
    given = rows(recall=[0.1] * len(NAMES))
    assert len({(charts.sign(entry), charts.colour(entry)) for entry in given}) == len(NAMES)


@pytest.mark.slow
def test_matplotlib_is_imported_for_a_chart_alone() -> None:
    code = "import sys, continual_learning.evaluation.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
