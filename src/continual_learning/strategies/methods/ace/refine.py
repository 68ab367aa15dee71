"""Grow and refine: entries that say the same become one, and entries that cost more than they are worth are removed.

The reference compares embeddings (0.85 to 0.90); here texts are compared by the cosine of their content words,
weighted by how rare they are in background text, which needs no second model and is the same everywhere. Two texts with
different numbers or negations are never the same, however alike they look.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from continual_learning.retrieval.routing import Rarity, default_rarity, term_hash
from continual_learning.strategies.methods.ace.playbook import Entry, Playbook, entry_json
from continual_learning.text.words import content_stems

CountTokens = Callable[[str], int]

PLAYBOOK_TOKENS = 2000
"""Maximum tokens of all entries. A playbook that grew from 10,000 to 15,000 tokens was seen to do far worse."""
DUPLICATE_SIMILARITY = 0.85
"""Similarity from which two entries say the same: the lower end of the reference's range."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nor|without|avoid|cannot|don't|doesn't|isn't|aren't|can't|won't)\b", re.I
)
_FLOOR = 0.5
"""Minimum weight of a word, in nats: words that all background texts share still tell two texts apart."""


class Similarity:
    """Similarity of two texts, 0 to 1."""

    def __init__(self, rarity: Rarity):
        self._rarity = rarity

    @classmethod
    @cache
    def default(cls) -> Similarity:
        """Return the similarity by the background texts that ship with the package, counted once per process."""
        return cls(default_rarity())

    def __call__(self, first: str, second: str) -> float:
        """Cosine of the weighted content words; 0 where numbers or negations differ."""
        if _claims(first) != _claims(second):
            return 0.0
        a, b = self._weights(first), self._weights(second)
        if not a or not b:
            return float(_folded(first) == _folded(second))
        shared = math.fsum(w * w for t, w in a.items() if t in b)
        return shared / math.sqrt(math.fsum(w * w for w in a.values()) * math.fsum(w * w for w in b.values()))

    def duplicate(self, text: str, entries: Iterable[Entry], threshold: float) -> Entry | None:
        """Return the entry most similar to a text, if its similarity reaches ``threshold``; of equals, the oldest."""
        found = [(self(text, entry.text), -entry.number, entry) for entry in entries]
        best = max(found, key=lambda item: item[:2], default=None)
        return best[2] if best is not None and best[0] >= threshold else None

    def _weights(self, text: str) -> dict[int, float]:
        return {t: max(_FLOOR, self._rarity.idf(t)) for t in map(term_hash, sorted(content_stems(text)))}


def playbook_tokens(playbook: Playbook, count_tokens: CountTokens) -> int:
    """Return the number of tokens of all entries as they are written in a prompt."""
    return sum(count_tokens(entry.line) for entry in playbook.entries.values())


def prune(
    playbook: Playbook, max_entries: int, max_tokens: int, count_tokens: CountTokens
) -> tuple[Playbook, tuple[str, ...]]:
    """Return the playbook within its budgets, and the ids that had to go.

    First go those that did harm at least as often as they helped, the worst first; then those never used, the oldest
    first; then the oldest. What the last patch added counts as used, or a full playbook would never learn again.
    """
    sizes = {entry.id: count_tokens(entry.line) for entry in playbook.entries.values()}
    entries = dict(playbook.entries)
    total = sum(sizes.values())
    gone: list[str] = []
    for entry in sorted(entries.values(), key=lambda entry: _worth(entry, playbook.step)):
        if len(entries) <= max_entries and total <= max_tokens:
            break
        del entries[entry.id]
        total -= sizes[entry.id]
        gone.append(entry.id)
    return (_logged(playbook, entries, gone) if gone else playbook), tuple(gone)


def _logged(playbook: Playbook, entries: Mapping[str, Entry], gone: Sequence[str]) -> Playbook:
    """Return the playbook with these entries; the last record of the log keeps those that went, for undoing."""
    kept = playbook.with_entries(entries)
    if not playbook.log:
        return kept
    last = playbook.log[-1]
    before = {**{i: entry_json(playbook.entries[i]) for i in gone}, **last["before"]}
    return replace(kept, log=(*playbook.log[:-1], {**last, "before": before, "pruned": list(gone)}))


def _worth(entry: Entry, step: int) -> tuple[int, int, int]:
    """Return the sort key of an entry: the lowest goes first."""
    if entry.harmful and entry.harmful >= entry.helpful:
        return 0, entry.helpful - entry.harmful, entry.number
    if not entry.used_step and entry.created_step < step:
        return 1, entry.created_step, entry.number
    return 2, entry.created_step, entry.number


def _claims(text: str) -> tuple[tuple[str, ...], bool]:
    return tuple(sorted(n.replace(",", "") for n in _NUMBER.findall(text))), bool(
        _NEGATION.search(text.replace("’", "'"))
    )


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
