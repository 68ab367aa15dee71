"""Where in a text the answer to a question is likely to begin: a value for every word, by rule.

A retriever says which text a question is about. An answer is a few words of it, and these are seldom words that the
question already has: they are near them, and of the type that is asked for. So the value of a word is

    value(w) = idf(w) * kind(w) * sum over the question's words v in the sentence of  idf(v) * exp(-|w - v| / tau)

and 0 if it is a stop word or the question has it. ``kind`` is larger for figures and months if the question asks
"when", for numbers if it asks "how many", for names if it asks "who" or "where". The value of starting to quote at a
word is the sum over the words from there on that still fit. A sentence is ranked by the question's words that it holds
(words that most sentences hold count less), by a share of those in the preceding sentence, to which its pronouns refer,
and by whether it holds a word of the type asked for.

The weights were chosen on articles on which no benchmark figure was measured (benchmarks/LOG.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from continual_learning.retrieval.routing import Rarity, term_hash
from continual_learning.text.answer_types import asked_for
from continual_learning.text.words import document_terms, term_forms, terms

_TAU = 6.0
"""Decay length, in words, of the nearness to a word of the question."""
_BEFORE = 0.3
"""Weight of words in the preceding sentence."""
_KIND_BONUS = 3.0
"""Bonus in nats for a sentence with a word of the type that is asked for."""
_COMMON = 0.3
_LENGTH = 0.2

_MONTHS = frozenset("january february march april may june july august september october november december".split())
_NUMBERS = frozenset(
    """one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand million
    billion half third quarter first second dozen percent""".split()
)


@dataclass(frozen=True)
class Kind:
    """The type of word that a question asks for, and how much more such a word is worth."""

    fits: Callable[[str, int], bool]
    """Whether a word fits, given its place in the sentence."""
    weight: float


def asked_kind(question: str) -> Kind | None:
    """The words that fit the type of answer that is asked for, or None if the question does not say."""
    kind = asked_for(question)
    if kind == "time":
        return Kind(lambda word, _: _has_digit(word) or _bare(word) in _MONTHS, 3.0)
    if kind == "number":
        return Kind(lambda word, _: _has_digit(word) or _bare(word) in _NUMBERS, 3.0)
    if kind in ("person", "place"):
        return Kind(lambda word, place: place > 0 and word[:1].isupper(), 2.0)
    return None


class SpanFinder:
    """Finds sentences, and places in them, for one question."""

    def __init__(self, question: str, rarity: Rarity):
        self._asked = frozenset(terms(question))
        self._kind = asked_kind(question)
        self._rarity = rarity

    def sentence_scores(self, sentences: Sequence[str]) -> list[float]:
        """How likely each sentence holds the answer, roughly in nats; ``sentences`` are in the order of their text."""
        if not sentences:
            return []
        held = [frozenset(document_terms(sentence)) for sentence in sentences]
        holding = {term: sum(term in one for one in held) for term in self._asked}
        weight = {t: self._idf(t) / (1 + _COMMON * math.log1p(n)) for t, n in holding.items()}
        mean = sum(map(len, held)) / len(held) or 1.0
        found = []
        for number, (sentence, own) in enumerate(zip(sentences, held, strict=True)):
            shared = self._asked & own
            score = math.fsum(weight[t] for t in shared)
            if number:
                score += _BEFORE * math.fsum(weight[t] for t in (self._asked & held[number - 1]) - own)
            if self._kind and any(self._fits(w, place) for place, w in enumerate(sentence.split())):
                score += _KIND_BONUS
            found.append(score / (1 - _LENGTH + _LENGTH * len(own) / mean))
        return found

    def word_values(self, words: Sequence[str]) -> list[float]:
        """The value of each word of a sentence as part of the answer; 0 for stop words and words of the question."""
        asked = [(place, max(map(self._idf, shared))) for place, w in enumerate(words) if (shared := self._shared(w))]
        values = []
        for place, word in enumerate(words):
            new = math.fsum(self._idf(forms[0]) for forms in term_forms(word) if self._asked.isdisjoint(forms))
            if self._kind and new and self._kind.fits(word, place):
                new *= self._kind.weight
            near = math.fsum(idf * math.exp(-abs(place - other) / _TAU) for other, idf in asked) if asked else 1.0
            values.append(new * near)
        return values

    def start_values(self, words: Sequence[str], sizes: Sequence[int], room: int) -> list[float]:
        """The value of starting to quote at each word: that of the words from there on, as many as fit.

        ``sizes`` are the words' token counts, ``room`` is how many tokens may be written. Relative to the best: 0 to 1.
        """
        values = self.word_values(words)
        found = []
        for start in range(len(words)):
            total, used = 0.0, 0
            for value, size in zip(values[start:], sizes[start:], strict=True):
                used += size
                if used > room:
                    break
                total += value
            found.append(total)
        best = max(found, default=0.0)
        return [value / best if best else 0.0 for value in found]

    def _idf(self, term: str) -> float:
        return self._rarity.idf(term_hash(term))

    def _shared(self, word: str) -> frozenset[str]:
        return self._asked & frozenset(document_terms(word))

    def _fits(self, word: str, place: int) -> bool:
        return self._kind is not None and not self._shared(word) and self._kind.fits(word, place)


def _bare(word: str) -> str:
    return word.strip(".,;:()\"'").lower()


def _has_digit(word: str) -> bool:
    return any(character.isdigit() for character in word)
