"""The inner loop: gradient descent on training examples, at test time, in the output weights of the branches alone.

A token is recited by greedy decoding as soon as its probability passes one half (Parametric Memory Law, arXiv
2605.30260), so that steps are taken for those tokens alone that are below it, and none once there are none:

    gap_m = log (sum of the rivals' probabilities) - log p(token m)      below 0 if and only if p > 1/2
    g_m   = d gap_m / d o_m                                             o_m = sum_k a_mk V_k: what a branch adds at m
    d_m   = - (gap_m + margin) / |g_m|^2  g_m                           the step that closes the gap, were it linear
    V     <- V + rate (A'A + ridge)^-1 A' d                             the values that make these steps, as well as any

The length of a token's step is Polyak's (1987), as in passive-aggressive learning (Crammer et al. 2006, JMLR 7:551),
so that no rate depends on how large a base's weights are. The last line shares them out among the neurons' values by
ridge regression, in which tokens that are right already ask for no change: a gradient step on V preconditioned by the
neurons' second moments. A dozen steps do what AdamW needs fifty to a hundred for.

Weights are read as they will be stored (`dual_mlp.as_stored`). The blocks before the first branch are frozen, and so is
the MLP beside it: what they compute is computed once. The vocabulary head runs over candidate tokens; what the whole
vocabulary prefers instead is looked up when no candidate is left, and becomes a candidate.

Shapes: B = items of a mini-batch, T = tokens, D = hidden size, K = neurons of a branch, M = learned tokens,
R = preferred tokens, S = candidate tokens.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from continual_learning.errors import DivergedError
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.ttt.dual_mlp import DualMLP, NeuronBranch, as_stored
from continual_learning.training.examples import Item, mini_batches, padded_ids
from continual_learning.training.gradient_descent import StepCallback

# Tokens whose prefix activations are computed together, padding included: enough to fill the cores, few enough to stay
# small. Items that are longer than this many times the shortest are not padded to.
_PREFIX_TOKENS, _PADDED = 256, 1.3
# How far a step aims beyond a probability of one half, and how far a token has to be beyond it, in nats: the second
# covers what decoding one token after another rounds differently.
_AIM, _SURE = 2.0, 0.3
# Weight of the ridge, as a share of the neurons' mean square.
_RIDGE = 1e-3
# Passes in which more than what is to be recited is learned: later, it would be in the way.
_ALONG = 6
# Tokens that the base prefers to a learned one at its place: candidates from the start.
_RIVALS = 16

Values = dict[int, Tensor]
"""By block, what the neurons of its branch write: [K, D]."""


@dataclass(frozen=True)
class InnerLoop:
    """Settings of the gradient descent."""

    learning_rate: float
    batch_tokens: int
    """Tokens of a mini-batch, padding included; a longer item is a mini-batch by itself."""
    gradient_steps: int
    passes: int


@dataclass(frozen=True)
class Batch:
    """Items that go through the blocks together."""

    ids_BT: Tensor
    hidden_BTD: Tensor
    """What the first block with a branch reads."""
    reads_BT: Tensor
    """Where a learned token comes next."""
    targets_M: Tensor
    """The learned tokens, row by row."""

    @classmethod
    def of(cls, base: BaseModel, items: Sequence[Item], prefix: Sequence[Tensor]) -> Batch:
        """Pad the items and their prefix activations on the right."""
        ids_BT = padded_ids(items, base.device)
        hidden_BTD = prefix[0].new_zeros(*ids_BT.shape, prefix[0].shape[-1])
        reads_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        for row, (item, hidden_TD) in enumerate(zip(items, prefix, strict=True)):
            hidden_BTD[row, : len(hidden_TD)] = hidden_TD
            reads_BT[row, item.prompt_tokens - 1 : len(item.ids) - 1] = True
        return cls(ids_BT, hidden_BTD, reads_BT, ids_BT[:, 1:][reads_BT[:, :-1]])

    def of_items(self, flags: Sequence[bool]) -> Tensor:
        """A flag of each item, for its learned tokens: bool [M]."""
        return torch.tensor(flags, device=self.ids_BT.device).repeat_interleave(self.reads_BT.sum(dim=1))

    def run(self, base: BaseModel, first_block: int) -> Tensor:
        """The final hidden states from which the learned tokens are predicted: [M, D]."""
        return base.run_from(self.hidden_BTD, self.ids_BT, first_block)[self.reads_BT]


@dataclass(frozen=True)
class Job:
    """One passage to learn: its own branches and items."""

    branches: Mapping[int, NeuronBranch]
    alpha: float
    items: Sequence[Item]
    prefix: Sequence[Tensor]
    """`prefix_activations` of the items."""
    wanted: int
    """So many items, the first ones, are to be recited; those behind them are learned along with these."""
    stop_ids: frozenset[int]
    """Tokens that end a text: rivals of every token."""


@dataclass(frozen=True)
class Written:
    """The result of gradient descent."""

    loss: float
    """Of the learned tokens against the candidates after the last step, in nats per token."""
    steps: int
    before: list[list[int]]
    """By item, the tokens that greedy decoding took instead of learned ones before the first step."""
    wrong: list[list[int]]
    """The same at the end, with the values as they are stored: none of an item that is recited word for word."""
    late: bool
    """Whether the deadline ended it."""


class _Values(nn.Module):
    """A branch with other values, which remembers what it computed."""

    activations_BTK: Tensor
    written_BTD: Tensor

    def __init__(self, branch: NeuronBranch):
        super().__init__()
        self._branch = branch
        self.values_KD: Tensor = branch.down_KD.detach()

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D], in the input's type."""
        activations_BTK = self._branch.activations(hidden_BTD)
        self.activations_BTK = activations_BTK.detach()
        self.written_BTD = activations_BTK @ as_stored(self.values_KD)
        return self.written_BTD.to(hidden_BTD.dtype)


