"""Cutting text at suitable places: into passages of sentences, sentences, and fragments of a sentence."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from continual_learning.text.characters import begins_sentence

# Words that begin a phrase: a sentence may be cut before them.
_PHRASE_STARTS = frozenset(
    "and which who whom that but where when because while whose as with after before although under in by "
    "for from during through including".split()
)
# A full stop that may be another kind of dot, and white space; one that is nothing else; or an empty line.
_SENTENCE_END = re.compile(
    r"""[.!?]["')\]”’»]?(?P<space>\s+)|(?:[。！？｡؟।॥۔።։။។]|．(?!\d))+["')\]”’»」』）》】〉]*\s*|\n\s*\n"""
)
_ABBREVIATION = re.compile(
    r"\b(?:[^\W\d_]|Dr|Mr|Mrs|Ms|St|No|vs|ca?|Jr|Sr|Prof|Gen|Fig|al|e\.g|i\.e|max|min"
    r"|гг|вв|ул|им|стр|см|др|проф|акад|св)\.$"
)
_LONGEST_ABBREVIATION = 8
_PHRASE_END = re.compile(r"[,;:)\]–—、，；：）」』】》，、।،؛]\s*$")
# The phrases of a stretch without spaces.
_WIDE_PHRASE = re.compile(r"[^、，；：。！？｡]*[、，；：。！？｡]+[」』）》】〉”’\"')\]]*\s*|[^、，；：。！？｡]+")

# Letters and signs of Chinese and Japanese, between which no space belongs.
_WIDE = re.compile("[\u3001-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U000323af]")
_GLUE = "\u200c\u200d"

CountTokens = Callable[[str], int]


def sentences(text: str) -> list[str]:
    """The sentences of a text, stripped, in order; none is empty. Blank lines end a sentence too."""
    return [piece.text for piece in _sentences(text)]


def passages(text: str, count_tokens: CountTokens, limit: int) -> list[str]:
    """Whole sentences joined into passages of similar length: as few as possible, each of at most ``limit`` tokens.

    Only a sentence that is longer than the limit by itself is cut, into fragments.
    """
    pieces = _pieces(text, count_tokens, limit)
    groups = _even_groups([size for _, size in pieces], limit)
    return [one for start, end in groups for one in _within(pieces[start:end], count_tokens, limit)]


def joined(pieces: Iterable[str], spaced: Sequence[bool | None] = ()) -> str:
    """Pieces of a text in their order as one text.

    ``spaced``: for each piece whether a space belongs before it; where that is None, `usually_spaced` decides.
    """
    text = ""
    for number, piece in enumerate(pieces):
        known = spaced[number] if number < len(spaced) else None
        space = bool(text) and (usually_spaced(text, piece) if known is None else known)
        text += f" {piece}" if space else piece
    return text


def usually_spaced(before: str, after: str) -> bool:
    """Whether a space belongs between two pieces, as far as their characters tell: not within Chinese or Japanese."""
    return not (_WIDE.match(before[-1:]) and _WIDE.match(after[:1]))


def spaces_before(text: str, pieces: Iterable[str]) -> list[bool]:
    """For each piece of a text, in order and complete but for white space: whether white space stands before it."""
    found, at = [], 0
    for piece in pieces:
        start = at
        at = _past_space(text, at)
        found.append(start == 0 or at > start or at == len(text))
        for character in piece:
            if not character.isspace():
                at = _past_space(text, at) + 1
    return found


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


@dataclass(frozen=True)
class _Piece:
    """A sentence or a fragment of one."""

    text: str
    after_space: bool
    """Whether white space stands before it."""


def _sentences(text: str) -> Iterator[_Piece]:
    start, spaced = 0, True
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        space = match["space"]
        # Dots between spaces end a sentence where the next one can begin, or a line is empty.
        if space and not (begins_sentence(text[end : end + 1]) or space.count("\n") > 1):
            continue
        stop = match.start() + len(match[0].rstrip())
        if stop > start and text[stop - 1] == "." and _is_abbreviation(text, start, stop):
            continue
        if piece := " ".join(text[start:end].split()):
            yield _Piece(piece, spaced)
            start, spaced = end, text[end - 1].isspace()
    if rest := " ".join(text[start:].split()):
        yield _Piece(rest, spaced)


def _is_abbreviation(text: str, start: int, stop: int) -> bool:
    found = _ABBREVIATION.search(text, max(start, stop - _LONGEST_ABBREVIATION), stop)
    if found is None or len(found[0]) > 2 or found[0] == "c.":
        return found is not None
    letter = found[0][0]
    return not letter.islower() or letter >= "\u0400"  # an initial; in Russian also "г.", "т."


def _pieces(text: str, count_tokens: CountTokens, limit: int) -> list[tuple[_Piece, int]]:
    """Sentences, those beyond the limit in fragments, with their tokens."""
    found: list[tuple[_Piece, int]] = []
    for sentence in _sentences(text):
        size = count_tokens(sentence.text)
        if size <= limit:
            found.append((sentence, size))
        else:
            found += [(piece, count_tokens(piece.text)) for piece in _fragments(sentence, size, count_tokens, limit)]
    return found


def _join(pieces: Iterable[tuple[_Piece, int]]) -> str:
    return "".join(f" {piece.text}" if piece.after_space else piece.text for piece, _ in pieces).strip()


