"""Which tokens compete: of a large vocabulary, those that a text, its questions and ordinary text are written with.

A head over 262,144 tokens costs more than all blocks of a small model together. A reader writes what stands in the
text, so that other tokens seldom matter for which span is likeliest: for 1 of 80 questions on Gemma 3 270M
(benchmarks/LOG.md). Probabilities are shares of those in play, and are what a reader is calibrated on.

Shapes: N = any number of tokens, D = hidden size, S = tokens in play, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from continual_learning.documents.shipped import background_texts
from continual_learning.model.base_model import BaseModel

# Vocabularies up to this size compete as a whole: that is exact, and their head takes a fifth of the time.
_SMALL = 100_000


def tokens_in_play(base: BaseModel, texts: Sequence[str], others: Collection[int]) -> Tensor | None:
    """The tokens of ``texts``, of ordinary text, and ``others``: int64 [S], ascending; None: the whole vocabulary."""
    if base.vocab_size <= _SMALL:
        return None
    ordinary = base.remember("ordinary tokens", lambda: _tokens_of(base, background_texts()))
    return torch.tensor(sorted(ordinary | _tokens_of(base, texts) | set(others)), device=base.device)


def _tokens_of(base: BaseModel, texts: Sequence[str]) -> frozenset[int]:
    return frozenset(token for text in texts for token in base.encode(f" {text}"))


def log_likelihoods(base: BaseModel, hidden_ND: Tensor, tokens_S: Tensor | None) -> Tensor:
    """Log-probabilities [N, V] of the next token, of which only ``tokens_S`` are possible; None: all of them."""
    if tokens_S is None:
        return base.logits(hidden_ND).float().log_softmax(-1)
    log_likely_NS = base.logits(hidden_ND, tokens_S).float().log_softmax(-1)
    whole_NV = log_likely_NS.new_full((*log_likely_NS.shape[:-1], base.vocab_size), float("-inf"))
    whole_NV[..., tokens_S] = log_likely_NS
    return whole_NV