class _Once(nn.Module):
    """A frozen module whose input is always the same: it computes once."""

    def __init__(self, frozen: nn.Module):
        super().__init__()
        self._frozen = frozen
        self._known: Tensor | None = None

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        if self._known is None:
            with torch.no_grad():
                self._known = self._frozen(hidden_BTD)
        return self._known


class Course:
    """One mini-batch with its candidates, through which steps are taken on values that the caller holds."""

    def __init__(
        self,
        base: BaseModel,
        branches: Mapping[int, NeuronBranch],
        alpha: float,
        batch: Batch,
        stop_ids: frozenset[int],
    ):
        self.base, self.batch, self._first = base, batch, min(branches)
        self._written = {block: _Values(branch) for block, branch in sorted(branches.items())}
        frozen = {block: base.mlp(block) for block in branches}
        frozen[self._first] = _Once(frozen[self._first])
        self._modules = {base.mlp_path(b): DualMLP(frozen[b], self._written[b], alpha) for b in branches}
        self._rivals_S = torch.tensor(sorted(stop_ids), device=base.device, dtype=torch.int64)
        self._add_rivals(batch.targets_M)
        self._looked_up = False

    def step(
        self,
        values: Values,
        rate: float,
        through: bool = False,
        others: Sequence[Course] = (),
        among_M: Tensor | None = None,
    ) -> tuple[Values, Tensor]:
        """Return the values after one step and the gaps before it, [M]; the same values if no token is open.

        ``among_M``: the tokens that are learned; the default: all. The tokens of ``others``, mini-batches of the same
        passage that were read before, ask for no change. With ``through``, what is returned is differentiable with
        respect to ``values``.
        """
        reads_BT, blocks = self.batch.reads_BT, list(self._written)
        with torch.enable_grad():
            given = values if through else {b: v.detach().requires_grad_() for b, v in values.items()}
            gaps_M = self.gaps(given)
            open_M = open_tokens(gaps_M)
            if among_M is not None:
                open_M = open_M & among_M
            if not open_M.any():
                return values, gaps_M.detach()
            written = [self._written[b].written_BTD for b in blocks]
            [slope_BTD] = torch.autograd.grad(
                gaps_M[open_M].sum(), written[-1:], create_graph=through, retain_graph=through or len(blocks) > 1
            )
            slope_MD = slope_BTD[reads_BT]
            square_M = slope_MD.pow(2).sum(dim=-1).clamp_min(1e-12) * len(blocks)
            length_M = open_M * (gaps_M + _AIM) / square_M
            slopes = [length_M[:, None] * slope_MD]
            if len(blocks) > 1:  # what an earlier block writes at a token reaches later tokens, too
                wide = torch.autograd.grad((length_M.detach() * gaps_M).sum(), written, create_graph=through)
                slopes = [slope_BTD[reads_BT] for slope_BTD in wide]
            found = {}
            for block, slope_MD in zip(blocks, slopes, strict=True):
                a_MK = self._activations(block)
                moments_KK = a_MK.T @ a_MK
                for other in others:
                    b_MK = other._activations(block)
                    moments_KK = moments_KK + b_MK.T @ b_MK
                found[block] = values[block] - rate * torch.linalg.solve(_ridged(moments_KK), a_MK.T @ slope_MD)
        return found if through else {b: v.detach() for b, v in found.items()}, gaps_M.detach()

    def gaps(self, values: Values) -> Tensor:
        """For each learned token, log of its rivals' probability minus log of its own: [M]. Differentiable."""
        logits_MS = self.base.logits(self._read(values), self._rivals_S).float()
        place_M1 = torch.searchsorted(self._rivals_S, self.batch.targets_M)[:, None]
        others_M = logits_MS.scatter(1, place_M1, -math.inf).logsumexp(dim=1)
        return others_M - logits_MS.gather(1, place_M1)[:, 0]

    def look_up(self, values: Values) -> list[list[int]]:
        """For each item, what the whole vocabulary prefers to learned tokens at their places; it becomes a candidate.

        The first time, so does what it prefers at all places.
        """
        with torch.no_grad():
            best_MR = self.base.logits(self._read(values)).topk(_RIVALS, dim=-1).indices
        wrong_M = best_MR[:, 0] != self.batch.targets_M
        self._add_rivals(best_MR[wrong_M] if self._looked_up else best_MR)
        self._looked_up = True
        sizes = self.batch.reads_BT.sum(dim=1).tolist()
        parts = zip(best_MR[:, 0].split(sizes), wrong_M.split(sizes), strict=True)
        return [best[wrong].tolist() for best, wrong in parts]

    def _activations(self, block: int) -> Tensor:
        """Of the neurons of a branch where a learned token comes next, as last read: [M, K]."""
        return self._written[block].activations_BTK[self.batch.reads_BT]

    def _read(self, values: Values) -> Tensor:
        """Final hidden states with these values: [M, D]."""
        for block, written in self._written.items():
            written.values_KD = values[block]
        with self.base.patched(self._modules):
            return self.batch.run(self.base, self._first)

    def _add_rivals(self, tokens: Tensor) -> None:
        self._rivals_S = torch.cat([self._rivals_S, tokens.flatten()]).unique(sorted=True)


