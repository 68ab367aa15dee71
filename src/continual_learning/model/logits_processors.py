"""Changing the next token's logits while a model writes: the closed form of just-in-time reinforcement learning.

Maximising E_pi'[A] - KL(pi' || pi) / beta over distributions pi' has the solution pi' proportional to
pi * exp(beta A), so that z' = z + beta A is added to the logits and no gradient step is taken (arXiv 2601.18510).
The trust region is taken literally: beta is the largest, up to a limit, for which KL(pi' || pi) <= epsilon. KL grows
with beta (its derivative is beta Var_pi'[A]), so bisection finds it.

kNN-LM (Khandelwal et al. 2020, arXiv 1911.00172, equation 3), p = lambda p_kNN + (1 - lambda) p_LM, is the supervised
special case; in logits it is a bias of log(1 - lambda + lambda p_kNN / p_LM).

Shapes: B = rows, D = hidden size, V = vocabulary, S = the few tokens that a memory has evidence about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

_BISECTIONS = 30


@dataclass(frozen=True)
class Step:
    """One step of decoding, before the next token of each row is sampled."""

    prompts: tuple[int, ...]
    """Index of the prompt that each row belongs to, in the order given to `generate`."""
    written: tuple[Sequence[int], ...]
    """The tokens generated so far in each row."""
    hidden_BD: Tensor
    """The final hidden states, from which the logits were made."""
    logits_BV: Tensor


Steer = Callable[[Step], Tensor]
"""The logits, [B, V], with what a memory adds to them; `Step.logits_BV` itself must be left alone."""


@runtime_checkable
class ChoiceSteer(Protocol):
    """A logits processor that also reweights whole answers, for when an answer is not written token by token."""

    def weigh(self, choices: Mapping[str, float]) -> dict[str, float]:
        """Reweighted log-likelihoods by answer; it may add answers, and the result is normalised."""
        ...


@dataclass(frozen=True)
class Advantages:
    """What a memory knows about the next token: ids and the advantage of each. All other tokens have 0."""

    ids_S: Tensor
    values_S: Tensor


def token_sums(ids_N: Sequence[int] | Tensor, weights_N: Sequence[float] | Tensor) -> tuple[Tensor, Tensor]:
    """The distinct ids, sorted, and the sum of the weights of each: int64 [S], float32 [S]."""
    ids = torch.as_tensor(ids_N, dtype=torch.int64)
    weights = torch.as_tensor(weights_N, dtype=torch.float32)
    found_S, place_N = torch.unique(ids, return_inverse=True)
    sums_S = torch.zeros(len(found_S), device=ids.device).index_add_(0, place_N, weights)
    return found_S, sums_S


def shifted(logits_V: Tensor, advantages: Advantages, beta: float, max_kl: float = math.inf) -> Tensor:
    """``z + beta' A`` with the largest beta' <= ``beta`` for which KL(pi' || pi) <= ``max_kl`` nats: [V]."""
    if not len(advantages.ids_S):
        return logits_V
    ids_S = advantages.ids_S.to(logits_V.device)
    values_S = advantages.values_S.to(logits_V.device, torch.float32)
    used = within(logits_V, ids_S, values_S, beta, max_kl)
    return logits_V.index_add(0, ids_S, (used * values_S).to(logits_V.dtype))


def within(logits_V: Tensor, ids_S: Tensor, values_S: Tensor, beta: float, max_kl: float) -> float:
    """The largest multiple of the advantages, at most ``beta``, within the trust region."""
    if not math.isfinite(max_kl):
        return beta
    log_p_S = (logits_V[ids_S].float() - logits_V.float().logsumexp(0)).cpu().numpy().astype(np.float64)
    gains_S = values_S.cpu().numpy().astype(np.float64)
    rest = max(0.0, 1.0 - float(np.exp(log_p_S).sum()))

    def divergence(multiple: float) -> float:
        # For the tokens without an advantage, only their joint probability matters.
        log_q_S = log_p_S + multiple * gains_S
        top = max(float(log_q_S.max()), 0.0)
        q_S = np.exp(log_q_S - top)
        z = float(q_S.sum()) + rest * math.exp(-top)
        return multiple * float(q_S @ gains_S) / z - (math.log(z) + top)

    if divergence(beta) <= max_kl:
        return beta
    low, high = 0.0, beta
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if divergence(middle) <= max_kl else (low, middle)
    return low


def interpolated(logits_V: Tensor, ids_S: Tensor, p_S: Tensor, share: float) -> Tensor:
    """Logits of ``share * p + (1 - share) * softmax(z)``, normalised: [V]. ``p_S`` sums to at most 1."""
    log_p_V = logits_V.float().log_softmax(-1)
    mixed_V = log_p_V + math.log1p(-share)
    ids_S = ids_S.to(logits_V.device)
    both_S = torch.logaddexp(mixed_V[ids_S], p_S.to(mixed_V).log() + math.log(share))
    return mixed_V.index_copy(0, ids_S, both_S).to(logits_V.dtype)
