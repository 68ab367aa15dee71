from __future__ import annotations

import re

import pytest
from report_results import result

from continual_learning.evaluation.report import render_html


def colours(html: str) -> tuple[dict[str, str], dict[str, str]]:
    """The colours of the light and of the dark page."""
    light = dict(re.findall(r"--([\w-]+): (#\w{6})", html.partition("@media")[0]))
    dark = re.search(r"@media screen and \(prefers-color-scheme: dark\) \{(.*?)\n\}", html, re.DOTALL)
    assert dark
    return light, dict(re.findall(r"--([\w-]+): (#\w{6})", dark[1]))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_can_be_read_and_marks_can_be_seen(dark: bool) -> None:
    both = colours(render_html(result(documents=1)))
    assert both[0].keys() == both[1].keys()
    found = both[dark]
    for ink in ("ink", "soft", "accent", "right", "wrong"):
        assert contrast(found[ink], found["page"]) >= 4.5 and contrast(found[ink], found["panel"]) >= 4.5
    assert contrast(found["ink"], found["mark"]) >= 4.5
    for step in range(11):
        assert contrast(found["on-low" if step < 6 else "on-high"], found[f"h{step}"]) >= 4.5, step
    for series in range(8):
        assert contrast(found[f"s{series}"], found["page"]) >= 3
    lightness = [contrast(found[f"h{step}"], found["page"]) for step in range(11)]
    assert lightness == sorted(lightness), "a higher recall stands out more"