def open_tokens(gaps_M: Tensor) -> Tensor:
    """Which learned tokens are not yet surely recited: bool [M]."""
    return gaps_M > -_SURE


def _ridged(moments_KK: Tensor) -> Tensor:
    """Second moments of the neurons, with the ridge: [K, K]."""
    ridge = _RIDGE * moments_KK.diagonal().mean() + 1e-12
    return moments_KK + ridge * torch.eye(len(moments_KK), device=moments_KK.device)


def prefix_activations(base: BaseModel, items: Sequence[Item], first_block: int) -> list[Tensor]:
    """The input of block ``first_block`` for each item: [T, D] each."""
    found: dict[int, Tensor] = {}
    for chosen in _alike([len(item.ids) for item in items]):
        hidden_BTD = base.hidden_before(padded_ids([items[i] for i in chosen], base.device), first_block)
        for row, i in enumerate(chosen):
            found[i] = hidden_BTD[row, : len(items[i].ids)].clone()
    return [found[i] for i in range(len(items))]


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of items, those of similar lengths together: little padding."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        first = lengths[groups[-1][0]] if groups else 0
        if lengths[i] > _PADDED * first or (len(groups[-1]) + 1) * lengths[i] > _PREFIX_TOKENS:
            groups.append([])
        groups[-1].append(i)
    return groups


