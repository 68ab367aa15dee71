"""The charts of a report, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from continual_learning.evaluation.report import svg
from continual_learning.evaluation.report.columns import COLUMN, Entry
from continual_learning.evaluation.report.formats import number, ratio, seconds
from continual_learning.evaluation.report.layout import (
    LABEL_HEIGHT,
    Box,
    Scale,
    place_labels,
    round_up,
    spread,
    text_width,
)

WIDE, NARROW = (880, 400), (380, 380)
_TOP, _BOTTOM, _LEFT = 30, 48, 42
# A strategy that is this many times faster than the slowest costs next to nothing on any axis.
_LARGEST_RATIO, _LINEAR_RATIO = 3000, 30


@dataclass(frozen=True)
class Chart:
    """A picture for wide and one for narrow pages, with a remark to stand below."""

    wide: str
    narrow: str
    remark: str = ""


def recall_against_seconds(entries: Sequence[Entry]) -> Chart | None:
    """Recall against seconds to learn a document, with intervals; None when nobody has both."""
    drawn = [e for e in entries if e.value("recall") is not None and _learn_seconds(e) is not None]
    if not drawn:
        return None
    left_out = [e.label for e in entries if e not in drawn]
    remark = f"Not drawn, for recall or seconds were not measured: {', '.join(left_out)}." if left_out else ""
    return Chart(svg.source(_scatter(drawn, *WIDE)), svg.source(_scatter(drawn, *NARROW)), remark)


def retention(entries: Sequence[Entry]) -> Chart | None:
    """Recall against the number of documents learned since; None when no strategy has a curve."""
    curves = {e.index: points for e in entries if (points := curve(e))}
    if not curves:
        return None
    drawn = [e for e in entries if e.index in curves]
    return Chart(*(svg.source(_curves(drawn, curves, *size)) for size in (WIDE, NARROW)))


def curve(entry: Entry) -> list[tuple[int, float]]:
    """Distance and recall of a retention curve, nearest first, without the points that were not measured."""
    points = [(number(p.get("distance")), number(p.get("recall"))) for p in entry.data.get("retention_curve") or ()]
    return sorted((int(d), r) for d, r in points if d is not None and r is not None)


def interval_bar(entry: Entry, high: float) -> str:
    """Recall and its interval on a line from 0 to ``high``, to stand beside the numbers."""
    width, height, middle = 140, 18, 9.0
    scale = Scale(0, high, 7, width - 7)
    parts = [svg.line(7, middle, width - 7, middle, "track")]
    if bounds := entry.bounds("recall_interval"):
        parts.append(svg.line(scale(bounds[0]), middle, scale(bounds[1]), middle, f"bar s{entry.index % svg.COLOURS}"))
    recall = entry.value("recall")
    if recall is not None:
        parts.append(svg.marker(entry.index, scale(recall), middle, entry.baseline, 4.5))
    attributes = {"class": "interval-bar", "viewBox": f"0 0 {width} {height}", "aria-hidden": "true"}
    return svg.source(svg.element("svg", attributes, *parts))


def sign(entry: Entry) -> str:
    """The strategy's marker alone, for keys."""
    attributes = {"class": "sign", "viewBox": "0 0 16 16", "aria-hidden": "true"}
    return svg.source(svg.element("svg", attributes, svg.marker(entry.index, 8, 8, entry.baseline)))


def small_matrix(matrix: Sequence[Sequence[Any]], label: str) -> str:
    """A matrix of recalls without numbers: one square each, darker is higher."""
    paths: dict[int, list[str]] = {}
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            if (found := number(value)) is not None:
                paths.setdefault(heat_step(found), []).append(f"M{j} {i}h1v1h-1z")
    width, height = max((len(row) for row in matrix), default=0), len(matrix)
    squares = [svg.element("path", {"d": "".join(d), "class": f"h{step}"}) for step, d in sorted(paths.items())]
    return svg.source(svg.drawing(width, height, label, squares, "small-matrix"))


