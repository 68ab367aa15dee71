"""The interface of all document hypernetworks, whatever their architecture.

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
    """Makes LoRA matrices from the base's activations on a document. Differentiable throughout."""

    config: Any
    """`HypernetworkConfig` or `LinearHypernetworkConfig`."""

    def read(self, base: BaseModel, chunks: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return what `generate` takes, for chunks of token ids: activations ``[C, …]`` and the mask ``[C, S]``."""
        return self.read_on(base, chunks, self.begun(base, chunks))

    @abstractmethod
    def begun(self, base: BaseModel, chunks: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Compute the part of `read` that does not depend on this network's weights; training computes it once."""

    @abstractmethod
    def read_on(
        self, base: BaseModel, chunks: Sequence[Sequence[int]], begun: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Compute the rest of `read`, differentiably."""

    @abstractmethod
    def generate(self, activations: Tensor, attention_mask: Tensor | None = None) -> Generated:
        """Return the matrices of each chunk: for every module ``A`` ``[C, L, R, I]`` and ``B`` ``[C, L, R, O]``."""

    @abstractmethod
    def combine(self, generated: Generated, chunks_per_document: Sequence[int] | Tensor) -> Generated:
        """Return one LoRA per document: ``A`` ``[G, L, K, I]`` and ``B`` ``[G, L, K, O]``, padded with zeros."""

    def common(self) -> Adapter:
        """Return what is added to the base once, however many documents there are; empty for the Perceiver."""
        return {}

    def basis(self) -> dict[Place, Tensor]:
        """Return the network's own A, ``[R, I]``, for each place where every chunk uses it; empty for the Perceiver."""
        return {}

    @abstractmethod
    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """Return the parameters for an optimizer, each group with its ``lr``."""

    def forward(
        self, activations: Tensor, attention_mask: Tensor | None, chunks_per_document: Sequence[int] | Tensor
    ) -> Generated:
        """Run `generate`, then `combine`: from activations of chunks to one LoRA per document."""
        return self.combine(self.generate(activations, attention_mask), chunks_per_document)


def chunk_counts(generated: Generated, chunks_per_document: Sequence[int] | Tensor) -> list[int]:
    """Return the counts as a list. Raises InputError if they do not add up to the number of chunks."""
    counts = [int(n) for n in chunks_per_document]
    chunks = next(iter(generated.values()))["A"].shape[0]
    if sum(counts) != chunks or min(counts, default=0) < 1:
        raise InputError(f"chunks_per_document = {counts}; expected at least 1 each, adding up to {chunks} chunks")
    return counts


def side_by_side(part_CLRF: Tensor, bias_LRF: Tensor | None, ranks: int) -> Tensor:
    """Return one document's chunks, and ``bias_LRF``, concatenated along the rank: ``[L, ranks, F]``."""
    side_LKF = part_CLRF.transpose(0, 1).flatten(1, 2)
    if bias_LRF is not None:
        side_LKF = torch.cat([side_LKF, bias_LRF.to(side_LKF.dtype)], dim=1)
    return F.pad(side_LKF, (0, 0, 0, ranks - side_LKF.shape[1]))
