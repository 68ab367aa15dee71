"""Full finetuning, sequentially: all weights, trained on document after document.

The baseline that learns with everything and protects nothing. The memory keeps the change of every weight in fp16,
two bytes for each parameter of the base (269 MB for the embedded model), which the base's own fp32 weights are added
to while it learns or answers; the base itself is never written to.
"""

from __future__ import annotations

from pydantic import Field

from continual_learning.strategies.base import Cost
from continual_learning.strategies.baselines._finetuning import FinetuningConfig
from continual_learning.strategies.baselines._sequential import SequentialFinetuning
from continual_learning.training.all_weights import AllWeights


class FullFinetuneConfig(FinetuningConfig):
    """Settings of the full_finetune strategy.

    Learning rate, questions and passes are what benchmarks/lab/tune_baselines.py chose; the rest was not tuned.
    """

    learning_rate: float = Field(1e-4, ge=0)
    """AdamW's highest; it rises during the warm-up and falls to a tenth after."""


class FullFinetune(SequentialFinetuning[FullFinetuneConfig]):
    """All weights for all documents; their change is kept in fp16."""

    summary = "all weights, trained on one document after the other"
    Config = FullFinetuneConfig
    role = "baseline"
    cost = Cost(learn_token=0.6)

    @property
    def trainable(self) -> AllWeights:
        """All weights."""
        return AllWeights()
