"""Grow and refine: what says the same is one entry, and what costs more than it is worth goes.

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

from continual_learning.documents.shipped import background_texts
from continual_learning.retrieval.routing import Rarity, term_hash
from continual_learning.strategies.methods.ace.playbook import Entry, Playbook, entry_json
from continual_learning.text.words import content_stems

CountTokens = Callable[[str], int]

PLAYBOOK_TOKENS = 2000
"""Most tokens of all entries. One that grew from 10,000 tokens to 15,000 was seen to answer far less than before."""
DUPLICATE_SIMILARITY = 0.85
"""Likeness from which two entries say the same: the lower end of the reference's range."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nor|without|avoid|cannot|don't|doesn't|isn't|aren't|can't|won't)\b", re.I
)
_FLOOR = 0.5
"""Least weight of a word, in nats: words that all background texts share still tell two texts apart."""


class Similarity:
    """Likeness of two texts, 0 to 1."""

    def __init__(self, rarity: Rarity):
        self._rarity = rarity

    @classmethod
    @cache
    def default(cls) -> Similarity:
        """By the background texts that ship with the package, counted once a process."""
        return cls(Rarity.of(background_texts()))

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
        """The entry that is most like a text, if it is as like as that; equals by number."""
        found = [(self(text, entry.text), -entry.number, entry) for entry in entries]
        best = max(found, key=lambda item: item[:2], default=None)
        return best[2] if best is not None and best[0] >= threshold else None

    def _weights(self, text: str) -> dict[int, float]:
        return {t: max(_FLOOR, self._rarity.idf(t)) for t in map(term_hash, sorted(content_stems(text)))}


def playbook_tokens(playbook: Playbook, count_tokens: CountTokens) -> int:
    """Tokens of all entries as they stand in a prompt."""
    return sum(count_tokens(entry.line) for entry in playbook.entries.values())


def prune(
    playbook: Playbook, max_entries: int, max_tokens: int, count_tokens: CountTokens
) -> tuple[Playbook, tuple[str, ...]]:
    """The playbook within its budgets, and the ids that had to go.

    First those that did harm at least as often as they helped, the worst first; then those never used, the oldest
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
    """The playbook with these entries; what went stands in the last record of the log, for undoing."""
    kept = playbook.with_entries(entries)
    if not playbook.log:
        return kept
    last = playbook.log[-1]
    before = {**{i: entry_json(playbook.entries[i]) for i in gone}, **last["before"]}
    return replace(kept, log=(*playbook.log[:-1], {**last, "before": before, "pruned": list(gone)}))


def _worth(entry: Entry, step: int) -> tuple[int, int, int]:
    """Sort key: what sorts first goes first."""
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
