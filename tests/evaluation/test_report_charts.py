from __future__ import annotations

import itertools
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_results import result

from continual_learning.evaluation.report import charts, layout
from continual_learning.evaluation.report.columns import entries
from continual_learning.evaluation.report.layout import Box, Scale, place_labels, round_up, spread

NAMES = (
    "ttt",
    "rag",
    "in_context",
    "frozen",
    "lora",
    "lora_per_document",
    "full_finetune",
    "replay",
    "doc2lora",
    "ace",
)
ROOM = Box(44, 14, 866, 350)


def rows(**columns: list[Any]) -> list[Any]:
    """Entries with these values, one list a column."""
    names = list(columns)
    found = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return entries({"results": [{"strategy": name, **row} for name, row in zip(NAMES, found, strict=False)]})


def label_boxes(picture: str) -> dict[str, Box]:
    """Where the labels of a chart stand, at most as wide as a browser draws them."""
    found = {}
    for node in ElementTree.fromstring(picture).iter("text"):
        if node.get("class") == "label":
            x, y, width = float(node.get("x", 0)), float(node.get("y", 0)), layout.text_width(node.text or "")
            left = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[node.get("text-anchor", "start")] * width
            found[node.text or ""] = Box(left, y - 9, left + width, y + 3)
    return found


@given(st.lists(st.tuples(st.floats(70, 840), st.floats(40, 340)), min_size=1, max_size=len(NAMES)))
@settings(max_examples=60, deadline=None)
def test_labels_do_not_lie_on_one_another(anchors: list[tuple[float, float]]) -> None:
    placed = place_labels(NAMES[: len(anchors)], anchors, [], ROOM)
    assert all(not one.overlap(other) for one, other in itertools.combinations(placed, 2))
    assert all(box.inside(ROOM) for box in placed)


def test_labels_of_the_same_place_are_told_apart() -> None:
    placed = place_labels(NAMES[:7], [(70.0, 300.0)] * 7, [], ROOM)
    assert all(not one.overlap(other) for one, other in itertools.combinations(placed, 2))


def test_a_label_stands_beside_its_mark_where_there_is_room() -> None:
    (box,) = place_labels(["ttt"], [(400.0, 200.0)], [], ROOM)
    assert 407 < box.left < 412 and box.top < 200 < box.bottom


def test_a_label_keeps_off_the_error_bars() -> None:
    bars = [Box(410, 100, 418, 300)]
    (box,) = place_labels(["ttt"], [(400.0, 200.0)], bars, ROOM)
    assert not box.overlap(bars[0])


@given(st.lists(st.floats(0, 400), max_size=12))
@settings(max_examples=60, deadline=None)
def test_spread_keeps_the_order_and_the_gap(places: list[float]) -> None:
    found = spread(places, 15, 0, 400)
    assert all(-1e-6 <= place <= 400 + 1e-6 for place in found)
    for (a, x), (b, y) in itertools.combinations(zip(places, found, strict=True), 2):
        assert abs(x - y) >= 15 - 1e-6
        assert a == b or (a < b) == (x < y)


def test_spread_moves_nothing_that_is_far_enough_apart() -> None:
    assert spread([10, 50, 90], 15) == [10, 50, 90]
    assert spread([50, 50], 10) == [45, 55]


def test_ticks_are_round_and_hold_the_values() -> None:
    assert [text for _, text in Scale(0, 0.6, 0, 100).ticks()] == ["0.0", "0.2", "0.4", "0.6"]
    assert [text for _, text in Scale(0, 50, 0, 100).ticks()] == ["0", "10", "20", "30", "40", "50"]
    assert [text for _, text in Scale(0.01, 100, 0, 100, True).ticks()] == ["0.01", "0.1", "1", "10", "100"]
    assert round_up(0.58) == pytest.approx(0.6) and round_up(48.7) == 50 and round_up(1.0) == pytest.approx(1.0)
    assert Scale(0.01, 100, 0, 100, True)(1) == pytest.approx(50)