def heat_step(recall: float) -> int:
    """Which of the eleven heat colours: 0 for recall 0, 10 for 1."""
    return min(10, max(0, round(recall * 10)))


def recall_limit(entries: Sequence[Entry]) -> float:
    """Where an axis of recall ends: a round number that holds every interval."""
    highest = [e.value("recall") or 0 for e in entries] + [b[1] for e in entries if (b := e.bounds("recall_interval"))]
    return min(1.0, round_up(max(highest))) if max(highest, default=0) > 0 else 1.0


def _learn_seconds(entry: Entry) -> float | None:
    return 0.0 if entry.idle else entry.value("learn_seconds")


def _scatter(entries: Sequence[Entry], width: int, height: int) -> Element:
    labels = [entry.label for entry in entries]
    # Room for a label at the right of the slowest, where the page is wide enough.
    bottom, right = height - _BOTTOM, width - (14 if width < 500 else min(140.0, max(map(text_width, labels))))
    recalls = [entry.value("recall") or 0.0 for entry in entries]
    up = Scale(0, recall_limit(entries), bottom, _TOP)
    xs, axis = _seconds_axis([_learn_seconds(entry) or 0.0 for entry in entries], right, bottom)
    parts = [*_recall_grid(up, right), *axis, svg.text(right, height - 8, "seconds to learn a document", "axis", "end")]
    marks, bars = [], []
    for entry, x, recall in zip(entries, xs, recalls, strict=True):
        colour = f"s{entry.index % svg.COLOURS}"
        if bounds := entry.bounds("recall_interval"):
            low, high = up(bounds[0]), up(bounds[1])
            bars.append(Box(x - 4, high, x + 4, low))
            parts += [
                svg.line(x, low, x, high, f"bar {colour}"),
                *(svg.line(x - 3.5, y, x + 3.5, y, f"bar {colour}") for y in (low, high)),
            ]
        marks.append(svg.marker(entry.index, x, up(recall), entry.baseline))
        marks[-1].append(svg.element("title", text=_said(entry)))
    parts += marks
    anchors = [(x, up(recall)) for x, recall in zip(xs, recalls, strict=True)]
    room = Box(_LEFT + 2, 14, width - 2, bottom - 2)
    for label, (x, y), box in zip(labels, anchors, place_labels(labels, anchors, bars, room), strict=True):
        parts += svg.leader(box, x, y, 16)
        # Text is as wide as it is, and no wider than its box: it stands at the side of the box that the mark is on.
        side, at = ("start", box.left) if box.left > x else ("end", box.right) if box.right < x else ("middle", None)
        middle = (box.left + box.right) / 2 if at is None else at
        parts.append(svg.text(middle, box.bottom - 4, label, "label", side))
    said = "; ".join(_said(entry) for entry in entries)
    return svg.drawing(width, height, f"Recall against seconds to learn a document. {said}.", parts)


def _seconds_axis(values: Sequence[float], right: float, bottom: float) -> tuple[list[float], list[Element]]:
    """Where the values stand, and the axis: linear, or logarithmic with a place of its own for next to nothing."""
    positive = [value for value in values if value > 0]
    start = _LEFT + 26.0
    if not positive or max(positive) < _LINEAR_RATIO * min(positive):
        high = round_up(max(positive, default=1.0))
        scale = Scale(0, high, start, right - 20)
        xs = spread([scale(value) for value in values], 9, start)
        return xs, [*_ticks(scale, bottom), svg.line(_LEFT, bottom, right, bottom, "rule")]
    least = 10.0 ** math.floor(math.log10(max(min(positive), max(positive) / _LARGEST_RATIO)))
    most = 10.0 ** math.ceil(math.log10(max(positive)))
    nothing = [value for value in values if value < least]
    lane = start + 26 * max(1, min(len(nothing), 4)) if nothing else start
    scale = Scale(least, most, lane + 24 if nothing else start, right - 12, logarithmic=True)
    xs = [scale(value) if value >= least else (start + lane) / 2 - 13 for value in values]
    within = spread([x for x, v in zip(xs, values, strict=True) if v < least], 22, start - 12)
    beyond = spread([x for x, v in zip(xs, values, strict=True) if v >= least], 9, scale.start, right - 4)
    xs = [within.pop(0) if value < least else beyond.pop(0) for value in values]
    axis = [*_ticks(scale, bottom), svg.line(scale.start - 6, bottom, right, bottom, "rule")]
    if nothing:
        text = "0" if not any(nothing) else f"<{scale.ticks()[0][1]}"
        axis.append(svg.line(_LEFT, bottom, lane, bottom, "rule"))
        axis.append(svg.text((_LEFT + lane) / 2, bottom + 17, text, "tick", "middle"))
    return xs, axis


