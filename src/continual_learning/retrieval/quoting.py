"""Which token comes next if the answer is a quotation of the sentences found.

The text written so far is the state, and the places in the sentences that continue it are its neighbours: at the
beginning every word where an answer is likely to start (`spans`), then what follows the words that were copied, and if
nothing was copied yet, or the copied text ends, the likely starts again. The outcome of a place is the token there;
after the end of a sentence it is the end of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from continual_learning.model.base_model import BaseModel
from continual_learning.retrieval.passages import Found

_LONGEST_MATCH = 6
"""Tokens to look back to find the place that is being copied."""


@dataclass(frozen=True)
class _Sentence:
    ids: tuple[int, ...]
    """The sentence as it follows other text: its first word with a leading space."""
    starts: dict[int, float]
    """Maps the place of a word's first token to the value of starting there, 0 to 1."""
    openings: tuple[tuple[tuple[int, ...], float], ...]
    """The rest of the sentence from each such word on, as at the beginning of an answer, with the word's value."""


class Quotations:
    """The sentences that an answer may quote."""

    def __init__(self, base: BaseModel, found: Found, sentences: int, room: int, after_space: bool):
        """``room`` tokens may be written; ``after_space``: whether an answer begins with a space (plain completion)."""
        lead = " " if after_space else ""
        self._stop = min(base.stop_ids, default=None)
        self._sentences: list[_Sentence] = []
        for weight, one in found.weighted(sentences):
            words = one.text.split()
            pieces = [base.encode(f" {word}") for word in words]
            worth = found.starts(words, [len(piece) for piece in pieces], room)
            self._sentences.append(
                _Sentence(
                    tuple(token for piece in pieces for token in piece),
                    {sum(map(len, pieces[:n])): weight * value for n, value in worth.items()},
                    tuple((tuple(base.encode(lead + " ".join(words[n:]))), weight * v) for n, v in worth.items()),
                )
            )

    def outcomes(self, written: Sequence[int]) -> dict[int, float]:
        """The tokens that may come next, each with a weight from 0 to 1."""
        found = self._opened(tuple(written)) if written else self._beginnings()
        return found or self._continued(tuple(written)) or self._starts()

    def _beginnings(self) -> dict[int, float]:
        return _best((ids[0], value) for one in self._sentences for ids, value in one.openings)

    def _opened(self, written: tuple[int, ...]) -> dict[int, float]:
        """What follows an answer that is a quotation from its first token on."""
        length = len(written)
        return _best(
            (token, value)
            for one in self._sentences
            for ids, value in one.openings
            if ids[:length] == written and (token := self._next(ids, length)) is not None
        )

    def _continued(self, written: tuple[int, ...]) -> dict[int, float]:
        """What follows the longest suffix of the answer found in a sentence; a single token must be a start."""
        for length in range(min(_LONGEST_MATCH, len(written)), 0, -1):
            end = written[-length:]
            found = _best(
                (token, 1.0)
                for one in self._sentences
                for place in range(len(one.ids) - length + 1)
                if one.ids[place : place + length] == end
                and (length > 1 or place in one.starts)
                and (token := self._next(one.ids, place + length)) is not None
            )
            if found:
                return found
        return {}

    def _starts(self) -> dict[int, float]:
        return _best((one.ids[place], value) for one in self._sentences for place, value in one.starts.items())

    def _next(self, ids: tuple[int, ...], place: int) -> int | None:
        return ids[place] if place < len(ids) else self._stop


def _best(weighted: Iterable[tuple[int, float]]) -> dict[int, float]:
    found: dict[int, float] = {}
    for token, weight in weighted:
        found[token] = max(weight, found.get(token, 0.0))
    return found
