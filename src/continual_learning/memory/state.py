"""State: what a strategy has learned, as tensors and plain data.

A state is a value. `Strategy.learn` takes one and returns another; the model holds none of it.
So to clear is `Strategy.init`, to roll back is to take an older state, and to fork is to copy.

Tensor names are ``<part>/<name>``. A part is written, shared between versions and deleted as
a whole: for instance, one document's weights (``doc-1f3a…/22.down``). Names and bytes depend only on what
was learned, never on when, so that learning A, B, C and forgetting B gives the bytes of A, C.
"""

from __future__ import annotations

import functools
import hashlib
import json
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from continual_learning.documents import Document

FORMAT_VERSION = 1

_Derived = TypeVar("_Derived")


@dataclass(frozen=True)
class DocumentRecord:
    """Provenance of one learned document."""

    id: str
    title: str
    source: str
    """Where it came from: a path, ``-`` for standard input, or ``text``."""
    sha256: str
    """SHA-256 of the title and the text, in UTF-8."""
    tokens: int
    """Tokens actually learned, counted by the base's tokenizer."""
    learned_at: str
    """UTC, ISO 8601."""
    details: dict[str, Any] = field(default_factory=dict)
    """What the strategy records about it: loss, recall, seconds … JSON values only."""

    @classmethod
    def of(cls, document: Document, tokens: int, details: Mapping[str, Any] | None = None) -> DocumentRecord:
        """The record of a document, with the current time as the time of learning."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(document.id, document.title, document.source, document.sha256, tokens, now, dict(details or {}))


@dataclass(frozen=True)
class StateMeta:
    """The JSON half of a state."""

    strategy: str
    config: dict[str, Any]
    """The strategy's configuration when the state was made, JSON values only."""
    base_name: str
    base_fingerprint: str
    documents: tuple[DocumentRecord, ...] = ()
    """Records of the documents, in the order in which they were learned."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Whatever else the strategy keeps, JSON values only."""
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StateMeta:
        """Inverse of `to_json`. Raises KeyError or TypeError on missing or wrong fields."""
        fields = dict(data)
        fields["documents"] = tuple(DocumentRecord(**d) for d in fields["documents"])
        return cls(**fields)

    def document(self, document_id: str) -> DocumentRecord | None:
        """The record with this id, or None."""
        return next((d for d in self.documents if d.id == document_id), None)


@dataclass(frozen=True)
class State:
    """What a strategy has learned: ``tensors`` (name to CPU tensor) and ``meta``."""

    tensors: Mapping[str, torch.Tensor]
    meta: StateMeta

    @property
    def bytes(self) -> int:
        """Size of all tensors in bytes."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())

    @property
    def parts(self) -> dict[str, dict[str, torch.Tensor]]:
        """Tensors grouped by the part of their name before the first ``/``, sorted."""
        grouped: dict[str, dict[str, torch.Tensor]] = {}
        for name in sorted(self.tensors):
            part, _, rest = name.partition("/")
            grouped.setdefault(part, {})[rest] = self.tensors[name]
        return grouped

    def digest(self) -> str:
        """SHA-256 over names, dtypes, shapes and bytes of all tensors, and the learned documents.

        Times and file paths are left out, so two states that learned the same give the same digest.
        """
        h = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name].detach().contiguous().cpu()
            h.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
            h.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
        h.update(json.dumps([d.sha256 for d in self.meta.documents]).encode())
        return h.hexdigest()

    def with_documents(self, documents: tuple[DocumentRecord, ...], tensors: Mapping[str, torch.Tensor]) -> State:
        """This state with other documents and tensors."""
        return State(dict(tensors), replace(self.meta, documents=documents))


def once_per_state(derive: Callable[[State], _Derived]) -> Callable[[State], _Derived]:
    """Wrap a function of a state so that it runs once per state: a state never changes. The result goes with it."""
    known: dict[int, _Derived] = {}  # by identity: comparing two states would compare all tensors

    @functools.wraps(derive)
    def derived(state: State) -> _Derived:
        if id(state) not in known:
            known[id(state)] = derive(state)
            weakref.finalize(state, known.pop, id(state), None)
        return known[id(state)]

    return derived
