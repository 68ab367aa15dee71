"""Which passage of the memory a question is about, if any.

Each learned passage has a branch of its own and a key: hashes of the content words of the passage and its title.
A question opens the passage that covers the largest share of its content words, weighted by how rare
they are in background text,

    coverage(q, p) = evidence(q, p) / sum of idf(w) over words w in q,
    evidence(q, p) = sum of idf(w) over words w in q and p,

if both reach a threshold; else it opens none and the base answers as it always did, bit for bit. Coverage alone
would open a passage that mentions Japan for "What is the capital of Japan?": evidence asks for more than one shared
word. The key finds the weights and is never shown to the model.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from continual_learning.words import content_stems


def term_hash(stem: str) -> int:
    """63 bits of SHA-256: the memory keeps no words, and a collision is out of reach."""
    return int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8], "big") >> 1


def passage_key(title: str, text: str) -> Tensor:
    """Sorted hashes of the content stems of a passage and its title: int64 [n]."""
    return torch.tensor(sorted({term_hash(s) for s in content_stems(f"{title} {text}")}), dtype=torch.int64)


@dataclass(frozen=True)
class Rarity:
    """Inverse document frequency of content words over background texts."""

    document_frequency: Mapping[int, int]
    texts: int

    @classmethod
    def of(cls, background: Iterable[str]) -> Rarity:
        """Counted over the given texts."""
        counts: Counter[int] = Counter()
        texts = 0
        for text in background:
            texts += 1
            counts.update({term_hash(s) for s in content_stems(text)})
        return cls(counts, texts)

    def idf(self, term: int) -> float:
        """``log((|B| + 1) / (df + 1))``."""
        return math.log((self.texts + 1) / (self.document_frequency.get(term, 0) + 1))

    def match(self, text: str, keys: Sequence[frozenset[int]]) -> list[tuple[float, float]]:
        """For each key, coverage (0 to 1) and evidence (nats) of the content words of ``text``."""
        weights = {t: self.idf(t) for t in map(term_hash, sorted(content_stems(text)))}
        total = math.fsum(weights.values())
        if total == 0:
            return [(0.0, 0.0)] * len(keys)
        shared = [math.fsum(w for t, w in weights.items() if t in key) for key in keys]
        return [(evidence / total, evidence) for evidence in shared]
