"""The student: the base with documents' adapters in it, asked without the documents.

The blocks below the first one that an adapter changes see no adapter: what they give for a prompt is computed once.

Shapes: B = rows, T = tokens of a row, D = hidden size, N = answer tokens of all rows, K = top tokens, G = documents.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from continual_learning.base import BaseModel
from continual_learning.doc2lora.adapter import Adapter, installed
from continual_learning.doc2lora.config import DocumentConfig
from continual_learning.doc2lora.network import DocumentHypernetwork, Generated
from continual_learning.nn.generated_lora import LowRank
from continual_learning.training.hypernetwork.targets import Target
from continual_learning.training.kept import Kept

Reading = tuple[Tensor, Tensor]
"""What a hypernetwork reads of a document: activations and mask of its chunks."""


def adapters(network: DocumentHypernetwork, readings: Sequence[Reading]) -> Generated:
    """One LoRA a document, as `DocumentHypernetwork.combine` gives them."""
    made = [network.generate(*reading) for reading in readings]
    together = {
        name: {half: torch.cat([m[name][half] for m in made]) for half in matrices}
        for name, matrices in made[0].items()
    }
    return network.combine(together, [len(activations) for activations, _ in readings])


def row_adapter(config: DocumentConfig, combined: Generated, documents_B: Sequence[int]) -> Adapter:
    """For a batch of rows, row n of which meets the adapter of document ``documents_B[n]``."""
    adapter: Adapter = {}
    rows = list(documents_B)
    for name, matrices in combined.items():
        for number, block in enumerate(config.layers):
            A_BRI, B_BRO = matrices["A"][rows, number], matrices["B"][rows, number]
            adapter[block, name] = LowRank(A_BRI, B_BRO * config.multiplier)
    return adapter


def row_losses(base: BaseModel, adapter: Adapter, targets: Sequence[Target], prefixes: Prefixes) -> Tensor:
    """``[B]``: of each row the mean over its answer's tokens, in nats.

    With a teacher's distribution p the loss of a token is ``-sum p log q`` over its top tokens, and of the answer's
    own token ``-log q``, weighted by `Target.answer_weight`. The adapter changes no block below the prefixes' first.
    """
    ids_BT, hidden_BTD = prefixes.padded(targets)
    with installed(base, adapter):
        out_BTD = base.run_from(hidden_BTD, ids_BT, prefixes.first)
    rows = [row for row, target in enumerate(targets) for _ in target.answer]
    places = [len(t.prompt) - 1 + n for t in targets for n in range(len(t.answer))]
    logprob_NV = base.logits(out_BTD[rows, places]).float().log_softmax(-1)
    answer_N = torch.tensor([token for t in targets for token in t.answer], device=base.device)
    answer_loss_N = F.nll_loss(logprob_NV, answer_N, reduction="none")
    losses: list[Tensor] = []
    for target, own, logprob in zip(
        targets,
        answer_loss_N.split([len(t.answer) for t in targets]),
        logprob_NV.split([len(t.answer) for t in targets]),
        strict=True,
    ):
        if target.top_NK is None or target.top_logprob_NK is None:
            losses.append(own.mean())
            continue
        taught = -(target.top_logprob_NK.exp() * logprob.gather(1, target.top_NK)).sum(dim=1)
        losses.append((target.answer_weight * own + (1 - target.answer_weight) * taught).mean())
    return torch.stack(losses)


class Prefixes:
    """What block ``first`` reads of each target's prompt and answer, ``[T, D]``: computed once and kept.

    One row at a time, so that it does not depend on which rows came first.
    """

    def __init__(self, base: BaseModel, first: int, kept: Kept | None = None):
        self.first = first
        self._base = base
        self._kept = kept or Kept(None)

    def padded(self, targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
        """Ids ``[B, T]`` and hidden states ``[B, T, D]`` of some targets, padded on the right."""
        device, longest = self._base.device, max(len(t.ids) for t in targets)
        ids_BT = torch.tensor([[*t.ids, *[0] * (longest - len(t.ids))] for t in targets], device=device)
        rows = [self._row(target.ids).to(device) for target in targets]
        return ids_BT, torch.stack([F.pad(row_TD, (0, 0, 0, longest - len(row_TD))) for row_TD in rows])

    def _row(self, ids: list[int]) -> Tensor:
        def compute() -> dict[str, Tensor]:
            return {"hidden": self._base.hidden_before(torch.tensor([ids], device=self._base.device), self.first)[0]}

        return self._kept.get(f"prefix {ids}", compute)["hidden"]
