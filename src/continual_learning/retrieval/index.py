"""The interface of every index of texts, however it ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

# Identifies a text in an index: a document's id and the number of the chunk in it.
Key = tuple[str, int]


@dataclass(frozen=True)
class Hit:
    """A text that was found."""

    key: Key
    score: float
    """The index's own measure; larger is nearer. Comparable within one search only."""


class Index(Protocol):
    """Texts by key, found by similarity to a query.

    What a search finds depends on the texts that are in it now, never on the order of additions and removals.
    """

    def add(self, key: Key, text: str) -> None:
        """Add a text, in time proportional to its length. Raises ValueError if the key exists already."""

    def remove(self, key: Key) -> None:
        """Remove a text. Raises KeyError for an unknown key."""

    def search(self, query: str, k: int) -> list[Hit]:
        """At most ``k`` texts that have something in common with the query, best first; ties by key."""

    def __len__(self) -> int:
        """How many texts it holds."""

    def __contains__(self, key: Key) -> bool:
        """Whether a text of this key is in it."""
