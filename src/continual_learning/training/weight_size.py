"""Learning rates in proportion to a base's weights.

AdamW moves a weight by about the learning rate, whatever the weight's size: a rate that suits one base ruins another
whose weights are a fifth as large (relative step sizes: Shazeer and Stern 2018, arXiv 1804.04235, section 8).
"""

from __future__ import annotations

from statistics import fmean

from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts

_REFERENCE = 0.19
"""Mean size of the weights for which the defaults were chosen: that of the embedded model, rounded down."""


def weight_share(base: BaseModel) -> float:
    """How large the base's weights are, as a share of the embedded model's, and at most 1.

    The size is the mean, over the matrices of the MLPs, of the root mean square of their weights.
    """

    def share() -> float:
        parts = [mlp_parts(base.mlp(block)) for block in range(base.block_count)]
        weights = [w for part in parts for w in (part.gate_w, part.up_w, part.down_w) if w is not None]
        sizes = [float(weight.float().square().mean().sqrt()) for weight in weights]
        return min(1.0, fmean(sizes) / _REFERENCE)

    return base.remember("weight share", share)
