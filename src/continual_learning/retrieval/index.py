"""What every index of texts can do, whatever it ranks by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

# Names a text in an index: a document's id and the number of the chunk in it.
Key = tuple[str, int]


@dataclass(frozen=True)
class Hit:
    """A text that was found."""

    key: Key
    score: float
    """The index's own measure, larger is nearer; comparable within one search only."""


class Index(Protocol):
    """Texts by key, found by likeness to a query.

    What a search finds depends on the texts that are in it now, never on the order in which they came and went.
    """

    def add(self, key: Key, text: str) -> None:
        """Put a text in. Costs that text alone. Raises ValueError for a key that is there already."""

    def remove(self, key: Key) -> None:
        """Take a text out. Raises KeyError for a key that is not there."""

    def search(self, query: str, k: int) -> list[Hit]:
        """At most ``k`` texts that have something in common with the query, best first; equals by key."""

    def __len__(self) -> int:
        """How many texts it holds."""

    def __contains__(self, key: Key) -> bool:
        """Whether a text of this key is in it."""
