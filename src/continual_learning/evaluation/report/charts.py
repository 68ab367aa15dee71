"""The charts of a report: matplotlib draws them, the page supplies colours and font."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from continual_learning.evaluation.report.columns import COLUMN, Entry
from continual_learning.evaluation.report.formats import number, ratio, seconds

if TYPE_CHECKING:  # matplotlib is slow to import: only a report with a chart imports it
    from matplotlib.axes import Axes

WIDE, NARROW = (880, 400), (380, 340)
COLOURS = 8
# matplotlib's marker, and the same shape as a character, filled and hollow.
_SHAPES = (("o", "●", "○"), ("s", "■", "□"), ("D", "◆", "◇"), ("^", "▲", "△"))
# Placeholder colours, replaced by the page's own, which follow its light and dark themes.
_INKS = {
    name: f"#0000{i:02x}" for i, name in enumerate(("page", "grid", "soft", *(f"s{i}" for i in range(COLOURS))), 1)
}
_LINEAR_RATIO = 30  # highest ratio of slowest to fastest that a linear axis can show
_MARK_GAP = 11.0  # points between marks: strategies that learn in no time would overlap


@dataclass(frozen=True)
class Chart:
    """A picture for wide pages and one for narrow pages, the entries in them, and a remark to put below."""

    wide: str
    narrow: str
    entries: Sequence[Entry]
    remark: str = ""


def recall_against_seconds(entries: Sequence[Entry]) -> Chart | None:
    """Recall against seconds to learn a document, with intervals; None if no strategy has both."""
    drawn = [e for e in entries if e.value("recall") is not None and _learn_seconds(e) is not None]
    if not drawn:
        return None
    left_out = [e.label for e in entries if e not in drawn]
    remark = f"Not drawn, for recall or seconds were not measured: {', '.join(left_out)}." if left_out else ""
    label = f"Recall against seconds to learn a document. {'; '.join(map(_described, drawn))}."
    return _chart(lambda axes: _scatter(axes, drawn), drawn, label, remark)


def retention(entries: Sequence[Entry]) -> Chart | None:
    """Recall against the number of documents learned since; None if no strategy has a curve."""
    curves = {e.index: points for e in entries if (points := curve(e))}
    if not curves:
        return None
    drawn = [e for e in entries if e.index in curves]
    ends = [(e.label, curves[e.index][0], curves[e.index][-1]) for e in drawn]
    described = "; ".join(f"{label}: {ratio(a[1])} at {a[0]}, {ratio(b[1])} at {b[0]}" for label, a, b in ends)
    label = f"Recall against documents learned since. {described}."
    return _chart(lambda axes: _curves(axes, drawn, curves), drawn, label)


def curve(entry: Entry) -> list[tuple[int, float]]:
    """Distance and recall of a retention curve, nearest first, without points that were not measured."""
    points = [(number(p.get("distance")), number(p.get("recall"))) for p in entry.data.get("retention_curve") or ()]
    return sorted((int(d), r) for d, r in points if d is not None and r is not None)


def sign(entry: Entry) -> str:
    """The character that marks a strategy; hollow for a baseline."""
    _, filled, hollow = _shape(entry)
    return hollow if entry.baseline else filled


def colour(entry: Entry) -> str:
    """The name of a strategy's colour on the page; its combination of colour and shape is unique."""
    return f"s{entry.index % COLOURS}"


def small_matrix(matrix: Sequence[Sequence[Any]], label: str) -> str:
    """A matrix of recalls without numbers: one square per value, darker is higher."""
    paths: dict[int, list[str]] = {}
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            if (found := number(value)) is not None:
                paths.setdefault(heat_step(found), []).append(f"M{j} {i}h1v1h-1z")
    size = f"{max((len(row) for row in matrix), default=0)} {len(matrix)}"
    squares = "".join(f'<path d="{"".join(d)}" class="h{step}"></path>' for step, d in sorted(paths.items()))
    return f'<svg class="chart" viewBox="0 0 {size}" role="img" aria-label="{escape(label)}">{squares}</svg>'


def heat_step(recall: float) -> int:
    """Which of the eleven heat colours: 0 for recall 0, 10 for 1."""
    return min(10, max(0, round(recall * 10)))


def recall_limit(entries: Sequence[Entry]) -> float:
    """Where an axis of recall ends: the first tenth above every interval."""
    highest = [e.value("recall") or 0 for e in entries] + [b[1] for e in entries if (b := e.bounds("recall_interval"))]
    return min(1.0, np.ceil(max(highest) * 10 - 1e-9) / 10) if max(highest, default=0) > 0 else 1.0


