"""First, keys are trained: which of the document's tokens should an answer's next token be read from?

The value that linear fast weights hold at a token of the document is the next token. So a memory answers correctly if
the position before an answer's token opens a position in the document that the same token follows, and whether it does
can be computed without a memory in place. Keys, queries and the reader are trained for that alone, by cross-entropy
over the tokens in the document (contrastive, as for a retriever: InfoNCE, van den Oord et al. 2018, arXiv 1807.03748,
equation 4). What counts is the token that the value begins with: the reply's words before it repeat the question, and
the tokens after it follow from it.

Shapes: L = layers, N = tokens of all answers, S = tokens of the document, I = inputs of the module, U = distinct
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

_WEIGHTS = (1.0, *[0.15] * 5)  # for the first token of a value, and for those after it


class Queries(NamedTuple):
    """Positions from which a document is to be opened: those before tokens of answers."""

    input_LNI: Tensor
    """The module's inputs there."""
    answer_N: Tensor
    """The tokens of the answers."""
    weight_N: Tensor
    """The weight of each of them in a loss."""


def queries(base: BaseModel, network: LinearHypernetwork, group: Group, states: States) -> Queries:
    """Return queries for the first tokens of the values, with the network's reader but no memory. Differentiable."""
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
    """Return the mean cross-entropy over layers and the queries' tokens, weighted by token, in nats.

    ``next_S`` holds the token after each token of the document, which was read as one chunk; it is negative where there
    is none. Tokens of answers that the document lacks do not count; None if it has none of them.
    """
    input_LNI = torch.cat([group.input_LNI for group in asked], dim=1)
    answer_N = torch.cat([group.answer_N for group in asked])
    weight_N = torch.cat([group.weight_N for group in asked])
    activations, mask = reading
    opened_LNS = network.openings(activations, mask, input_LNI[None])[0]
    there_S = next_S >= 0
    token_U, which_S = next_S[there_S].unique(return_inverse=True)
    score_LNU = opened_LNS.new_zeros(*opened_LNS.shape[:2], len(token_U))
    # Each layer should find the token by itself, so its part of the sum is scaled to the whole.
    score_LNU = score_LNU.index_add(2, which_S, opened_LNS[:, :, there_S]) * len(opened_LNS)
    place_N = torch.searchsorted(token_U, answer_N).clamp(max=len(token_U) - 1)
    weight_N = weight_N * (token_U[place_N] == answer_N)
    if float(weight_N.sum()) == 0:
        return None
    loss_LN = F.cross_entropy(score_LNU.flatten(0, 1), place_N.repeat(len(score_LNU)), reduction="none")
    return (loss_LN.reshape(len(score_LNU), -1) * weight_N).sum() / (weight_N.sum() * len(score_LNU))
