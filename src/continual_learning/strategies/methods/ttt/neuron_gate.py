"""Which neurons may learn a document: TF-IDF over neurons.

Sparse Memory Finetuning (arXiv 2510.15103, section 3.2) ranks memory slots by

    score(i) = c(i) / sum_j c(j) * log((|B| + 1) / (df(i) + 1))

with c(i) the accesses of slot i in the text at hand, df(i) the number of background sequences that
access it and |B| the number of background sequences. In an MLP a slot is an intermediate neuron: row i of gate
and up, column i of down. (A channel of the residual stream is not a slot: every neuron writes to it, so
gating channels protects nothing.) A gated MLP is dense, so "access" needs a definition: a token
accesses the neurons whose contribution to the output, |a_i| * ||down_i||, is among its k largest.

Shapes: N = tokens, I = neurons, t = neurons that may learn.
"""

from __future__ import annotations

import torch
from torch import Tensor


def accesses(neurons_NI: Tensor, down_norm_I: Tensor, top_k: int) -> Tensor:
    """How many of the N tokens access each neuron: int64 [I]. ``neurons_NI`` are inputs of the down projection."""
    contribution_NI = neurons_NI.abs() * down_norm_I
    top_Nk = contribution_NI.topk(top_k, dim=-1).indices
    return torch.bincount(top_Nk.flatten(), minlength=down_norm_I.shape[0])


def tfidf(counts_I: Tensor, document_frequency_I: Tensor, background_sequences: int) -> Tensor:
    """The score above for every neuron: float64 [I]. Zero where the text never accesses the neuron."""
    frequency_I = counts_I.double() / counts_I.sum().clamp_min(1)
    rarity_I = torch.log((background_sequences + 1) / (document_frequency_I.double() + 1))
    return frequency_I * rarity_I


def top_neurons(score_I: Tensor, t: int) -> Tensor:
    """Return the ``t`` neurons with the largest scores, in ascending order of their number: int64 [t].

    The sort is stable, so that equal scores give the same neurons on every run.
    """
    order_I = torch.sort(score_I, descending=True, stable=True).indices
    return order_I[:t].sort().values
