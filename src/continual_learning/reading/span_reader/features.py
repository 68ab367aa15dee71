"""Rule-based features of each token of a text and a question: shared words, their rarity and nearness, answer types.

Shapes: T = tokens of the text, F = features.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from continual_learning.retrieval.parts import WEIGHTS, cut_parts, part_index, part_keys, window_features, windows
from continual_learning.retrieval.routing import Rarity, term_hash
from continual_learning.text.answer_types import answer_spans, asked_kind
from continual_learning.text.chunking import sentences
from continual_learning.text.words import content_stems, document_stems, is_content

FEATURES = (
    "shared",
    "rarity_of_shared",
    "near_shared",
    "content",
    "capital",
    "digit",
    "kind_asked_for",
    "date",
    "number",
    "name",
    "phrase",
    "sentence_coverage",
    "window_score",
    "before_punctuation",
    "after_shared",
    "before_shared",
    "best_sentence",
    "begins_word",
    "ends_word",
    "first_token_log_probability",
)
"""All but the last three describe the word that a token is part of."""

_PART_TOKENS, _WINDOW_TOKENS = 20, 24  # the values that `parts.WEIGHTS` were fitted with
_NEARNESS_WORDS = 6.0  # distance over which the nearness to a shared word falls by a factor of e
_PUNCTUATION = '.,;:()"“”'


@dataclass(frozen=True)
class TextWords:
    """A text as the rules see it: everything that does not depend on the question."""

    text: str
    words: tuple[tuple[int, int], ...]
    """Start and end of each word; a word is what is between white space."""
    word_of_token_T: Tensor
    stems: tuple[frozenset[int], ...]
    """Hashes of the content stems of each word."""
    kinds: tuple[frozenset[str], ...]
    """The kinds of answers that each word is part of."""
    sentence_of_word: tuple[int, ...]
    sentence_stems: tuple[frozenset[int], ...]
    part_of_word: tuple[int, ...]

    @classmethod
    def of(cls, text: str, offsets: Sequence[tuple[int, int]]) -> TextWords:
        """``offsets`` are the tokens' positions in the text. Raises ValueError for a text without a word."""
        words = tuple((m.start(), m.end()) for m in re.finditer(r"\S+", text))
        if not words:
            raise ValueError("a text without a word cannot be read")
        starts = [start for start, _ in words]
        spans = answer_spans(text)
        sentence_places = _places(text, sentences(text))
        pieces = [part.text for part in cut_parts(text, _rough_tokens, _PART_TOKENS)]
        return cls(
            text,
            words,
            torch.tensor([_last_from(words, start, end) for start, end in offsets], dtype=torch.long),
            tuple(_found_by(text[start:end]) for start, end in words),
            tuple(frozenset(s.kind for s in spans if s.start < end and start < s.end) for start, end in words),
            tuple(_at(sentence_places, start) for start in starts),
            tuple(_found_by(text[a:b]) for a, b in sentence_places),
            tuple(_at(_places(text, pieces), start) for start in starts),
        )


def token_features(read: TextWords, question: str, rarity: Rarity, first_T: Tensor) -> Tensor:
    """``[T, F]``, in the order of `FEATURES`.

    ``first_T``: log-probability, in nats, of each token as the first of the base's own answer.
    """
    asked = _stems(question)
    total = math.fsum(rarity.idf(term) for term in asked) or 1.0
    rare = [max((rarity.idf(term) for term in stems & asked), default=0.0) for stems in read.stems]
    shared = [bool(stems & asked) for stems in read.stems]
    count = len(read.words)
    near = [
        math.fsum(rare[j] * math.exp(-abs(i - j) / _NEARNESS_WORDS) for j in range(count) if rare[j])
        for i in range(count)
    ]
    most_near = max(near) or 1.0
    coverage = [math.fsum(rarity.idf(term) for term in asked & stems) / total for stems in read.sentence_stems]
    best_window = _window_scores(read, question, rarity)
    kind = asked_kind(question)
    rows = []
    for i, (start, end) in enumerate(read.words):
        word, kinds = read.text[start:end], read.kinds[i]
        bare = word.strip(_PUNCTUATION)
        covered = coverage[read.sentence_of_word[i]]
        rows.append(
            [
                float(shared[i]),
                rare[i] / 5,
                near[i] / most_near,
                float(bool(bare) and is_content(bare)),
                float(word[0].isupper()),
                float(any(c.isdigit() for c in word)),
                float(kind in kinds and not shared[i]),
                *(float(k in kinds) for k in ("date", "number", "name", "phrase")),
                covered,
                best_window[read.part_of_word[i]] / 2,
                float(word[-1] in ",;:.)"),
                float(i > 0 and shared[i - 1]),
                float(i + 1 < count and shared[i + 1]),
                float(covered == max(coverage)),
            ]
        )
    of_word_T = read.word_of_token_T
    changes_T = (of_word_T[1:] != of_word_T[:-1]).float()
    edge = torch.ones(1)
    begins_T, ends_T = torch.cat([edge, changes_T]), torch.cat([changes_T, edge])
    likely_T = (first_T.float() / 8).clamp(-3, 0)
    return torch.cat([torch.tensor(rows)[of_word_T], torch.stack([begins_T, ends_T, likely_T], 1)], 1)


def _window_scores(read: TextWords, question: str, rarity: Rarity) -> list[float]:
    """For each part of the text: the score of the best window that holds it, minus the best score of all."""
    pieces = cut_parts(read.text, _rough_tokens, _PART_TOKENS)
    keys = part_keys(part_index(pieces))
    scores = [
        math.fsum(WEIGHTS[name] * value for name, value in features.items())
        for features in window_features(keys, question, rarity, _WINDOW_TOKENS)
    ]
    best = [-math.inf] * len(keys)
    for score, window in zip(scores, windows(keys, _WINDOW_TOKENS), strict=True):
        for part in window:
            best[part] = max(best[part], score)
    return [score - max(scores) for score in best]


def _rough_tokens(text: str) -> int:
    """An estimate: English has about 4.4 characters per token, and the pieces cut by it need not fit anywhere."""
    return max(1, round(len(text) / 4.4))


def _stems(text: str) -> frozenset[int]:
    return frozenset(term_hash(stem) for stem in content_stems(text))


def _found_by(text: str) -> frozenset[int]:
    return frozenset(term_hash(stem) for stem in document_stems(text))


def _places(text: str, pieces: Sequence[str]) -> list[tuple[int, int]]:
    """Start and end of consecutive pieces of a text in it."""
    found, at = [], 0
    for piece in pieces:
        start = max(text.find(piece, at), at)
        at = start + len(piece)
        found.append((start, at))
    return found


def _at(places: Sequence[tuple[int, int]], start: int) -> int:
    """The index of the last place that begins at or before ``start``."""
    return max((i for i, (a, _) in enumerate(places) if a <= start), default=0)


def _last_from(words: Sequence[tuple[int, int]], start: int, end: int) -> int:
    """The index of the last word that a token overlaps; for a token of white space, of the word before it."""
    return max((i for i, (a, b) in enumerate(words) if a < max(end, start + 1) and start < b), default=0)
