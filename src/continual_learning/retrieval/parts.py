"""The parts of a passage, and which of them the words of a question find.

A passage is cut into parts of a few words, within sentences. Which part a question asks for is decided by a key: for
every part, hashes of the stems of its content words (those in dates, numbers and names are marked as such) and the
number of its sentence. Keys hold neither words nor their order, and are never shown to the model.

    score(q, w) = sum over features f of WEIGHTS[f] * f(q, w)

over windows w of neighbouring parts, where the features measure which of the question's words a window and its
sentence hold, and whether it offers an answer of the type that is asked for: a lexical ranking like the
sliding window and the logistic regression of SQuAD's paper (Rajpurkar et al. 2016, arXiv 1606.05250, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from continual_learning.retrieval.routing import Rarity, term_hash
from continual_learning.text.answer_types import KINDS, answer_spans, asked_kind
from continual_learning.text.chunking import CountTokens, fragments, sentences, spaces_before, usually_spaced
from continual_learning.text.words import content_stems, document_stems

# Codes of the rows of a key tensor: a content word, a word of a possible answer by type, the part's sentence and size.
_WORD, _KIND, _SENTENCE, _TOKENS = 0, {kind: code for code, kind in enumerate(KINDS, 1)}, 8, 9
# Whether white space stands before the part (1 or 0): only where its characters tell otherwise.
_SPACED = 10

# If fewer tokens of a part fit, it is left out.
_LEAST_TOKENS = 3

# Fitted on questions of the first 16 articles of the open SQuAD data by benchmarks/lab/fit_parts.py: the chance that
# the best window holds the gold answer, by gradient ascent.
WEIGHTS: Mapping[str, float] = {
    "window": 2.00,
    "sentence": 1.12,
    "sentence_here": 0.94,
    "first_here": 0.19,
    "kind": 0.88,
    "kind_first": 1.96,
    "opens_sentence": 0.13,
}


@dataclass(frozen=True)
class Part:
    """A piece of a sentence."""

    text: str
    sentence: int
    """Number of its sentence in the passage."""
    tokens: int
    spaced: bool = True
    """Whether white space stands before it in the document: not where a long word, or a line of a script without
    spaces, was cut."""


@dataclass(frozen=True)
class PartKey:
    """What is kept of a part so that questions find it."""

    sentence: int
    tokens: int
    stems: frozenset[int]
    """Hashes of the stems of its content words."""
    answers: Mapping[str, frozenset[int]]
    """By answer type: hashes of the stems of words that could be one."""


def cut_parts(text: str, count_tokens: CountTokens, limit: int) -> list[Part]:
    """Cut a passage into parts of at most ``limit`` tokens, within sentences, where a phrase begins or ends."""
    pieces = [
        (number, piece)
        for number, sentence in enumerate(sentences(text))
        for piece in fragments(sentence, count_tokens, limit)
    ]
    spaced = spaces_before(text, [piece for _, piece in pieces])
    return [
        Part(piece, number, count_tokens(piece), space) for (number, piece), space in zip(pieces, spaced, strict=True)
    ]


def index_name(document_id: str, passage: int) -> str:
    """The name under which a state keeps the keys of a passage's parts: ``<document id>/<passage>.parts``."""
    return f"{document_id}/{passage:04d}.parts"


def part_index(parts: Sequence[Part], before: str = "", spaced: bool = True) -> Tensor:
    """The keys of a passage's parts as rows (part, code, hash or sentence number): int64 [n, 3].

    ``before``: the passage before it in the document, if any; ``spaced``: whether white space stands between the two.
    """
    rows: set[tuple[int, int, int]] = set()
    for number, part in enumerate(parts):
        earlier, space = (parts[number - 1].text, part.spaced) if number else (before, spaced)
        if earlier and usually_spaced(earlier, part.text) != space:
            rows.add((number, _SPACED, int(space)))
        rows |= {(number, _SENTENCE, part.sentence), (number, _TOKENS, part.tokens)}
        rows |= {(number, _WORD, term_hash(stem)) for stem in document_stems(part.text)}
        for span in answer_spans(part.text):
            if span.kind in _KIND:
                rows |= {(number, _KIND[span.kind], term) for term in _terms(part.text[span.start : span.end])}
    return torch.tensor(sorted(rows), dtype=torch.int64).reshape(-1, 3)


