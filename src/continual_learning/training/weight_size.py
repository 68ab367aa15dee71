"""Learning rates in proportion to a base's weights.

AdamW moves a weight by about the learning rate, whatever the weight's size: a rate that suits one base ruins another
whose weights are a fifth as large (relative step sizes: Shazeer and Stern 2018, arXiv 1804.04235, section 8).
"""

from __future__ import annotations

from statistics import fmean

from torch import nn

from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import is_transposed

_REFERENCE = 0.19
"""Mean size of the weights for which the defaults were chosen: that of the embedded model, rounded down."""


def weight_share(base: BaseModel) -> float:
    """How large the base's weights are, as a share of the embedded model's, and at most 1.

    The size is the mean, over the linear layers of the MLPs, of the root mean square of a layer's weights.
    """

    def share() -> float:
        sizes = [
            float(module.weight.float().square().mean().sqrt())
            for block in range(base.block_count)
            for module in base.mlp(block).modules()
            if isinstance(module, nn.Linear) or is_transposed(module)
        ]
        return min(1.0, fmean(sizes) / _REFERENCE)

    return base.remember("weight share", share)
