"""First of all, keys: which of the document's tokens should an answer's next token be read from?

The value that linear fast weights hold at a token of the document is the token behind it. So a memory answers right
when the place before an answer's token opens a place of the document that the same token stands behind; and whether it
does is known without a memory in place. Keys, queries and the reader are trained for that alone, by cross-entropy over
the tokens that stand in the document (contrastive, as a retriever's: InfoNCE, van den Oord et al. 2018, arXiv
1807.03748, equation 4). What counts is the token that the value begins with: the reply's words before it are the
question's, and the tokens behind it follow from it.

Shapes: L = layers, N = tokens of all answers, S = tokens of the document, I = inputs of the module, U = different
tokens of the document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.doc2lora.linear import LinearHypernetwork
from continual_learning.strategies.methods.doc2lora.training.packing import packed
from continual_learning.strategies.methods.doc2lora.training.student import Group, Reading, States

_WEIGHTS = (1.0, *[0.15] * 5)  # of the first token of a value, and of those behind it


class Queries(NamedTuple):
    """Places that a document is to be opened from: those before tokens of answers."""

    input_LNI: Tensor
    """What the module reads there."""
    answer_N: Tensor
    """The tokens."""
    weight_N: Tensor
    """What each of them counts in a loss."""


def queries(base: BaseModel, network: LinearHypernetwork, group: Group, states: States) -> Queries:
    """The first tokens of the values, before which the network's reader is, without a memory. Differentiable."""
    begun = [replace(target, answer=target.answer[: target.value_at + len(_WEIGHTS)]) for target in group]
    layout = packed(base, [begun], states.start)
    found_1LTI = network.module_inputs(base, states.of([[begun]], layout), layout.ids_BT, layout.attention)
    read: list[int] = []
    weights: list[float] = []
    places = iter(layout.places)
    for target in begun:
        own = [next(places) for _ in target.answer][target.value_at :]
        read += own
        weights += _WEIGHTS[: len(own)]
    answers = [token for target in begun for token in target.answer[target.value_at :]]
    device = base.device
    return Queries(found_1LTI[0][:, read], torch.tensor(answers, device=device), torch.tensor(weights, device=device))


def retrieval_loss(
    network: LinearHypernetwork, reading: Reading, next_S: Tensor, asked: Sequence[Queries]
) -> Tensor | None:
    """Mean cross-entropy over layers and the queries' tokens, in nats, the tokens by their weights.

    ``next_S`` are the tokens behind those of the document that was read as one chunk, a negative one where there is
    none. Answers' tokens that the document lacks do not count; None where it has none of them.
    """
    input_LNI = torch.cat([group.input_LNI for group in asked], dim=1)
    answer_N = torch.cat([group.answer_N for group in asked])
    weight_N = torch.cat([group.weight_N for group in asked])
    activations, mask = reading
    opened_LNS = network.openings(activations, mask, input_LNI[None])[0]
    there_S = next_S >= 0
    token_U, which_S = next_S[there_S].unique(return_inverse=True)
    score_LNU = opened_LNS.new_zeros(*opened_LNS.shape[:2], len(token_U))
    # Each layer is to find the token by itself: its part of the sum stands for all of it.
    score_LNU = score_LNU.index_add(2, which_S, opened_LNS[:, :, there_S]) * len(opened_LNS)
    place_N = torch.searchsorted(token_U, answer_N).clamp(max=len(token_U) - 1)
    weight_N = weight_N * (token_U[place_N] == answer_N)
    if float(weight_N.sum()) == 0:
        return None
    loss_LN = F.cross_entropy(score_LNU.flatten(0, 1), place_N.repeat(len(score_LNU)), reduction="none")
    return (loss_LN.reshape(len(score_LNU), -1) * weight_N).sum() / (weight_N.sum() * len(score_LNU))
