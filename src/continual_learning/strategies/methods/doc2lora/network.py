"""What every document hypernetwork can do, whatever it is made of: the one interface of the generators.

Hypernetwork (hypernetwork.py)         the Perceiver of Doc-to-LoRA
LinearHypernetwork (linear.py)         linear fast weights, as in Generative Adapter
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from continual_learning.errors import InputError
from continual_learning.strategies.methods.doc2lora.generated_lora import Generated

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel
    from continual_learning.strategies.methods.doc2lora.generated_lora import Adapter, Place


class DocumentHypernetwork(nn.Module, ABC):
    """Makes LoRA matrices from what the base makes of a document. Differentiable throughout."""

    config: Any
    """`HypernetworkConfig` or `LinearHypernetworkConfig`."""

    def read(self, base: BaseModel, chunks: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """What `generate` takes, of chunks of token ids: activations ``[C, …]`` and the mask ``[C, S]``."""
        return self.read_on(base, chunks, self.begun(base, chunks))

    @abstractmethod
    def begun(self, base: BaseModel, chunks: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """The part of `read` that no weight of this network changes, which training computes once."""

    @abstractmethod
    def read_on(
        self, base: BaseModel, chunks: Sequence[Sequence[int]], begun: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The rest of `read`, differentiable."""

    @abstractmethod
    def generate(self, activations: Tensor, attention_mask: Tensor | None = None) -> Generated:
        """The matrices of each chunk: of every module ``A`` ``[C, L, R, I]`` and ``B`` ``[C, L, R, O]``."""

    @abstractmethod
    def combine(self, generated: Generated, chunks_per_document: Sequence[int] | Tensor) -> Generated:
        """One LoRA a document: ``A`` ``[G, L, K, I]`` and ``B`` ``[G, L, K, O]``, padded with zeros."""

    def common(self) -> Adapter:
        """What stands in the base once, beside the matrices of however many documents; empty for the Perceiver."""
        return {}

    def basis(self) -> dict[Place, Tensor]:
        """Where the A of every chunk's adapter is the network's own: ``[R, I]``; nowhere for the Perceiver."""
        return {}

    @abstractmethod
    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """Parameters for an optimizer, each group with its ``lr``."""

    def forward(
        self, activations: Tensor, attention_mask: Tensor | None, chunks_per_document: Sequence[int] | Tensor
    ) -> Generated:
        """`generate`, then `combine`: activations of chunks to one LoRA a document."""
        return self.combine(self.generate(activations, attention_mask), chunks_per_document)


def chunk_counts(generated: Generated, chunks_per_document: Sequence[int] | Tensor) -> list[int]:
    """The counts as a list. Raises InputError when they are not the chunks that there are."""
    counts = [int(n) for n in chunks_per_document]
    chunks = next(iter(generated.values()))["A"].shape[0]
    if sum(counts) != chunks or min(counts, default=0) < 1:
        raise InputError(f"chunks_per_document = {counts}; expected at least 1 each, adding up to {chunks} chunks")
    return counts


def side_by_side(part_CLRF: Tensor, bias_LRF: Tensor | None, ranks: int) -> Tensor:
    """Chunks of one document as ``[L, ranks, F]``."""
    side_LKF = part_CLRF.transpose(0, 1).flatten(1, 2)
    if bias_LRF is not None:
        side_LKF = torch.cat([side_LKF, bias_LRF.to(side_LKF.dtype)], dim=1)
    return F.pad(side_LKF, (0, 0, 0, ranks - side_LKF.shape[1]))