def _within(pieces: Sequence[tuple[_Piece, int]], count_tokens: CountTokens, limit: int) -> list[str]:
    """The pieces as one text, or as several: joined, they may have a token more than each by itself."""
    text = _join(pieces)
    if len(pieces) < 2 or count_tokens(text) <= limit:
        return [text]
    sizes = [size for _, size in pieces]
    groups = _even_groups(sizes, max(sum(sizes) - 1, 1))
    return [one for start, end in groups for one in _within(pieces[start:end], count_tokens, limit)]


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
    return [chunk for chunk, _ in overlapping_chunks(text, count_tokens, limit, overlap)]


def overlapping_chunks(text: str, count_tokens: CountTokens, limit: int, overlap: int) -> list[tuple[str, int]]:
    """`sentence_chunks`, each with how many characters it repeats of the one before, not counting white space."""
    found: list[tuple[str, int]] = []
    current: list[tuple[_Piece, int]] = []
    repeated = 0

    def end_chunk() -> None:
        left = repeated
        for chunk in _within(current, count_tokens, limit):
            size = len("".join(chunk.split()))
            found.append((chunk, min(left, size)))
            left -= min(left, size)

    for piece in _pieces(text, count_tokens, limit):
        if current and not _fit([*current, piece], count_tokens, limit):
            end_chunk()
            while current and (_size(current) > overlap or not _fit([*current, piece], count_tokens, limit)):
                current = current[1:]
            repeated = sum(len("".join(one.text.split())) for one, _ in current)
        current.append(piece)
    if current:
        end_chunk()
    return found


def _fit(pieces: Sequence[tuple[_Piece, int]], count_tokens: CountTokens, limit: int) -> bool:
    total = _size(pieces)
    if not limit - len(pieces) < total <= limit:
        return total <= limit
    return count_tokens(_join(pieces)) <= limit  # a word has a token more where a space is before it, now and then


def _size(pieces: Sequence[tuple[_Piece, int]]) -> int:
    return sum(tokens for _, tokens in pieces)


def fragments(sentence: str, count_tokens: CountTokens, limit: int) -> list[str]:
    """A sentence in pieces of at most ``limit`` tokens, cut at punctuation and before phrases where possible.

    A word that is longer than the limit is cut within: only a single character may exceed it.
    """
    total = count_tokens(sentence)
    if total <= limit:
        return [sentence.strip()] if sentence.strip() else []
    return [piece.text for piece in _fragments(_Piece(sentence, True), total, count_tokens, limit)]


def _fragments(sentence: _Piece, total: int, count_tokens: CountTokens, limit: int) -> list[_Piece]:
    goal = total / math.ceil(total / limit)
    found: list[str] = []
    current = ""
    for phrase in _phrases(sentence.text, count_tokens, limit):
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
    pieces: list[_Piece] = []
    spaced = sentence.after_space
    for raw in found:
        if text := raw.strip():
            pieces.append(_Piece(text, spaced or raw[0].isspace()))
            spaced = False
        spaced = spaced or raw[-1].isspace()
    return pieces


def _phrases(sentence: str, count_tokens: CountTokens, limit: int) -> Iterator[str]:
    """Phrases with the white space after them, each of at most ``limit`` tokens."""
    current = ""
    for word in _words(sentence, count_tokens, limit):
        begins = word.strip().lower().strip(",;:()") in _PHRASE_STARTS
        if current and (begins or count_tokens(current + word) > limit):
            yield current
            current = ""
        current += word
        if _PHRASE_END.search(word):
            yield current
            current = ""
    if current:
        yield current


def _words(sentence: str, count_tokens: CountTokens, limit: int) -> Iterator[str]:
    """Words with the white space after them; where there are no spaces, phrases; what is too long, cut."""
    for word in re.findall(r"\S+\s*", sentence):
        for phrase in [word] if word.isascii() else _WIDE_PHRASE.findall(word):
            # A tokenizer of bytes makes no more tokens than there are bytes.
            if len(phrase) * 4 <= limit or count_tokens(phrase) <= limit:
                yield phrase
            else:
                yield from _cut(phrase, count_tokens, limit)


def _cut(word: str, count_tokens: CountTokens, limit: int) -> Iterator[str]:
    """A stretch without spaces in pieces within the limit: cut between signs or scripts if one is near the end."""
    start, length = 0, max(1, limit)
    while start < len(word):
        end = min(len(word), start + length)
        size = count_tokens(word[start:end])
        if size > limit and end > start + 1:
            length = max(1, min(end - start - 1, int((end - start) * limit / size)))
            continue
        more = max(1, length // 4)
        if end < len(word) and size < 0.7 * limit and count_tokens(word[start : end + more]) <= limit:
            length = end + more - start
            continue
        if end < len(word):
            end = _good_place(word, start, end, count_tokens, limit)
        yield word[start:end]
        start = end


def _good_place(word: str, start: int, end: int, count_tokens: CountTokens, limit: int) -> int:
    """Where to cut before ``end``: behind a sign, else not before a mark; ``end`` itself if there is no such place."""
    whole = 0
    for place in range(end, max(start + 1, end - (end - start) // 3), -1):
        before, after = word[place - 1], word[place]
        if unicodedata.category(after)[0] == "M" or after in _GLUE or before in _GLUE:
            continue
        whole = whole or place
        if not before.isalnum() or bool(_WIDE.match(before)) != bool(_WIDE.match(after)):
            whole = place
            break
    # A beginning of a word may have more tokens than the whole.
    return whole if whole and count_tokens(word[start:whole]) <= limit else end
