"""The inner loop: gradient descent on study material, at test time, in the branches alone.

The blocks before the first branch are frozen, so their activations are the same at every step: they are computed
once per item and kept. Each step then runs only the blocks from the first branch on, and the
vocabulary head only at the tokens that count in the loss.

Shapes: B = items of a mini-batch, T = tokens, D = hidden size, M = tokens in the loss, V = vocabulary.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from continual_learning.base import BaseModel
from continual_learning.errors import DivergedError
from continual_learning.nn.dual_mlp import DualMLP, NeuronBranch
from continual_learning.nn.muon import Muon

# Items whose prefix activations are computed together: enough tokens to fill the cores, few enough to stay small.
_PREFIX_BATCH = 8
_IGNORED = -100
# Mini-batches that are put together from one stretch of a pass.
_STRETCH = 4


@dataclass(frozen=True)
class Item:
    """A token sequence to learn; the first ``prompt_tokens`` are read, the others are learned."""

    ids: tuple[int, ...]
    prompt_tokens: int


@dataclass(frozen=True)
class InnerLoop:
    """How to descend."""

    optimizer: str
    learning_rate: float
    batch_tokens: int
    """Tokens of a mini-batch, padding included; a longer item is a mini-batch by itself."""
    gradient_steps: int
    passes: int
    clip_norm: float
    warmup: float
    """Share of the steps in which the learning rate rises to its value; it falls to a tenth of it after."""

    def make_optimizer(self, weights: Sequence[Tensor]) -> torch.optim.Optimizer:
        """One of three inner rules, without weight decay, which would pull at the copied neurons.

        SGD is the published one (arXiv 2512.23675). Muon orthogonalises the momentum of each matrix; its rate is
        scaled so that an update is as large as AdamW's (Moonlight, arXiv 2502.16982).
        """
        if self.optimizer == "sgd":
            return torch.optim.SGD(weights, lr=self.learning_rate)
        if self.optimizer == "muon":
            return Muon(weights, lr=self.learning_rate)
        return torch.optim.AdamW(weights, lr=self.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        return self.learning_rate * (1.0 - 0.9 * (step - rising) / max(1, steps - rising))


@dataclass(frozen=True)
class Descent:
    """What the inner loop did."""

    loss: float
    """Mean loss of the last tenth of the steps, nats a token."""
    steps: int
    planned_steps: int
    tokens: int
    """Tokens that went through the trained blocks, over all steps."""


def dual_mlps(base: BaseModel, branches: Mapping[int, NeuronBranch], alpha: float) -> dict[str, torch.nn.Module]:
    """The replacements that `BaseModel.patched` puts in: a Dual MLP for each block that has a branch."""
    return {base.mlp_path(b): DualMLP(base.mlp(b), branch, alpha) for b, branch in branches.items()}


def prefix_activations(base: BaseModel, items: Sequence[Item], first_block: int) -> list[Tensor]:
    """The input of block ``first_block`` for each item: [T, D] each."""
    order = sorted(range(len(items)), key=lambda i: len(items[i].ids))  # like lengths together: little padding
    found: dict[int, Tensor] = {}
    for start in range(0, len(order), _PREFIX_BATCH):
        chosen = order[start : start + _PREFIX_BATCH]
        hidden_BTD = base.hidden_before(_padded_ids([items[i] for i in chosen], base.device), first_block)
        for row, i in enumerate(chosen):
            found[i] = hidden_BTD[row, : len(items[i].ids)].clone()
    return [found[i] for i in range(len(items))]


def descend(
    base: BaseModel,
    branches: Mapping[int, NeuronBranch],
    alpha: float,
    items: Sequence[Item],
    prefix: Sequence[Tensor],
    loop: InnerLoop,
    rng: random.Random,
    rivals_S: Tensor | None = None,
    deadline: float = math.inf,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Descent:
    """Train the branches on the items, in place; the base does not change.

    ``rivals_S`` are the tokens that compete in the loss, all learned ones among them, in rising order; None: the
    whole vocabulary. The head over 49,152 words is a quarter of a step's work, and all but a few thousand of
    them are never in question.
    ``deadline`` is on the clock of `time.perf_counter`; past it the loop stops after the step at hand.
    Raises DivergedError when a loss is NaN or infinite.
    """
    first_block = min(branches)
    weights = [w for branch in branches.values() for w in branch.learned().values()]
    optimizer = loop.make_optimizer(weights)
    batches = _batches([len(item.ids) for item in items], loop, rng)
    losses: list[float] = []
    tokens = 0
    with base.patched(dual_mlps(base, branches, alpha)), torch.enable_grad():
        for step, chosen in enumerate(batches):
            batch = [items[i] for i in chosen]
            loss = _loss(base, batch, [prefix[i] for i in chosen], first_block, rivals_S)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise DivergedError(
                    f"the loss became {losses[-1]} at step {step + 1} of {len(batches)}, so nothing was learned; "
                    f"try a learning_rate below {loop.learning_rate:g}"
                )
            for group in optimizer.param_groups:
                group["lr"] = loop.rate(step, len(batches))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, loop.clip_norm)
            optimizer.step()
            tokens += len(batch) * max(len(item.ids) for item in batch)
            if on_step:
                on_step(step + 1, len(batches), losses[-1])
            if time.perf_counter() > deadline:
                break
    last = losses[-max(1, len(losses) // 10) :]
    return Descent(sum(last) / len(last), len(losses), len(batches), tokens)


def _loss(
    base: BaseModel,
    batch: Sequence[Item],
    prefix: Sequence[Tensor],
    first_block: int,
    rivals_S: Tensor | None = None,
) -> Tensor:
    """Mean over items of the mean next-token loss over each item's learned tokens."""
    ids_BT = _padded_ids(batch, base.device)
    hidden_BTD = torch.zeros(*ids_BT.shape, prefix[0].shape[-1], dtype=prefix[0].dtype, device=base.device)
    labels_BT = torch.full_like(ids_BT, _IGNORED)
    for row, (item, hidden_TD) in enumerate(zip(batch, prefix, strict=True)):
        hidden_BTD[row, : len(item.ids)] = hidden_TD
        labels_BT[row, item.prompt_tokens : len(item.ids)] = ids_BT[row, item.prompt_tokens : len(item.ids)]
    out_BTD = base.run_from(hidden_BTD, ids_BT, first_block)[:, :-1]
    targets_BT = labels_BT[:, 1:]
    counted_BT = targets_BT != _IGNORED
    targets_M = targets_BT[counted_BT]
    logits_MV = base.logits(out_BTD[counted_BT], rivals_S).float()
    if rivals_S is not None:
        targets_M = torch.searchsorted(rivals_S, targets_M)
    loss_M = F.cross_entropy(logits_MV, targets_M, reduction="none")
    share_BT = counted_BT / counted_BT.sum(dim=1, keepdim=True).clamp_min(1)
    return (loss_M * share_BT[counted_BT]).sum() / len(batch)


