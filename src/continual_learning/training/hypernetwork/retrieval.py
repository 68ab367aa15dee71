"""First of all, keys: which of the document's tokens should an answer's next token be read from?

The value that linear fast weights hold at a token of the document is the token behind it. So a memory answers right
when the place before an answer's token opens a place of the document that the same token stands behind; and whether it
does is known without a memory in place. Keys, queries and the reader are trained for that alone, by cross-entropy over
the tokens that stand in the document (contrastive, as a retriever's: InfoNCE, van den Oord et al. 2018, arXiv
1807.03748, equation 4).

Shapes: L = layers, N = tokens of all answers, S = tokens of the document, I = inputs of the module, U = different
tokens of the document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from continual_learning.base import BaseModel
from continual_learning.doc2lora.linear import LinearHypernetwork
from continual_learning.training.hypernetwork.packing import packed
from continual_learning.training.hypernetwork.student import Group, Reading, States


class Queries(NamedTuple):
    """Places that a document is to be opened from: those before each token of some answers."""

    input_LNI: Tensor
    """What the module reads there."""
    answer_N: Tensor
    """The tokens."""
    unknown_N: Tensor
    """1 less the base's probability of them: what the base says by itself need not be read."""


@torch.no_grad()
def unknown(base: BaseModel, group: Group, states: States) -> Tensor:
    """``[N]``: of each token of the answers, 1 less the base's probability of it."""
    layout = packed(base, [group], states.start)
    out_BTD = base.run_from(states.of([[group]], layout), layout.ids_BT, states.first, layout.attention)
    logprob_NV = base.logits(out_BTD[0, list(layout.places)]).float().log_softmax(-1)
    return 1 - logprob_NV.gather(1, _answers(base, group)[:, None])[:, 0].exp()


def queries(base: BaseModel, network: LinearHypernetwork, group: Group, states: States, unknown_N: Tensor) -> Queries:
    """What the network's reader makes of the questions, without a memory. Differentiable."""
    layout = packed(base, [group], states.start)
    found_1LTI = network.module_inputs(base, states.of([[group]], layout), layout.ids_BT, layout.attention)
    return Queries(found_1LTI[0][:, list(layout.places)], _answers(base, group), unknown_N)


def _answers(base: BaseModel, group: Group) -> Tensor:
    return torch.tensor([token for target in group for token in target.answer], device=base.device)


def retrieval_loss(
    network: LinearHypernetwork, reading: Reading, next_S: Tensor, asked: Sequence[Queries]
) -> Tensor | None:
    """Mean cross-entropy over layers and answers' tokens, in nats, the tokens by what is unknown of them.

    ``next_S`` are the tokens behind those of the document that was read as one chunk, a negative one where there is
    none. Answers' tokens that the document lacks do not count; None where it has none of them.
    """
    input_LNI = torch.cat([group.input_LNI for group in asked], dim=1)
    answer_N = torch.cat([group.answer_N for group in asked])
    weight_N = torch.cat([group.unknown_N for group in asked])
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