def _curves(
    entries: Sequence[Entry], curves: Mapping[int, list[tuple[int, float]]], width: int, height: int
) -> Element:
    bottom = height - _BOTTOM
    right = width - 26 - max(text_width(entry.label) for entry in entries)
    farthest = max(d for points in curves.values() for d, _ in points)
    highest = max(r for points in curves.values() for _, r in points)
    up = Scale(0, min(1.0, round_up(highest)) if highest > 0 else 1.0, bottom, _TOP)
    along = Scale(0, max(1, farthest), _LEFT + 12, right)
    every = max(1, math.ceil(farthest / ((right - _LEFT) / 34)))
    parts = [*_recall_grid(up, right), svg.line(_LEFT, bottom, right, bottom, "rule")]
    parts += [svg.text(along(d), bottom + 17, str(d), "tick", "middle") for d in range(0, farthest + 1, every)]
    parts.append(svg.text(right, height - 8, "documents learned since", "axis", "end"))
    ends = [curves[entry.index][-1] for entry in entries]
    heights = spread([up(recall) for _, recall in ends], LABEL_HEIGHT, 18, bottom + 4)
    for entry, (distance, recall), label_y in zip(entries, ends, heights, strict=True):
        colour = f"s{entry.index % svg.COLOURS}"
        points = [(along(d), up(r)) for d, r in curves[entry.index]]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        kind = f"curve {colour}{' dashed' if entry.baseline else ''}"
        group = [svg.element("polyline", {"points": path, "class": kind})]
        group += [svg.element("circle", {"cx": x, "cy": y, "r": 2.2, "class": f"dot {colour}"}) for x, y in points[:-1]]
        group.append(svg.line(along(distance) + 6, up(recall), right + 16, label_y, "leader"))
        group.append(svg.marker(entry.index, along(distance), up(recall), entry.baseline, 4.5))
        group.append(svg.text(right + 20, label_y + 4, entry.label, "label"))
        parts.append(svg.element("g", {"class": "series"}, *group))
    said = "; ".join(
        f"{e.label}: {ratio(curves[e.index][0][1])} at {curves[e.index][0][0]}, {ratio(recall)} at {distance}"
        for e, (distance, recall) in zip(entries, ends, strict=True)
    )
    return svg.drawing(width, height, f"Recall against documents learned since. {said}.", parts)


def _recall_grid(up: Scale, right: float) -> list[Element]:
    parts = [svg.text(2, 12, "recall", "axis")]
    for value, text in up.ticks():
        parts.append(svg.line(_LEFT, up(value), right, up(value), "grid"))
        parts.append(svg.text(_LEFT - 8, up(value) + 4, text, "tick", "end"))
    return parts


def _ticks(scale: Scale, bottom: float) -> list[Element]:
    parts = []
    for value, text in scale.ticks(6):
        parts.append(svg.line(scale(value), bottom, scale(value), bottom + 4, "rule"))
        parts.append(svg.text(scale(value), bottom + 17, text, "tick", "middle"))
    return parts


def _said(entry: Entry) -> str:
    recall, learn = COLUMN["recall"], _learn_seconds(entry)
    bracket = f" {recall.bracket(entry)}" if recall.bracket(entry) else ""
    return f"{entry.label}: recall {recall.cell(entry)}{bracket} after {seconds(learn or 0.0)} s"
