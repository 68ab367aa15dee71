"""What a memory of hidden states holds, and how a document is read into it.

For document ``doc-…`` the state has three tensors, with N its tokens:
    doc-…/keys      float16 [N + 1, D]  the unit hidden state before each token, and after the last one
    doc-…/tokens    int32 [N + 1]       these tokens: what came next; -1 after the last one
    doc-…/sentence  int32 [N + 1]       the number of the sentence that each is in; after the last one, one more

Shapes: N, M = positions, D = hidden size, T = tokens of a window, L = tokens looked back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.retrieval.datastore import unit
from continual_learning.text.chunking import sentences

NOTHING = -1
"""Marks the missing token after a document's end and before its beginning."""
LOOK_BACK = 4
"""Number of tokens before a position that are compared with what was written."""


@torch.no_grad()
def read_document(base: BaseModel, document_id: str, passages: Sequence[str]) -> dict[str, Tensor]:
    """Run one forward pass over a document, which is given as its passages, and return the tensors above.

    It is read as plain text. If it is longer than the window it is read in windows that overlap by half, as
    `BaseModel.token_nll` does, so that every token has at least half a window before it.
    """
    start = base.encode("", add_special_tokens=True) or [next(iter(sorted(base.stop_ids)), 0)]
    ids, numbers = document_tokens(base, passages)
    everything = [*start, *ids]
    keys: list[Tensor] = []
    done = len(start) - 1  # the states after these tokens are not wanted, or have been taken already
    while done < len(everything):
        begin = 0 if done < base.window else done - base.window // 2
        window_1T = torch.tensor([everything[begin : begin + base.window]], device=base.device)
        hidden_TD = base.run_from(base.hidden_before(window_1T, 0), window_1T, 0)[0]
        keys.append(hidden_TD[done - begin :])
        done = begin + window_1T.shape[1]
    keys_ND = unit(torch.cat(keys).float()).half().cpu()
    return {
        f"{document_id}/keys": keys_ND,
        f"{document_id}/tokens": torch.tensor([*ids, NOTHING], dtype=torch.int32),
        f"{document_id}/sentence": torch.tensor([*numbers, numbers[-1] + 1], dtype=torch.int32),
    }


def document_tokens(base: BaseModel, passages: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the tokens of a document, and the number of the sentence that each is in."""
    ids: list[int] = []
    numbers: list[int] = []
    for number, sentence in enumerate(s for passage in passages for s in sentences(passage)):
        piece = base.encode(f" {sentence}" if ids else sentence)
        ids += piece
        numbers += [number] * len(piece)
    return ids, numbers


@dataclass(frozen=True)
class Positions:
    """Positions of one or several documents, concatenated."""

    keys_ND: Tensor
    """float16: the unit hidden states."""
    tokens_N: Tensor
    """int64: what came next; `NOTHING` after a document's end."""
    before_NL: Tensor
    """int64 [N, `LOOK_BACK`]: the tokens before that, the nearest first."""
    begins_N: Tensor
    """bool: whether a sentence ends just before, so that another may begin."""
    places: tuple[tuple[str, int], ...]
    """Document and sentence of each."""

    def __len__(self) -> int:
        return len(self.tokens_N)

    def at(self, rows: Sequence[int]) -> Positions:
        """Return these positions alone, in this order."""
        chosen_M = torch.tensor(list(rows), dtype=torch.int64)
        places = tuple(self.places[row] for row in rows)
        rows_of = (self.keys_ND, self.tokens_N, self.before_NL, self.begins_N)
        keys_MD, tokens_M, before_ML, begins_M = (tensor[chosen_M] for tensor in rows_of)
        return Positions(keys_MD, tokens_M, before_ML, begins_M, places)

    def matches(self, rows_M: Tensor, written: Sequence[int]) -> Tensor:
        """Return how many of the last tokens written, at least one, precede each of these rows: int64 [M], up to 4."""
        last = torch.tensor([*reversed(written[-LOOK_BACK:])])
        same_ML = self.before_NL[rows_M, : len(last)] == last
        return same_ML.long().cumprod(1).sum(1)


def positions_of(state: State, document_ids: Sequence[str]) -> Positions:
    """Return all positions of these documents, in their order."""
    keys, tokens, before, begins = [], [], [], []
    places: list[tuple[str, int]] = []
    for document_id in document_ids:
        sentence_N = state.tensors[f"{document_id}/sentence"]
        keys.append(state.tensors[f"{document_id}/keys"])
        tokens_N = state.tensors[f"{document_id}/tokens"].long()
        padded = torch.cat([tokens_N.new_full((LOOK_BACK,), NOTHING), tokens_N])
        tokens.append(tokens_N)
        before.append(padded[:-1].unfold(0, LOOK_BACK, 1).flip(1))
        begins.append(torch.cat([sentence_N.new_tensor([-1]), sentence_N[:-1]]) != sentence_N)
        places += [(document_id, number) for number in sentence_N.tolist()]
    return Positions(torch.cat(keys), torch.cat(tokens), torch.cat(before), torch.cat(begins), tuple(places))


def sentence_numbers(passages: Sequence[str]) -> dict[tuple[int, int], int]:
    """(passage, sentence in it) -> number of the sentence in the document."""
    found: dict[tuple[int, int], int] = {}
    for number, passage in enumerate(passages):
        for inside, _ in enumerate(sentences(passage)):
            found[number, inside] = len(found)
    return found