def tokens_right(base: BaseModel, items: Sequence[Item], prefix: Sequence[Tensor], first_block: int) -> list[int]:
    """How many of each item's learned tokens are the model's first choice after those before them.

    All of them: greedy decoding gives exactly these tokens. This costs one forward pass and no decoding.
    """
    found: list[int] = []
    with torch.no_grad():
        for start in range(0, len(items), _PREFIX_BATCH):
            batch = items[start : start + _PREFIX_BATCH]
            ids_BT = _padded_ids(batch, base.device)
            hidden_BTD = torch.zeros(*ids_BT.shape, prefix[0].shape[-1], dtype=prefix[0].dtype, device=base.device)
            for row, hidden_TD in enumerate(prefix[start : start + _PREFIX_BATCH]):
                hidden_BTD[row, : hidden_TD.shape[0]] = hidden_TD
            out_BTD = base.run_from(hidden_BTD, ids_BT, first_block)
            for row, item in enumerate(batch):
                places = slice(item.prompt_tokens - 1, len(item.ids) - 1)
                best_M = base.logits(out_BTD[row, places]).argmax(dim=-1)
                learned_M = ids_BT[row, item.prompt_tokens : len(item.ids)]
                found.append(int((best_M == learned_M).sum()))
    return found


def _padded_ids(batch: Sequence[Item], device: torch.device) -> Tensor:
    """[B, T], padded on the right, where a causal model never looks."""
    longest = max(len(item.ids) for item in batch)
    return torch.tensor([[*item.ids, *[0] * (longest - len(item.ids))] for item in batch], device=device)


def _batches(lengths: Sequence[int], loop: InnerLoop, rng: random.Random) -> list[list[int]]:
    """Mini-batches of item numbers: every item once a pass, in a new order each time.

    Like lengths come together within a stretch of the order, so that little is padded.
    """
    batches: list[list[int]] = []
    stretch = max(1, _STRETCH * loop.batch_tokens * len(lengths) // sum(lengths))
    for _ in range(loop.passes):
        order = rng.sample(range(len(lengths)), len(lengths))
        one_pass: list[list[int]] = []
        for start in range(0, len(order), stretch):
            batch: list[int] = []
            for i in sorted(order[start : start + stretch], key=lambda i: lengths[i]):
                if batch and (len(batch) + 1) * lengths[i] > loop.batch_tokens:
                    one_pass.append(batch)
                    batch = []
                batch.append(i)
            one_pass.append(batch)
        rng.shuffle(one_pass)
        batches += [batch for batch in one_pass for _ in range(loop.gradient_steps)]
    return batches