def part_spaces(index_n3: Tensor, count: int) -> list[bool | None]:
    """For each of ``count`` parts, whether white space stands before it; None if its characters tell (`joined`)."""
    rows = index_n3[index_n3[:, 1] == _SPACED].tolist()
    known = {number: bool(value) for number, _, value in rows}
    return [known.get(number) for number in range(count)]


def part_keys(index_n3: Tensor) -> list[PartKey]:
    """Read the keys that `part_index` wrote."""
    rows: dict[int, dict[int, set[int]]] = {}
    for number, code, value in index_n3.tolist():
        rows.setdefault(number, {}).setdefault(code, set()).add(value)
    return [
        PartKey(
            min(found[_SENTENCE]),
            min(found[_TOKENS]),
            frozenset(found.get(_WORD, ())),
            {kind: frozenset(found.get(code, ())) for kind, code in _KIND.items()},
        )
        for _, found in sorted(rows.items())
    ]


def windows(keys: Sequence[PartKey] | Sequence[Part], room: int) -> list[range]:
    """For each part, the numbers of the parts that follow it within ``room`` tokens; the last may be cut off there."""
    found = []
    for start in range(len(keys)):
        end, tokens = start, 0
        while end < len(keys) and (end == start or tokens + _LEAST_TOKENS <= room):
            tokens += keys[end].tokens
            end += 1
        found.append(range(start, end))
    return found


def best_window(keys: Sequence[PartKey], question: str, rarity: Rarity, room: int) -> range:
    """The numbers of the neighbouring parts that most likely hold the answer; of ties, the first."""
    scores = [
        math.fsum(WEIGHTS[name] * value for name, value in features.items())
        for features in window_features(keys, question, rarity, room)
    ]
    return windows(keys, room)[max(range(len(scores)), key=scores.__getitem__)]


def window_features(keys: Sequence[PartKey], question: str, rarity: Rarity, room: int) -> list[dict[str, float]]:
    """For the window that begins at each part: its features with respect to the question."""
    asked = frozenset(_terms(question))
    kind = asked_kind(question)
    of_sentence: dict[int, frozenset[int]] = {}
    for key in keys:
        of_sentence[key.sentence] = of_sentence.get(key.sentence, frozenset()) | key.stems

    def here(term: int) -> float:
        """How rare a word is within this passage, by its sentences."""
        return math.log((len(of_sentence) + 0.5) / (sum(term in stems for stems in of_sentence.values()) + 0.5))

    total = math.fsum(rarity.idf(term) for term in asked) or 1.0

    def covered(stems: frozenset[int]) -> float:
        return math.fsum(rarity.idf(term) for term in asked & stems) / total

    def weight_here(stems: frozenset[int]) -> float:
        return math.fsum(here(term) for term in asked & stems)

    def offers(parts: Sequence[PartKey]) -> float:
        return float(kind is not None and any(part.answers[kind] - asked for part in parts))

    found = []
    for numbers in windows(keys, room):
        start, first = numbers.start, keys[numbers.start]
        window = keys[start : numbers.stop]
        stems = frozenset().union(*(key.stems for key in window))
        sentence = of_sentence[first.sentence]
        found.append(
            {
                "window": covered(stems),
                "sentence": covered(sentence),
                "sentence_here": weight_here(sentence),
                "first_here": weight_here(first.stems),
                "kind": offers(window),
                "kind_first": offers(window[:1]),
                "opens_sentence": float(start == 0 or keys[start - 1].sentence != first.sentence),
            }
        )
    return found


def _terms(text: str) -> set[int]:
    return {term_hash(stem) for stem in content_stems(text)}
