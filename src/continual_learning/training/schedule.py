"""Learning rate schedules."""

from __future__ import annotations

import math


def warm_up_cosine(step: int, steps: int, warm_up: int) -> float:
    """Factor on the learning rate at ``step`` (from 0): linear over ``warm_up`` steps, then half a cosine to zero."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