def _shape(entry: Entry) -> tuple[str, str, str]:
    return _SHAPES[(entry.index + entry.index // COLOURS) % len(_SHAPES)]


def _learn_seconds(entry: Entry) -> float | None:
    return 0.0 if entry.idle else entry.value("learn_seconds")


def _described(entry: Entry) -> str:
    recall, learn = COLUMN["recall"], _learn_seconds(entry)
    bracket = f" {recall.bracket(entry)}" if recall.bracket(entry) else ""
    return f"{entry.label}: recall {recall.cell(entry)}{bracket} after {seconds(learn or 0.0)} s"


def _chart(draw: Callable[[Axes], None], entries: Sequence[Entry], label: str, remark: str = "") -> Chart:
    return Chart(_drawn(draw, WIDE, label), _drawn(draw, NARROW, label), entries, remark)


def _drawn(draw: Callable[[Axes], None], size: tuple[int, int], label: str) -> str:
    """The markup of a picture, sized in points, with a description for those who cannot see it."""
    import matplotlib
    from matplotlib.figure import Figure

    width, height = size
    # A fixed salt gives the same picture the same markup; no two pictures on a page may share ids.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"{width} {label}", "font.size": 12}):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        axes = figure.add_axes((44 / width, 46 / height, 1 - 58 / width, 1 - 70 / height))
        for background in (figure.patch, axes.patch, axes.spines["top"], axes.spines["left"], axes.spines["right"]):
            background.set_visible(False)
        axes.spines["bottom"].set_color(_INKS["soft"])
        axes.grid(axis="y", color=_INKS["grid"])
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", color=_INKS["soft"])
        axes.set_ylabel("recall", rotation="horizontal", ha="left", va="bottom")
        axes.yaxis.set_label_coords(-38 / (width - 58), 1.03)
        draw(axes)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return _for_page(ElementTree.fromstring(file.getvalue()), size, label)


def _for_page(root: ElementTree.Element, size: tuple[int, int], label: str) -> str:
    """matplotlib's markup without anything that affects the rest of the page: ids, styles, addresses, clips."""
    colours = {ink: f"var(--{name})" for name, ink in _INKS.items()}
    for parent in root.iter():
        parent.tag = parent.tag.rpartition("}")[2]
        parent.tail = None
        parent.text = parent.text if parent.tag == "text" else None
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style", "clipPath"):
                parent.remove(child)
        attributes = dict(parent.attrib)
        parent.attrib.clear()
        for name, value in attributes.items():
            if name == "style":
                pairs = (pair.partition(":") for pair in value.split(";") if ":" in pair)
                for key, _, setting in pairs:
                    if not key.strip().startswith("font"):
                        parent.set(key.strip(), colours.get(setting.strip(), setting.strip()))
            elif name.endswith("}href"):
                parent.set("href", value)
            elif name in ("d", "x", "y", "transform") or (name == "id" and parent.tag == "path"):
                parent.set(name, value)
    for text in root.iter("text"):  # the page's style sheet sets the colour
        text.attrib.pop("fill", None)
    root.attrib = {"class": "chart", "viewBox": "0 0 {} {}".format(*size), "role": "img", "aria-label": label}
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _scatter(axes: Axes, entries: Sequence[Entry]) -> None:
    """One mark per strategy, with its interval."""
    axes.set_ylim(0, recall_limit(entries))
    axes.set_xlabel("seconds to learn a document", loc="right")
    times = [_learn_seconds(entry) or 0.0 for entry in entries]
    positive = [time for time in times if time > 0]
    longest = max(positive, default=1.0)
    if positive and longest > _LINEAR_RATIO * min(times):
        least = 10.0 ** np.floor(np.log10(max(min(positive), longest / 1000)))
        axes.set_xscale("symlog", linthresh=least, linscale=0.6)
        axes.set_xlim(-0.25 * least, 2 * longest)
    else:
        axes.set_xlim(0, 1.15 * longest)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for entry, x in zip(entries, _apart(axes, times), strict=True):
        ink = _INKS[colour(entry)]
        if bounds := entry.bounds("recall_interval"):
            axes.plot([x, x], bounds, color=ink, linewidth=1.5, marker="_", markersize=7, clip_on=False)
        axes.plot([x], [entry.value("recall") or 0.0], linestyle="none", clip_on=False, zorder=3, **_mark(entry))


def _apart(axes: Axes, xs: Sequence[float]) -> list[float]:
    """The values, moved to the right as far as needed to tell the marks apart."""
    places = axes.transData.transform([(x, 0.0) for x in xs])
    order = np.argsort(places[:, 0], kind="stable")
    for before, after in pairwise(order):
        places[after, 0] = max(places[after, 0], places[before, 0] + _MARK_GAP)
    return [float(x) for x in axes.transData.inverted().transform(places)[:, 0]]


def _curves(axes: Axes, entries: Sequence[Entry], curves: Mapping[int, list[tuple[int, float]]]) -> None:
    from matplotlib.ticker import MaxNLocator

    highest = max(recall for points in curves.values() for _, recall in points)
    axes.set_ylim(0, min(1.0, np.ceil(highest * 10 - 1e-9) / 10) if highest > 0 else 1.0)
    axes.set_xlabel("documents learned since", loc="right")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for entry in entries:
        distances, recalls = zip(*curves[entry.index], strict=True)
        line = "--" if entry.baseline else "-"
        axes.plot(distances, recalls, linestyle=line, linewidth=2, clip_on=False, **_mark(entry))


def _mark(entry: Entry) -> dict[str, Any]:
    ink = _INKS[colour(entry)]
    face = _INKS["page"] if entry.baseline else ink
    return {"color": ink, "marker": _shape(entry)[0], "markersize": 8, "markerfacecolor": face, "markeredgewidth": 1.8}
