"""Where things go on a chart: scales with round ticks, and labels that do not lie on one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# A wide letter of a 12-unit sans-serif face; most are narrower, so no box is too small.
_LETTER = 6.8
LABEL_HEIGHT = 15.0


@dataclass(frozen=True)
class Box:
    """An upright rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, high)

    def inside(self, other: Box) -> bool:
        """Whether ``other`` covers all of it."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True)
class Scale:
    """Values from ``low`` to ``high`` on a line from ``start`` to ``end``, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Where a value stands. Values beyond the ends stand at the ends."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self, about: int = 5) -> list[tuple[float, str]]:
        """Round values with their text: powers of ten, or about as many as asked for."""
        if self.logarithmic:
            exponents = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
            return [(10.0**e, f"{10.0**e:,.{max(0, -e)}f}") for e in exponents]
        step = nice_step((self.high - self.low) / about)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(i * step, f"{i * step:,.{digits}f}") for i in range(first, last + 1)]


def nice_step(step: float) -> float:
    """The next of 1, 2, 5, 10, 20 … that is not smaller."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def round_up(value: float, about: int = 5) -> float:
    """The end of an axis from 0 that holds ``value``, on a tick."""
    step = nice_step(value / about)
    return math.ceil(value / step - 1e-9) * step


def text_width(text: str) -> float:
    """Width that a label takes at most, in units of a chart; full-width characters count twice."""
    return sum(_LETTER if ord(c) < 0x1100 else 2 * _LETTER for c in text)


def spread(places: Sequence[float], gap: float, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """Places at least ``gap`` apart, in the same order, moved as little as that takes (least squares).

    They stay between ``low`` and ``high`` as far as there is room. Pooled adjacent violators: places that are too near
    become a block around the mean of where they would be.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    blocks: list[tuple[float, int]] = []  # mean of (place - rank * gap), and how many
    for rank, i in enumerate(order):
        mean, size = places[i] - rank * gap, 1
        while blocks and blocks[-1][0] > mean:
            before, n = blocks.pop()
            mean, size = (before * n + mean * size) / (n + size), n + size
        blocks.append((mean, size))
    highest = high - gap * (len(places) - 1)
    means = [max(low, min(mean, highest)) for mean, size in blocks for _ in range(size)]
    found = [0.0] * len(places)
    for rank, i in enumerate(order):
        found[i] = means[rank] + rank * gap
    return found


def place_labels(
    texts: Sequence[str], anchors: Sequence[tuple[float, float]], bars: Sequence[Box], room: Box, radius: float = 7
) -> list[Box]:
    """A box for the label of every anchor: beside it if there is room, else farther away.

    No label lies on another, on an anchor or outside ``room``, as long as one of some 200 places is free; of the free
    ones the nearest, and rather not on one of the ``bars``.
    """
    marks = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in anchors]
    placed: list[Box] = []
    for text, (x, y) in zip(texts, anchors, strict=True):
        width = text_width(text)
        candidates = []
        for distance in (radius + 2, 16, 24, 34, 46, 60, 76, 94, 114, 136, 160, 190):
            for angle in range(0, 360, 20):
                dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
                left = x + dx * distance - width * (1 - dx) / 2
                top = y + dy * distance - LABEL_HEIGHT * (1 - dy) / 2
                candidates.append((distance, angle, Box(left, top, left + width, top + LABEL_HEIGHT)))

        def cost(candidate: tuple[float, int, Box]) -> tuple[float, float]:
            distance, angle, box = candidate
            hidden = sum(box.overlap(other) for other in (*placed, *marks))
            hidden += 0 if box.inside(room) else 1e4
            crossed = sum(1 for bar in bars if box.overlap(bar))
            return hidden, distance + 60 * crossed + (0 if angle in (0, 180) else 2) + (angle == 180)

        placed.append(min(candidates, key=cost)[2])
    return placed
