"""The inputs of a base's blocks for a text and for questions that follow it.

Shapes: T = tokens of a text, Q = tokens of a question, N = tokens of any input, L = blocks whose states are read,
D = hidden size, C = questions, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from continual_learning.errors import UnsupportedModelError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import captured_inputs

_LONGEST_QUESTION = 128


@dataclass(frozen=True)
class ReadStates:
    """A text and the questions after it."""

    text: str
    offsets: tuple[tuple[int, int], ...]
    """Start and end of each of the text's tokens in it."""
    text_TLD: Tensor
    questions_QLD: tuple[Tensor, ...]
    first_T: tuple[Tensor, ...]
    """For each question: log-probability in nats of each token of the text as the first of the base's own answer."""


@torch.no_grad()
def read_states(base: BaseModel, title: str, text: str, questions: Sequence[str], blocks: Sequence[int]) -> ReadStates:
    """One forward pass over the text, and one over all questions after it; at least one question.

    What does not fit the window is left out: the beginning of a long question, the end of a text. Raises
    UnsupportedModelError for a tokenizer that does not report the positions of its tokens.
    """
    if not base.tokenizer.is_fast:
        raise UnsupportedModelError(
            f"{base.name}: its tokenizer gives no positions of tokens in a text; a span reader needs a fast one"
        )
    begin = [] if base.tokenizer.bos_token_id is None else [int(base.tokenizer.bos_token_id)]
    before = [*begin, *base.encode(f"{title}\n")]
    asked = [base.encode(f"\nQuestion: {question}\nAnswer:")[-_LONGEST_QUESTION:] for question in questions]
    encoded = base.tokenizer(
        text, return_offsets_mapping=True, add_special_tokens=False, split_special_tokens=True, verbose=False
    )
    room = max(1, base.window - len(before) - max(map(len, asked)))
    ids, offsets = encoded["input_ids"][:room], encoded["offset_mapping"][:room]
    longest = max(map(len, asked))
    asked_CN = torch.tensor([[*one, *[0] * (longest - len(one))] for one in asked], device=base.device)
    cache = base.new_cache()
    prefix_1NLD, _ = _block_inputs(base, torch.tensor([[*before, *ids]], device=base.device), cache, blocks)
    cache.batch_repeat_interleave(len(asked))
    # Padding is on the right, where causal attention keeps every token from seeing it.
    questions_CNLD, final_CND = _block_inputs(base, asked_CN, cache, blocks)
    last_C = torch.tensor([len(one) - 1 for one in asked], device=base.device)
    log_likely_CV = base.logits(final_CND[torch.arange(len(asked)), last_C]).float().log_softmax(-1)
    ids_T = torch.tensor(ids, device=base.device)
    return ReadStates(
        text,
        tuple((int(start), int(end)) for start, end in offsets),
        prefix_1NLD[0, len(before) :],
        tuple(states_NLD[: len(one)] for states_NLD, one in zip(questions_CNLD, asked, strict=True)),
        tuple(log_likely_V[ids_T] for log_likely_V in log_likely_CV),
    )


def _block_inputs(base: BaseModel, ids_CN: Tensor, cache: Any, blocks: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The inputs of the given blocks, ``[C, N, L, D]``, and the last hidden states, ``[C, N, D]``; the cache grows."""
    with captured_inputs({i: base.blocks[i] for i in blocks}) as seen:
        out = base.backbone(input_ids=ids_CN, past_key_values=cache, use_cache=True)
    return torch.stack([seen[i] for i in blocks], 2), out.last_hidden_state
