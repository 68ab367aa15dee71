"""Full finetuning, sequentially: all weights, trained on document after document.

The baseline that trains everything and protects nothing. The memory keeps the change of every weight in fp16, two
bytes for each parameter of the base (269 MB for the embedded model). It is added to copies of the base's own fp32
weights for learning and answering; the base itself is never written to.
"""

from __future__ import annotations

from pydantic import Field

from continual_learning.strategies.base import Cost
from continual_learning.strategies.baselines._finetuning import FinetuningConfig
from continual_learning.strategies.baselines._sequential import SequentialFinetuning
from continual_learning.training.all_weights import AllWeights


class FullFinetuneConfig(FinetuningConfig):
    """Settings of the full_finetune strategy.

    Learning rate, questions and passes were chosen by benchmarks/lab/tune_baselines.py; the rest was not tuned.
    """

    learning_rate: float = Field(1e-4, ge=0)
    """AdamW's peak learning rate; it rises during the warm-up and then falls to a tenth. It is for weights as large as
    SmolLM2-135M's: where a base's are smaller, the rate is smaller in proportion."""


class FullFinetune(SequentialFinetuning[FullFinetuneConfig]):
    """Trains all weights on all documents; their change is kept in fp16."""

    summary = "all weights, trained on one document after the other"
    Config = FullFinetuneConfig
    role = "baseline"
    cost = Cost(
        learn_token=0.6,
        memory_bytes=269e6,
        f1={"smollm2-135m": 0.066},
        general_kept=0.63,
    )

    @property
    def trainable(self) -> AllWeights:
        """All weights."""
        return AllWeights()
