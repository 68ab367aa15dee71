"""Layout of learned passages in a state.

``<document id>/<passage>.key`` holds the passage's word hashes, ``<document id>/<passage>.parts`` those of its parts
(`parts.part_index`), and ``<document id>/<passage>.<block>.<name>`` what its branch in that block learned
(`dual_mlp.branch_deltas`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from continual_learning.documents import Document
from continual_learning.memory.state import DocumentRecord, State, once_per_state
from continual_learning.retrieval.parts import PartKey, index_name, part_index, part_keys, part_spaces
from continual_learning.retrieval.routing import Passage, key_tensors
from continual_learning.strategies.methods.ttt.learning import LearnedPassage
from continual_learning.text.chunking import spaces_before


def passage_tensors(document: Document, texts: Sequence[str], learned: Sequence[LearnedPassage]) -> dict[str, Tensor]:
    """Return the tensors of a document, by name."""
    tensors = key_tensors(document.id, document.title, texts)
    spaced = spaces_before(document.text, texts)
    for number, passage in enumerate(learned):
        prefix = f"{document.id}/{number:04d}"
        tensors[index_name(document.id, number)] = part_index(
            passage.parts, texts[number - 1] if number else "", spaced[number]
        )
        for block, deltas in passage.deltas.items():
            tensors.update({f"{prefix}.{block:03d}.{name}": tensor for name, tensor in deltas.items()})
    return tensors


def passage_parts(state: State, document_id: str, number: int) -> list[PartKey]:
    """Return the keys of a passage's parts, in order."""
    return part_keys(state.tensors[index_name(document_id, number)])


def passage_spaces(state: State, document_id: str, number: int, parts: int) -> list[bool | None]:
    """Return for each part of a passage whether white space stands before it; None if its characters tell."""
    return part_spaces(state.tensors[index_name(document_id, number)], parts)


def passage_deltas(state: State, document_id: str, number: int) -> dict[int, dict[str, Tensor]]:
    """Return what the branches of one passage learned, by block."""
    return _all_deltas(state).get((document_id, number), {})


@once_per_state
def _all_deltas(state: State) -> dict[Passage, dict[int, dict[str, Tensor]]]:
    found: dict[Passage, dict[int, dict[str, Tensor]]] = {}
    for name, tensor in state.tensors.items():
        document_id, _, rest = name.partition("/")
        number, _, weights = rest.partition(".")
        block, _, part = weights.partition(".")
        if part:  # a key has no block
            found.setdefault((document_id, int(number)), {}).setdefault(int(block), {})[part] = tensor
    return found


def with_document(
    state: State, document: Document, tensors: dict[str, Tensor], tokens: int, details: dict[str, Any], keep_text: bool
) -> State:
    """Return the state with one more document. ``keep_text`` keeps its text, for learning it again."""
    record = DocumentRecord.of(document, tokens, details)
    extra = dict(state.meta.extra)
    if keep_text:
        extra["texts"] = {**extra.get("texts", {}), document.id: document.text}
    meta = replace(state.meta, documents=(*state.meta.documents, record), extra=extra)
    return State({**state.tensors, **tensors}, meta)


def without_texts(state: State, document_ids: Sequence[str]) -> dict[str, Any]:
    """Return the state's extra data without the kept texts of these documents."""
    texts = {k: v for k, v in state.meta.extra.get("texts", {}).items() if k not in document_ids}
    return {**state.meta.extra, "texts": texts}