@pytest.mark.parametrize("size", ["wide", "narrow"])
def test_every_strategy_is_drawn_and_named(size: str) -> None:
    given = entries(result())
    chart = charts.recall_against_seconds(given)
    assert chart
    picture = getattr(chart, size)
    boxes = label_boxes(picture)
    assert set(boxes) == {entry.label for entry in given}
    assert all(not one.overlap(other) for one, other in itertools.combinations(boxes.values(), 2))
    width, height = map(float, ElementTree.fromstring(picture).get("viewBox", "").split()[2:])
    assert all(box.inside(Box(0, 0, width, height)) for box in boxes.values())
    assert picture.count("<title>") == 7 and "ttt: recall 0.34 [0.24, 0.45] after 21.0 s" in picture


def test_marks_stand_where_the_numbers_say() -> None:
    chart = charts.recall_against_seconds(rows(recall=[0.5, 0.25], learn_seconds=[10.0, 20.0]))
    assert chart
    (circle,) = ElementTree.fromstring(chart.wide).iter("circle")
    (square,) = (node for node in ElementTree.fromstring(chart.wide).iter("rect"))
    ticks = {
        n.text: float(n.get("x", 0))
        for n in ElementTree.fromstring(chart.wide).iter("text")
        if n.get("class") == "tick"
    }
    assert float(circle.get("cx", 0)) == pytest.approx(ticks["10"], abs=0.1)
    assert float(square.get("x", 0)) + 4.5 == pytest.approx(ticks["20"], abs=0.1)
    grid = [float(n.get("y1", 0)) for n in ElementTree.fromstring(chart.wide).iter("line") if n.get("class") == "grid"]
    assert float(circle.get("cy", 0)) == pytest.approx(min(grid), abs=0.1)


def test_next_to_nothing_has_a_place_of_its_own_on_a_logarithmic_axis() -> None:
    chart = charts.recall_against_seconds(rows(recall=[0.1, 0.2, 0.3, 0.4], learn_seconds=[0.0, 0.0001, 1.0, 100.0]))
    assert chart
    ticks = [n.text for n in ElementTree.fromstring(chart.wide).iter("text") if n.get("class") == "tick"]
    assert ticks[-1] == "<0.01" and "100" in ticks and "0" not in ticks


def test_who_was_not_timed_is_named_and_not_drawn() -> None:
    chart = charts.recall_against_seconds(rows(recall=[0.5, 0.25], learn_seconds=[10.0, None]))
    assert chart and "rag" not in chart.wide and chart.remark.endswith("measured: rag.")
    assert charts.recall_against_seconds(rows(recall=[None], learn_seconds=[1.0])) is None


def test_baselines_are_hollow_and_dashed() -> None:
    chart = charts.retention(entries(result("stream", documents=5)))
    assert chart
    for group in ElementTree.fromstring(chart.wide).iter("g"):
        label = next(n.text for n in group.iter("text"))
        kinds = " ".join(n.get("class", "") for n in group.iter())
        assert ("hollow" in kinds) == ("dashed" in kinds) == (label != "ttt")


@pytest.mark.parametrize("size", ["wide", "narrow"])
def test_names_of_curves_do_not_overlap(size: str) -> None:
    chart = charts.retention(entries(result("stream")))
    assert chart
    boxes = label_boxes(getattr(chart, size))
    assert len(boxes) == 7
    assert all(not one.overlap(other) for one, other in itertools.combinations(boxes.values(), 2))


def test_a_curve_leaves_out_what_was_not_measured() -> None:
    points = [{"distance": 2, "recall": 0.1}, {"distance": 0, "recall": 0.5}, {"distance": 1, "recall": None}]
    (entry,) = rows(retention_curve=[points])
    assert charts.curve(entry) == [(0, 0.5), (2, 0.1)]


def test_small_matrix_has_a_square_a_measured_cell() -> None:
    picture = charts.small_matrix([[0.0, 0.0], [1.0, None], [0.5, 1.0]], "ttt")
    squares = {
        n.get("class"): re.findall(r"M(\d) (\d)", n.get("d", "")) for n in ElementTree.fromstring(picture).iter("path")
    }
    assert squares == {"h0": [("0", "0"), ("1", "0")], "h5": [("0", "2")], "h10": [("0", "1"), ("1", "2")]}


def test_no_two_of_many_strategies_have_the_same_sign() -> None:
    signs = {charts.sign(entry).replace(" hollow", "") for entry in rows(recall=[0.1] * len(NAMES))}
    assert len(signs) == len(NAMES)
