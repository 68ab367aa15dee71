"""What a hypernetwork reads: a document as chunks of tokens, and the base model's activations on them.

A chunk is written as a user's turn followed by the prompt for an answer, as the base's chat template writes one.
There are as few chunks as the limit allows, as equal in length as possible; only the document's own tokens count.

Shapes: C = chunks, L = activations of a token, S = tokens including the template's, D = hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from continual_learning.errors import DocumentError, UnsupportedModelError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.chat_template import user
from continual_learning.model.families import captured_inputs
from continual_learning.strategies.methods.doc2lora.config import ContextEncoder

_PROBES = "x7aQ.e"


@dataclass(frozen=True)
class Affixes:
    """Token ids before and after every chunk."""

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Chunks:
    """A document cut into chunks."""

    ids: tuple[tuple[int, ...], ...]
    """Token ids of each chunk, including the affixes."""
    tokens: int
    """Number of tokens of the document."""
    size: int
    """Number of document tokens in the longest chunk."""


def chat_affixes(base: BaseModel) -> Affixes:
    """Return what the base's chat template writes around a user's turn and before the answer.

    Raises UnsupportedModelError if comparing two turns of one character does not show it.
    """

    def found() -> Affixes:
        for one, other in combinations(_PROBES, 2):
            first, second = base.chat_ids([user(one)]), base.chat_ids([user(other)])
            if first != second:
                before = _common(first, second)
                after = _common(first[:before:-1], second[:before:-1])
                return Affixes(tuple(first[:before]), tuple(first[len(first) - after :]))
        raise UnsupportedModelError(
            f"the tokenizer of {base.name!r} reads {', '.join(_PROBES)} as the same token; expected one that tells "
            "letters apart, to see where its chat template puts a user's words"
        )

    return base.remember("chat affixes", found)


def named_affixes(base: BaseModel, before: str, after: str) -> Affixes:
    """Return affixes that are given as text, with special tokens by name."""
    return Affixes(tuple(base.encode(before, special_words=True)), tuple(base.encode(after, special_words=True)))


def document_chunks(base: BaseModel, text: str, chunk_tokens: int, affixes: Affixes) -> Chunks:
    """Cut a text into chunks of at most ``chunk_tokens`` tokens, fewer if the base's window is smaller.

    Raises DocumentError for a text without tokens, UnsupportedModelError if the affixes fill the window.
    """
    ids = _document_ids(base, text.strip(), affixes)
    if not ids:
        raise DocumentError("the text is empty; expected at least one word")
    around = len(affixes.before) + len(affixes.after)
    limit = min(chunk_tokens, base.window - around)
    if limit < 1:
        raise UnsupportedModelError(
            f"the chat template of {base.name!r} takes {around} tokens of its window of {base.window}; expected room "
            "for a document"
        )
    size = math.ceil(len(ids) / math.ceil(len(ids) / limit))
    parts = [ids[at : at + size] for at in range(0, len(ids), size)]
    return Chunks(tuple((*affixes.before, *part, *affixes.after) for part in parts), len(ids), size)


@torch.no_grad()
def context_activations(
    base: BaseModel,
    chunks: Sequence[Sequence[int]],
    encoder: ContextEncoder = "per_layer_activations",
    blocks: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the base's activations on chunks, padded on the right, and the mask ``[C, S]`` of non-padding tokens.

    ``per_layer_activations``: ``[C, L, S, D]``, the embeddings, then the output of every block but the last, the last
    of these after the final norm; ``blocks`` is L (None: the number of blocks). ``early_exit``: ``[C, S, D]``, the
    output of the first ``blocks`` blocks (None: a quarter of them) after the final norm. ``embed_only``: ``[C, S, D]``.
    """
    longest = max(len(ids) for ids in chunks)
    filler = base.tokenizer.pad_token_id or 0  # masked out: any token would do
    rows = [[*ids, *[filler] * (longest - len(ids))] for ids in chunks]
    ids_CS = torch.tensor(rows, device=base.device)
    lengths_C = torch.tensor([len(ids) for ids in chunks], device=base.device)
    mask_CS = (torch.arange(longest, device=base.device) < lengths_C[:, None]).long()
    return activations(base, ids_CS, mask_CS, encoder, blocks), mask_CS


@torch.no_grad()
def activations(
    base: BaseModel, ids_CS: Tensor, mask_CS: Tensor, encoder: ContextEncoder, blocks: int | None = None
) -> Tensor:
    """As `context_activations`, for tokens that are already padded."""
    if encoder == "embed_only":
        return base.hidden_before(ids_CS, 0)
    per_layer = encoder == "per_layer_activations"
    count = (blocks or base.block_count) - 1 if per_layer else blocks or base.block_count // 4
    kept = base.blocks[:count]
    assert isinstance(kept, nn.ModuleList)
    read = dict(enumerate(kept)) if per_layer else {}
    with base.patched({base.family.blocks_path: kept}), captured_inputs(read) as states:
        last_CSD: Tensor = base.backbone(input_ids=ids_CS, attention_mask=mask_CS, use_cache=False).last_hidden_state
    return torch.stack([*(states[i] for i in read), last_CSD], dim=1) if per_layer else last_CSD


def _document_ids(base: BaseModel, text: str, affixes: Affixes) -> list[int]:
    """Return a text's tokens between the affixes: a tokenizer may merge a space before them into the first."""
    if text and affixes == chat_affixes(base):
        ids, before, after = base.chat_ids([user(text)]), len(affixes.before), len(affixes.after)
        if (tuple(ids[:before]), tuple(ids[len(ids) - after :])) == (affixes.before, affixes.after):
            return ids[before : len(ids) - after]
    return base.encode(text)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common beginning of two sequences."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
