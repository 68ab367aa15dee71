"""Several questions in one row, each as if it were alone after the start that all prompts share.

    row         [start of the prompts] [question 1 with its answer] [question 2 with its answer] …
    position     0 … P-1               P …                          P …

A token attends to the start and to its own question up to itself, so the row gives the same as the questions one by
one, while the start is computed once and no question is padded to the longest. An adapter changes the start's states
too, which is why they cannot be computed once for all documents.

Shapes: B = rows, T = tokens of a row, S = tokens of a question with its answer, P = tokens of the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from continual_learning.errors import InputError
from continual_learning.model.base_model import Attention, BaseModel
from continual_learning.model.fast_decoder import shared_start
from continual_learning.strategies.methods.doc2lora.training.targets import Target, prompt_start

_START, _FILLER = 0, -1  # segment numbers of the start and of padding


@dataclass(frozen=True)
class Packing:
    """Questions in rows."""

    ids_BT: Tensor
    attention: Attention | None
    """None if every row is one plain sequence."""
    own: tuple[tuple[slice, ...], ...]
    """For each row, the slices of its questions' own tokens."""
    start: int
    """P: number of tokens at the start of a row that its questions share; 0 if every row has one question."""
    rows: tuple[int, ...]
    places: tuple[int, ...]
    """Row and position of each state that predicts a token of an answer: question by question, token by token."""


def packed(base: BaseModel, rows: Sequence[Sequence[Target]], start: Sequence[int] | None = None) -> Packing:
    """Lay out each row's targets side by side, after as much of ``start`` as their prompts have in common.

    By default ``start`` is what precedes a user's words in every prompt. Raises InputError for a target that is
    longer than the window of the base's attention.
    """
    several = max(map(len, rows)) > 1
    common: tuple[int, ...] = ()
    if several:
        before = prompt_start(base) if start is None else start
        common = shared_start([before, *(target.prompt[:-1] for targets in rows for target in targets)])
    ids: list[list[int]] = []
    segments: list[list[int]] = []
    positions: list[list[int]] = []
    own: list[tuple[slice, ...]] = []
    read: list[tuple[int, int]] = []
    for number, targets in enumerate(rows):
        row, segment, position = list(common), [_START] * len(common), list(range(len(common)))
        slices: list[slice] = []
        for which, target in enumerate(targets, 1):
            if several:
                _check(base, target)
            begin = len(row)
            tokens = target.ids[len(common) :]
            row += tokens
            segment += [which] * len(tokens)
            position += range(len(common), len(target.ids))
            slices.append(slice(begin, len(row)))
            first = begin + len(target.prompt) - 1 - len(common)
            read += [(number, first + at) for at in range(len(target.answer))]
        ids.append(row)
        segments.append(segment)
        positions.append(position)
        own.append(tuple(slices))
    longest = max(map(len, ids))
    ids_BT = _padded(ids, longest, 0, base)
    attention = None
    if several:
        attention = Attention(_allowed(_padded(segments, longest, _FILLER, base)), _padded(positions, longest, 0, base))
    return Packing(
        ids_BT, attention, tuple(own), len(common), tuple(row for row, _ in read), tuple(at for _, at in read)
    )


def _allowed(segment_BT: Tensor) -> Tensor:
    same_BTT = segment_BT[:, :, None] == segment_BT[:, None, :]
    start_B1T = (segment_BT == _START)[:, None, :]
    count = segment_BT.shape[1]
    earlier_TT = torch.ones(count, count, dtype=torch.bool, device=segment_BT.device).tril()
    # Padding attends to padding: a softmax over nothing would be NaN.
    return (same_BTT | (start_B1T & (segment_BT != _FILLER)[:, :, None])) & earlier_TT


def _check(base: BaseModel, target: Target) -> None:
    window = getattr(base.model.config.get_text_config(), "sliding_window", None)
    if window is not None and len(target.ids) > window:
        raise InputError(
            f"a question with its answer has {len(target.ids)} tokens, and {base.name!r} attends to the last {window}; "
            "expected fewer: leave it out, or lower answer_tokens"
        )


def _padded(rows: Sequence[Sequence[int]], longest: int, filler: int, base: BaseModel) -> Tensor:
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows], device=base.device)
