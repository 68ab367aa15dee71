"""The lines of a text, apart from its words.

Passages are sentences joined by spaces: where a line ended is not part of them. Which words are a heading, a row of a
table or an entry of a list is seen from the lines, so a memory keeps the number of characters of each (no words), and a
text that is kept or recited is set in lines again. Spaces are not counted: memories of earlier versions have one more
where a word was cut.
"""

from __future__ import annotations

from collections.abc import Sequence

LINES = "lines"
"""Name of `line_lengths` among the details that a memory records about a document."""


def line_lengths(text: str) -> list[int]:
    """The number of characters of every line without spaces; 0 for empty ones, of which several count as one."""
    found = [_size(line) for line in text.rstrip().split("\n")]
    return [size for place, size in enumerate(found) if size or (place and found[place - 1])]


def with_lines(text: str, lengths: Sequence[int] | None) -> str:
    """A text of one line in lines of these lengths, as far as it reaches; unchanged without lengths.

    If it has other characters than the text that was measured, as when it was recited with an error, lines end with the
    nearest word.
    """
    if not lengths:
        return text
    exact = _size(text) == sum(lengths)
    words = text.split()[::-1]
    lines: list[str] = []
    behind = 0  # characters that the lines so far have less than they should
    for length in lengths:
        line: list[str] = []
        left = length + behind if length else 0
        while words and left > 0:
            word = words.pop()
            if exact and len(word) > left:  # a script without spaces
                words.append(word[left:])
                word = word[:left]
            elif len(word) > 2 * left:  # most of it belongs to the next line
                words.append(word)
                break
            line.append(word)
            left -= len(word)
        behind = left if length else behind
        if line or (words and not length):
            lines.append(" ".join(line))
    return "\n".join([*lines, *([" ".join(words[::-1])] if words else [])])


def _size(text: str) -> int:
    return len("".join(text.split()))
