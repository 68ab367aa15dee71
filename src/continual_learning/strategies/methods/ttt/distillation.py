"""Soft targets: what a distribution says of a token, beside the token itself.

    KL(p || q) over the teacher's K likeliest tokens and one class for all others

Two teachers, both the base itself. With the passage before the question, after Cartridges (arXiv 2506.06266, section
4.2): the branch learns to answer from its weights as the base answers from the text. And on ordinary text: the branch
learns to leave it as it is.

Shapes: B = items of a mini-batch, T = tokens, D = hidden size, M = tokens in the loss, K = likeliest tokens kept,
S = tokens that compete in the loss, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from continual_learning.model.base_model import BaseModel
from continual_learning.training.examples import Item, make_item, padded_ids

# Sequences of which the teacher reads this many at once: with a passage before each they are long.
_TEACHER_BATCH = 4
_SMALLEST = 1e-6


@dataclass(frozen=True)
class SoftTargets:
    """What the teacher says at each learned token of one item."""

    tokens_MK: Tensor
    """int64; its K likeliest tokens."""
    logp_MK: Tensor
    """float32; their log-probabilities among all V."""


@dataclass(frozen=True)
class SoftStudy:
    """Soft targets of an inner loop, and how much they count."""

    distill: Sequence[SoftTargets | None]
    """Of each study item; None where there is none."""
    distill_weight: float
    replay: Sequence[Item]
    """Ordinary texts; each step sees one of them."""
    replay_prefix: Sequence[Tensor]
    """[T, D] each, as `inner_loop.prefix_activations` gives them."""
    replay_targets: Sequence[SoftTargets]
    replay_weight: float

    @property
    def tokens(self) -> set[int]:
        """Every token that has a target: all of them must compete in the loss."""
        targets = [t for t in (*self.distill, *self.replay_targets) if t is not None]
        return {token for t in targets for token in t.tokens_MK.flatten().tolist()}


def with_document(base: BaseModel, items: Sequence[Item], document: str) -> list[Item | None]:
    """Each question with the document before it, for the teacher. Plain texts, and what would not fit, have none."""
    before = base.encode(f"{document}\n\n", add_special_tokens=True)
    return [
        make_item([*before, *item.ids[: item.prompt_tokens]], item.ids[item.prompt_tokens :])
        if item.prompt_tokens > 1 and len(before) + len(item.ids) <= base.window
        else None
        for item in items
    ]


def replay_items(base: BaseModel, texts: Sequence[str], tokens: int) -> list[Item]:
    """The first ``tokens`` tokens of each text; every token counts."""
    return [make_item([], ids) for text in texts if len(ids := base.encode(text)[:tokens]) > 1]


@torch.no_grad()
def soft_targets(base: BaseModel, items: Sequence[Item | None], top_k: int) -> list[SoftTargets | None]:
    """What the base, with nothing patched in, says at the learned tokens of each item."""
    found: list[SoftTargets | None] = [None] * len(items)
    asked = sorted((len(item.ids), i) for i, item in enumerate(items) if item is not None)
    for start in range(0, len(asked), _TEACHER_BATCH):
        chosen = [i for _, i in asked[start : start + _TEACHER_BATCH]]
        batch = [item for i in chosen if (item := items[i]) is not None]
        ids_BT = padded_ids(batch, base.device)
        hidden_BTD = base.run_from(base.hidden_before(ids_BT, 0), ids_BT, 0)
        for row, (i, item) in enumerate(zip(chosen, batch, strict=True)):
            hidden_MD = hidden_BTD[row, item.prompt_tokens - 1 : len(item.ids) - 1]
            logp_MV = base.logits(hidden_MD).float().log_softmax(dim=-1)
            top = logp_MV.topk(min(top_k, logp_MV.shape[-1]), dim=-1)
            found[i] = SoftTargets(top.indices, top.values)
    return found


def soft_loss(
    base: BaseModel,
    batch: Sequence[Item],
    targets: Sequence[SoftTargets | None],
    hidden_BTD: Tensor,
    rivals_S: Tensor | None = None,
) -> Tensor:
    """Mean over the items with targets of their mean KL(teacher || model) a token, in nats; 0 without any."""
    losses = []
    for row, (item, target) in enumerate(zip(batch, targets, strict=True)):
        if target is None:
            continue
        logits_MS = base.logits(hidden_BTD[row, item.prompt_tokens - 1 : len(item.ids) - 1], rivals_S).float()
        places_MK = target.tokens_MK if rivals_S is None else torch.searchsorted(rivals_S, target.tokens_MK)
        losses.append(top_k_kl(target.logp_MK, logits_MS.log_softmax(dim=-1).gather(-1, places_MK)).mean())
    return torch.stack(losses).mean() if losses else hidden_BTD.new_zeros(())


def top_k_kl(teacher_MK: Tensor, model_MK: Tensor) -> Tensor:
    """KL over K classes given by log-probabilities, and one more that holds the rest of both: [M]."""
    p_MK = teacher_MK.exp()
    rest_M = (1.0 - p_MK.sum(dim=-1)).clamp_min(_SMALLEST)
    model_rest_M = (1.0 - model_MK.exp().sum(dim=-1)).clamp_min(_SMALLEST)
    return (p_MK * (teacher_MK - model_MK)).sum(dim=-1) + rest_M * (rest_M.log() - model_rest_M.log())
