"""The size of a training step over a run."""

from __future__ import annotations

import math


def warm_up_cosine(step: int, steps: int, warm_up: int) -> float:
    """Factor on the rate at ``step`` (from 0): linear over ``warm_up`` steps, then half a cosine down to zero."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
