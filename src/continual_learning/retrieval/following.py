"""An index that keeps up with a memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from continual_learning.memory.state import DocumentRecord
from continual_learning.retrieval.index import Index

Chunks = Mapping[str, Sequence[str]]


class FollowingIndex:
    """An index that is brought up to date with a memory, at the cost of what changed since the last time.

    A state is an immutable value and an index changes, so the index follows: the next version of a memory adds its new
    document, rolling back removes it again, and another memory replaces everything. It finds what an index built from
    scratch would find (`index.Index`), so it is not state, it only saves time.
    """

    def __init__(self, make: Callable[[], Index]):
        self._make = make
        self._index = make()
        self._held: Chunks = {}

    def follow(self, chunks: Chunks, documents: Iterable[DocumentRecord]) -> Index:
        """The index of these chunks (document id to texts), each indexed after its document's title.

        The mapping must not be changed afterwards: as long as it is the same object it is taken to hold the same.
        """
        if chunks is self._held:
            return self._index
        try:
            self._change(chunks, documents)
        except BaseException:  # interrupted halfway: what it holds is no longer known
            self._index, self._held = self._make(), {}
            raise
        self._held = chunks
        return self._index

    def _change(self, chunks: Chunks, documents: Iterable[DocumentRecord]) -> None:
        # Comparison checks identity first: texts that two versions of a memory share cost next to nothing.
        for document_id, texts in self._held.items():
            if chunks.get(document_id) != texts:
                for number in range(len(texts)):
                    self._index.remove((document_id, number))
        titles = {record.id: record.title for record in documents}
        for document_id, texts in chunks.items():
            if self._held.get(document_id) != texts:
                for number, text in enumerate(texts):
                    self._index.add((document_id, number), f"{titles[document_id]}\n{text}")
