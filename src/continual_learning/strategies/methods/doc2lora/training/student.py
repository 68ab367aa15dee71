"""The student: the base with documents' adapters in it, asked without the documents.

The blocks below the first one that an adapter changes see no adapter, so their output for a prompt is computed once.
The questions of a document share one row (`packing`).

Shapes: B = rows, T = tokens of a row, D = hidden size, N = answer tokens of all rows, K = top tokens, G = documents,
Q = questions of all rows, S = candidate tokens.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from continual_learning.io.tensor_cache import Kept
from continual_learning.model.base_model import BaseModel
from continual_learning.model.fast_decoder import shared_start
from continual_learning.strategies.methods.doc2lora.adapter import in_place, installed
from continual_learning.strategies.methods.doc2lora.generated_lora import Adapter, Generated, LowRank
from continual_learning.strategies.methods.doc2lora.network import DocumentHypernetwork
from continual_learning.strategies.methods.doc2lora.training.packing import Packing, packed
from continual_learning.strategies.methods.doc2lora.training.targets import Target

Reading = tuple[Tensor, Tensor]
"""What a hypernetwork reads of a document: activations and mask of its chunks."""
Group = Sequence[Target]
"""Questions whose states are computed, and kept, together."""


def joined(readings: Sequence[Reading]) -> Reading:
    """Join documents of one chunk each into one longer document: the tokens of each follow those of the one before.

    Each was read alone, so the result is that of a single document except that they do not see one another.
    """
    activations, masks = zip(*readings, strict=True)
    return torch.cat(activations, dim=-2), torch.cat(masks, dim=-1)


def adapters(network: DocumentHypernetwork, readings: Sequence[Reading]) -> Generated:
    """Return one LoRA per document, as `DocumentHypernetwork.combine` gives them."""
    made = [network.generate(*reading) for reading in readings]
    together = {
        name: {half: torch.cat([m[name][half] for m in made]) for half in matrices}
        for name, matrices in made[0].items()
    }
    return network.combine(together, [len(activations) for activations, _ in readings])


def row_adapter(network: DocumentHypernetwork, combined: Generated) -> Adapter:
    """Return the adapter for a batch of rows: row n uses the adapter of document n, and every row what is common."""
    config = network.config
    own: Adapter = {
        (block, name): LowRank(matrices["A"][:, number], matrices["B"][:, number] * config.multiplier)
        for name, matrices in combined.items()
        for number, block in enumerate(config.layers)
    }
    return in_place([(own, network.common())])


def prompt_losses(base: BaseModel, targets: Sequence[Target]) -> Tensor:
    """As `question_losses`, for prompts with a document and without an adapter: what they share is computed once."""
    start = shared_start([target.prompt[:-1] for target in targets])
    return question_losses(base, {}, [[targets]], States(base, 0, start=start))


class Candidates(NamedTuple):
    """Candidate tokens to which the softmax of a loss is restricted, instead of the whole vocabulary."""

    tokens_S: Tensor
    """Their ids, ascending."""
    stands_for_S: Tensor
    """Logarithm of how many tokens of the vocabulary each represents."""


def candidates(base: BaseModel, tokens: Collection[int], count: int, draw: random.Random) -> Candidates | None:
    """Return these tokens, and ``count`` drawn at random to represent all others; None if there are no more.

    This estimates the sum over the vocabulary without bias (importance sampling: Bengio and Senecal 2008,
    doi:10.1109/TNN.2007.912312, section III).
    """
    certain = frozenset(tokens)
    others = base.vocab_size - len(certain)
    if not 0 < count < others:
        return None
    drawn: set[int] = set()
    while len(drawn) < count:
        if (token := draw.randrange(base.vocab_size)) not in certain:
            drawn.add(token)
    chosen = sorted(certain | drawn)
    shares = [math.log(others / count) if token in drawn else 0.0 for token in chosen]
    return Candidates(torch.tensor(chosen, device=base.device), torch.tensor(shares, device=base.device))


def question_losses(
    base: BaseModel,
    adapter: Adapter,
    rows: Sequence[Sequence[Group]],
    states: States,
    among: Candidates | None = None,
) -> Tensor:
    """Return ``[Q]``: for each question, row by row, the mean loss over its answer's tokens, in nats.

    With a teacher's distribution p the loss of a token is ``-sum p log q`` over its top tokens, and ``-log q`` for the
    answer's own token, weighted by `Target.answer_weight`. The adapter, one for all rows or one for each, changes no
    block below the states' first. With ``among``, which must hold the targets' tokens, q is estimated from those alone.
    """
    targets = [target for groups in rows for group in groups for target in group]
    layout = packed(base, [[target for group in groups for target in group] for groups in rows], states.start)
    hidden_BTD = states.of(rows, layout)
    with installed(base, adapter):
        out_BTD = base.run_from(hidden_BTD, layout.ids_BT, states.first, layout.attention)
    read_ND = out_BTD[list(layout.rows), list(layout.places)]
    answer_N = torch.tensor([token for t in targets for token in t.answer], device=base.device)
    if among is None:
        logprob_NV = base.logits(read_ND).float().log_softmax(-1)
    else:
        logprob_NV = (base.logits(read_ND, among.tokens_S).float() + among.stands_for_S).log_softmax(-1)
        answer_N = torch.searchsorted(among.tokens_S, answer_N)
    answer_loss_N = F.nll_loss(logprob_NV, answer_N, reduction="none")
    lengths = [len(t.answer) for t in targets]
    losses: list[Tensor] = []
    for target, own, logprob in zip(targets, answer_loss_N.split(lengths), logprob_NV.split(lengths), strict=True):
        if target.top_NK is None or target.top_logprob_NK is None:
            losses.append(own.mean())
            continue
        top_NK = target.top_NK if among is None else torch.searchsorted(among.tokens_S, target.top_NK)
        taught = -(target.top_logprob_NK.exp() * logprob.gather(1, top_NK)).sum(dim=1)
        losses.append((target.answer_weight * own + (1 - target.answer_weight) * taught).mean())
    return torch.stack(losses)


class States:
    """The inputs of block ``first`` for prompts and answers, computed once and kept, a group of questions at a time.

    The same group gives the same states, whatever came before it. ``start`` is what prompts may share, if it is not
    what precedes every question (`packed`).
    """

    def __init__(self, base: BaseModel, first: int, kept: Kept | None = None, start: Sequence[int] | None = None):
        self.first = first
        self.start = start
        self._base = base
        self._kept = kept or Kept(None)

    def of(self, rows: Sequence[Sequence[Group]], layout: Packing) -> Tensor:
        """Return the states ``[B, T, D]`` for a layout of these rows."""
        longest = layout.ids_BT.shape[1]
        start = [self._start(layout.ids_BT[0, : layout.start].tolist())] if layout.start else []
        made = []
        for groups in rows:
            row_TD = torch.cat([*start, *(self._group(group, layout.start) for group in groups)])
            made.append(F.pad(row_TD, (0, 0, 0, longest - len(row_TD))))
        return torch.stack(made)

    def _start(self, ids: list[int]) -> Tensor:
        def compute() -> dict[str, Tensor]:
            return {"hidden": self._base.hidden_before(torch.tensor([ids], device=self._base.device), self.first)[0]}

        return self._kept.get(f"start {ids}", compute)["hidden"].to(self._base.device)

    def _group(self, group: Group, start: int) -> Tensor:
        """Return the states of the questions' tokens, one question after another, without the ``start`` shared ones."""
        base = self._base

        def compute() -> dict[str, Tensor]:
            layout = packed(base, [group], self.start)
            hidden_TD = base.hidden_before(layout.ids_BT, self.first, layout.attention)[0]
            # A row's questions may share less than a group's: each is preceded by the rest of what its group shares.
            shared_PD = hidden_TD[: layout.start]
            return {"hidden": torch.cat([torch.cat([shared_PD, hidden_TD[own]])[start:] for own in layout.own[0]])}

        found = self._kept.get(f"states behind {start} {[target.ids for target in group]}", compute)
        return found["hidden"].to(base.device)
