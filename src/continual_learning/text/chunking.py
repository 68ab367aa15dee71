"""Cutting text at suitable places: into passages of sentences, sentences, and fragments of a sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

# Words that begin a phrase: a sentence may be cut before them.
_PHRASE_STARTS = frozenset(
    "and which who whom that but where when because while whose as with after before although under in by "
    "for from during through including".split()
)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]”’]?\s+(?=[A-Z0-9À-Þ\"'(\[“])|\n\s*\n")
_ABBREVIATION = re.compile(r"(?:\b[A-Z]|\b(?:Dr|Mr|Mrs|Ms|St|No|vs|ca?|Jr|Sr|Prof|Gen|Fig|al|e\.g|i\.e|max|min))\.$")
_PHRASE_END = re.compile(r"[,;:)\]–—]\s*$")

CountTokens = Callable[[str], int]


def sentences(text: str) -> list[str]:
    """The sentences of a text, stripped, in order; none is empty. Blank lines end a sentence too."""
    found: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        piece = text[start : match.end()].strip()
        if piece and not _ABBREVIATION.search(piece):
            found.append(" ".join(piece.split()))
            start = match.end()
    rest = " ".join(text[start:].split())
    if rest:
        found.append(rest)
    return found


def passages(text: str, count_tokens: CountTokens, limit: int) -> list[str]:
    """Whole sentences joined into passages of similar length: as few as possible, each of at most ``limit`` tokens.

    Only a sentence that is longer than the limit by itself is cut, into fragments.
    """
    pieces: list[str] = []
    for sentence in sentences(text):
        pieces += [sentence] if count_tokens(sentence) <= limit else fragments(sentence, count_tokens, limit)
    return [" ".join(pieces[start:end]) for start, end in _even_groups([count_tokens(p) for p in pieces], limit)]


def _even_groups(sizes: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Group neighbours into as few groups within the limit as possible, with sums as equal as possible: (start, end).

    Equal means the least sum of squares. Dynamic programming over the end of the last group.
    """
    # cost of the best grouping of the first n items (groups, sum of squares), and where its last group starts
    best: list[tuple[int, int]] = [(0, 0)]
    last: list[int] = [0]
    for end in range(1, len(sizes) + 1):
        total, options = 0, []
        for start in range(end - 1, -1, -1):
            total += sizes[start]
            if total > limit and start < end - 1:
                break
            groups, squares = best[start]
            options.append((groups + 1, squares + total**2, start))
        groups, squares, start = min(options)
        best.append((groups, squares))
        last.append(start)
    found: list[tuple[int, int]] = []
    end = len(sizes)
    while end:
        found.append((last[end], end))
        end = last[end]
    return found[::-1]


def sentence_chunks(text: str, count_tokens: CountTokens, limit: int, overlap: int) -> list[str]:
    """Whole sentences joined into chunks of at most ``limit`` tokens, each beginning with the end of the one before.

    The repeated end is as many whole sentences as ``overlap`` tokens hold, fewer if the next sentence would no
    longer fit after them. Only a sentence that is longer than the limit by itself is cut, into fragments. Tokens
    are counted sentence by sentence.
    """
    pieces: list[tuple[str, int]] = []
    for sentence in sentences(text):
        size = count_tokens(sentence)
        if size <= limit:
            pieces.append((sentence, size))
        else:
            pieces += [(piece, count_tokens(piece)) for piece in fragments(sentence, count_tokens, limit)]
    found: list[str] = []
    current: list[tuple[str, int]] = []
    for piece in pieces:
        if current and _size(current) + piece[1] > limit:
            found.append(" ".join(text for text, _ in current))
            while current and (_size(current) > overlap or _size(current) + piece[1] > limit):
                current = current[1:]
        current.append(piece)
    return [*found, " ".join(text for text, _ in current)] if current else found


def _size(pieces: Sequence[tuple[str, int]]) -> int:
    return sum(tokens for _, tokens in pieces)


def fragments(sentence: str, count_tokens: CountTokens, limit: int) -> list[str]:
    """A sentence in pieces of at most ``limit`` tokens, cut at punctuation and before phrases where possible."""
    total = count_tokens(sentence)
    if total <= limit:
        return [sentence.strip()] if sentence.strip() else []
    goal = total / math.ceil(total / limit)
    found: list[str] = []
    current = ""
    for phrase in _phrases(sentence, count_tokens, limit):
        if current and count_tokens(current + phrase) > limit:
            found.append(current)
            current = ""
        current += phrase
        if count_tokens(current) >= 0.85 * goal:
            found.append(current)
            current = ""
    if current:
        if found and count_tokens(found[-1] + current) <= limit:
            found[-1] += current
        else:
            found.append(current)
    return [piece.strip() for piece in found if piece.strip()]


def _phrases(sentence: str, count_tokens: CountTokens, limit: int) -> Sequence[str]:
    found: list[str] = []
    current = ""
    for word in re.findall(r"\S+\s*", sentence):
        begins = word.strip().lower().strip(",;:()") in _PHRASE_STARTS
        if current and (begins or count_tokens(current + word) > limit):
            found.append(current)
            current = ""
        current += word
        if _PHRASE_END.search(word):
            found.append(current)
            current = ""
    return [*found, current] if current else found
