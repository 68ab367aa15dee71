"""The lines of a text, apart from its words.

Passages are sentences joined by spaces: where a line ended is not part of them. Which words are a heading, a row of a
table or an entry of a list is seen from the lines, so a memory keeps the number of words of each (no words), and a
text that is kept or recited is set in lines again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LINES = "lines"
"""Name of `line_lengths` among the details that a memory records about a document."""


def line_lengths(text: str) -> list[int]:
    """The number of words of every line; 0 for an empty one. Blank lines at the end are left out."""
    found = [len(line.split()) for line in text.rstrip().split("\n")]
    # Several blank lines are as good as one.
    return [n for place, n in enumerate(found) if n or (place and found[place - 1])]


def with_lines(text: str, lengths: Any) -> str:
    """A text of one line in the lines of these lengths, as far as its words reach; unchanged without lengths."""
    if not lengths:
        return text
    words = text.split()
    lines: list[str] = []
    place = 0
    for length in _numbers(lengths):
        if place >= len(words):
            break
        lines.append(" ".join(words[place : place + length]))
        place += length
    if place < len(words):
        lines.append(" ".join(words[place:]))
    return "\n".join(lines)


def _numbers(lengths: Sequence[Any]) -> list[int]:
    return [int(length) for length in lengths]