def descend(
    base: BaseModel,
    job: Job,
    loop: InnerLoop,
    rng: random.Random,
    deadline: float = math.inf,
    on_step: StepCallback | None = None,
) -> Written:
    """Train the branches of one passage, in place, until what is wanted is recited; the base does not change.

    ``deadline`` is on the clock of `time.perf_counter`; past it no pass begins. ``on_step`` is called after each pass,
    of which there may be fewer than planned. Raises DivergedError if a loss is NaN or infinite.
    """
    lengths = [len(item.ids) for item in job.items]
    chosen = mini_batches(lengths, loop.batch_tokens, rng)
    batches = [Batch.of(base, [job.items[i] for i in own], [job.prefix[i] for i in own]) for own in chosen]
    courses = [Course(base, job.branches, job.alpha, batch, job.stop_ids) for batch in batches]
    wanted = [batch.of_items([i < job.wanted for i in own]) for own, batch in zip(chosen, batches, strict=True)]
    values = {block: branch.down_KD.detach() for block, branch in job.branches.items()}
    before = found = [course.look_up(values) for course in courses]
    loss, steps, done, late = math.nan, 0, False, False
    for number in range(loop.passes):
        losses, moved = [], False
        playing = [(c, w) for c, w in zip(courses, wanted, strict=True) if number < _ALONG or w.any()]
        for course, wanted_M in playing:
            others = [other for other, _ in playing if other is not course]
            among_M = None if number < _ALONG else wanted_M
            for _ in range(loop.gradient_steps):
                values, gaps_M = course.step(values, loop.learning_rate, others=others, among_M=among_M)
                losses.append(F.softplus(gaps_M).mean().item())
                if not math.isfinite(losses[-1]):
                    raise DivergedError(
                        f"the loss became {losses[-1]} at step {steps + 1}, so nothing was learned; try a "
                        f"learning_rate below {loop.learning_rate:g}"
                    )
                open_M = open_tokens(gaps_M)
                if not (open_M if among_M is None else open_M & among_M).any():
                    break
                moved, steps = moved or bool((open_M & wanted_M).any()), steps + 1
        loss = sum(losses) / len(losses)
        if on_step:
            on_step(number + 1, loop.passes, loss)
        if not moved:  # no candidate is left: what does the whole vocabulary say?
            found = [course.look_up(values) for course in courses]
            done = not any(_by_item(chosen, found)[: job.wanted])
        late = time.perf_counter() > deadline
        if done or late:
            break
    if not done:
        found = [course.look_up(values) for course in courses]
    for block, branch in job.branches.items():
        branch.down_KD.data.copy_(as_stored(values[block]))
    return Written(loss, steps, _by_item(chosen, before), _by_item(chosen, found), late and not done)


def _by_item(chosen: Sequence[Sequence[int]], found: Sequence[Sequence[list[int]]]) -> list[list[int]]:
    """What was found for each item of each mini-batch, in the order of the items."""
    pairs = [pair for own, wrongs in zip(chosen, found, strict=True) for pair in zip(own, wrongs, strict=True)]
    return [wrong for _, wrong in sorted(pairs)]
