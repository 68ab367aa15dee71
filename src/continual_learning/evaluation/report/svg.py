"""SVG elements: what the charts are drawn with. Built as a tree, so that every text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from continual_learning.evaluation.report.layout import Box

Element = ElementTree.Element
COLOURS = 8
_SHAPES = ("circle", "square", "diamond", "triangle")


def element(name: str, attributes: Mapping[str, object] | None = None, *children: Element, text: str = "") -> Element:
    """An element; floats are written with one decimal, and attributes that are None are left out."""
    written = {k: _number(v) for k, v in (attributes or {}).items() if v is not None}
    found = ElementTree.Element(name, written)
    found.text = text or None
    found.extend(children)
    return found


def drawing(width: float, height: float, label: str, children: Sequence[Element], kind: str = "") -> Element:
    """A picture that says what it shows to those who cannot see it."""
    attributes = {"class": f"chart {kind}".strip(), "viewBox": f"0 0 {width:g} {height:g}", "role": "img"}
    return element("svg", {**attributes, "aria-label": label}, *children)


def source(picture: Element) -> str:
    """The markup."""
    return ElementTree.tostring(picture, encoding="unicode", short_empty_elements=False)


def text(x: float, y: float, content: str, kind: str = "", anchor: str | None = None) -> Element:
    """A line of text; ``anchor`` is start, middle or end."""
    return element("text", {"x": x, "y": y, "class": kind or None, "text-anchor": anchor}, text=content)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Element:
    """A straight line."""
    return element("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": kind})


def marker(index: int, x: float, y: float, hollow: bool, size: float = 5) -> Element:
    """The sign of strategy number ``index``: its own pair of colour and shape; hollow for a baseline."""
    shape = _SHAPES[(index + index // COLOURS) % len(_SHAPES)]
    kind = f"mark s{index % COLOURS}{' hollow' if hollow else ''}"
    if shape == "circle":
        return element("circle", {"cx": x, "cy": y, "r": size, "class": kind})
    if shape == "square":
        side = size * 0.9
        return element("rect", {"x": x - side, "y": y - side, "width": 2 * side, "height": 2 * side, "class": kind})
    if shape == "diamond":
        reach = size * 1.25
        corners = [(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)]
    else:
        corners = [(x, y - size * 1.15), (x + size * 1.1, y + size * 0.85), (x - size * 1.1, y + size * 0.85)]
    return element("polygon", {"points": " ".join(f"{a:.1f},{b:.1f}" for a, b in corners), "class": kind})


def leader(box: Box, x: float, y: float, reach: float) -> list[Element]:
    """A thin line from a label to what it names, where that is farther away than ``reach``."""
    near_x, near_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
    far = ((near_x - x) ** 2 + (near_y - y) ** 2) ** 0.5
    return [line(near_x, near_y, x, y, "leader")] if far > reach else []


def _number(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
