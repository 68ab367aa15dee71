"""From the current hidden state to logits: neighbours, their outcomes, Q, advantages.

    w_i = r_i * exp(-(d_i - min d) / tau)   of neighbour i, with r_i its route's weight
    d_i = |h - k_i|^2 - c m_i               of unit vectors, minus c for each of the m_i last tokens that are the same
    Q(a) = W_a / (kappa + W_a),             W_a = sum of w_i over the neighbours that a followed, each with return 1
    A(a) = Q(a) - V,  V = 0                 the value of what was never seen: the mean of the returns, which are all 1,
                                            would make every advantage 0
    z' = z + beta A                         with the largest beta for which KL(pi' || pi) stays within its limit

A closed form after arXiv 2601.18510; see `logits_processors`.

The state of a step is more than its last hidden state, which serves to predict the next token and is much the same
after every "the". So the last few tokens written are compared as well.

Shapes: N = positions, K = neighbours, B = rows, D = hidden size, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from continual_learning.model.logits_processors import Advantages, Step, shifted, token_sums
from continual_learning.retrieval.datastore import ExactNeighbours, unit
from continual_learning.strategies.methods.jitrl_full.config import (
    CONTINUATION,
    KAPPA,
    MIN_SIMILARITY,
    NEIGHBOURS,
    OPENING_TEMPERATURE,
    TEMPERATURE,
    JitRLFullConfig,
)
from continual_learning.strategies.methods.jitrl_full.memory import NOTHING, Positions

_LOOKED_AT = 512
"""Number of nearest hidden states whose last tokens are compared: all positions of a few sentences."""


@dataclass(frozen=True)
class Routed:
    """The positions that may be neighbours of one question's states."""

    positions: Positions
    neighbours: ExactNeighbours
    routes_N: Tensor
    """float32: r, the weight of each while an answer continues."""
    starts_N: Tensor
    """float32: the weight of each as the first token, 0 where no answer begins."""


@dataclass(frozen=True)
class Moved:
    """A step at which the memory changed the token, and the neighbours that changed it."""

    step: int
    token: int
    instead_of: int
    """What the model alone would have written."""
    neighbours: tuple[tuple[str, int, float], ...]
    """Document, sentence and weight of those that this token followed, heaviest first."""


class AnswerSteer:
    """Moves the logits while answers are written. See `logits_processors.Steer`."""

    def __init__(self, routed: Sequence[Routed], config: JitRLFullConfig, stop: int | None):
        self._routed = routed
        self._config = config
        self._stop = stop
        self.moved: list[list[Moved]] = [[] for _ in routed]

    def __call__(self, step: Step) -> Tensor:
        """Return the logits, [B, V], moved by the neighbours of each row's hidden state."""
        rows = []
        for row, prompt in enumerate(step.prompts):
            logits_V = step.logits_BV[row]
            near = self._neighbours(self._routed[prompt], step.written[row], step.hidden_BD[row])
            if near is None:
                rows.append(logits_V)
                continue
            weights_K, outcomes_K, _ = near
            changed_V = apply(logits_V, outcomes_K, weights_K, self._config)
            self._note(prompt, len(step.written[row]), logits_V, changed_V, near)
            rows.append(changed_V)
        return torch.stack(rows)

    def _neighbours(
        self, routed: Routed, written: Sequence[int], hidden_D: Tensor
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return weights, outcomes and rows of those that count; None if the nearest is too far away."""
        if not written:
            chosen_K = routed.starts_N.nonzero()[:, 0]
            if not len(chosen_K):
                return None
            cosines_K = routed.positions.keys_ND[chosen_K].float() @ unit(hidden_D.float().cpu())
            distance_K = 2 - 2 * cosines_K
            nearness_K = (-(distance_K - distance_K.min()) / OPENING_TEMPERATURE).exp()
            weights_K = routed.starts_N[chosen_K] * nearness_K
            best_K = weights_K.topk(min(NEIGHBOURS, len(weights_K))).indices
            return weights_K[best_K], routed.positions.tokens_N[chosen_K[best_K]], chosen_K[best_K]
        cosines_1K, chosen_1K = routed.neighbours.search(hidden_D.cpu()[None], _LOOKED_AT)
        cosines_K, chosen_K = cosines_1K[0], chosen_1K[0]
        matches_K = routed.positions.matches(chosen_K, written)
        distance_K = 2 - 2 * cosines_K - CONTINUATION * matches_K
        nearest = int(distance_K.argmin())
        if float(cosines_K[nearest]) < MIN_SIMILARITY:
            return None
        weights_K = routed.routes_N[chosen_K] * (-(distance_K - distance_K[nearest]) / TEMPERATURE).exp()
        best_K = weights_K.topk(min(NEIGHBOURS, len(weights_K))).indices
        weights_K, chosen_K = weights_K[best_K], chosen_K[best_K]
        outcomes_K = routed.positions.tokens_N[chosen_K]
        # An answer ends with the sentence that it quotes.
        ends_K = routed.positions.begins_N[chosen_K]
        if self._stop is not None:
            outcomes_K = outcomes_K.masked_fill(ends_K, self._stop)
        kept_K = outcomes_K != NOTHING
        return weights_K[kept_K], outcomes_K[kept_K], chosen_K[kept_K]

    def _note(
        self, prompt: int, step: int, before_V: Tensor, after_V: Tensor, near: tuple[Tensor, Tensor, Tensor]
    ) -> None:
        token, instead_of = int(after_V.argmax()), int(before_V.argmax())
        if token == instead_of:
            return
        weights_K, outcomes_K, chosen_K = near
        places = self._routed[prompt].positions.places
        took = (outcomes_K == token).nonzero()[:, 0].tolist()
        found = sorted(((*places[int(chosen_K[i])], float(weights_K[i])) for i in took), key=lambda n: -n[2])
        self.moved[prompt].append(Moved(step, token, instead_of, tuple(found)))


class ReadingSteer:
    """Moves the logits while a text is scored: towards what came next at the memory's positions most like this one."""

    def __init__(self, positions: Positions, neighbours: ExactNeighbours, config: JitRLFullConfig):
        self._positions = positions
        self._neighbours = neighbours
        self._config = config

    def __call__(self, step: Step) -> Tensor:
        """Return the logits, [B, V]."""
        cosines_BK, chosen_BK = self._neighbours.search(step.hidden_BD.cpu(), NEIGHBOURS)
        rows = []
        for logits_V, cosines_K, chosen_K in zip(step.logits_BV, cosines_BK, chosen_BK, strict=True):
            outcomes_K = self._positions.tokens_N[chosen_K]
            kept_K = outcomes_K != NOTHING
            if float(cosines_K[0]) < MIN_SIMILARITY or not kept_K.any():
                rows.append(logits_V)
                continue
            weights_K = (-2 * (cosines_K[0] - cosines_K) / TEMPERATURE).exp()
            rows.append(apply(logits_V, outcomes_K[kept_K], weights_K[kept_K], self._config))
        return torch.stack(rows)


def apply(logits_V: Tensor, outcomes_K: Tensor, weights_K: Tensor, config: JitRLFullConfig) -> Tensor:
    """Return the logits of pi', [V], from what followed each neighbour, and its weight."""
    ids_S, sums_S = token_sums(outcomes_K, weights_K)
    advantages = Advantages(ids_S, sums_S / (KAPPA + sums_S))
    return shifted(logits_V, advantages, config.beta, config.max_kl)
