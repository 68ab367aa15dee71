"""The outer loss of one passage, and its gradient with respect to the initial values, through the inner steps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from continual_learning.errors import DivergedError
from continual_learning.strategies.methods.ttt.inner_loop import Course, Values


def start_gradient(course: Course, start: Values, rate: float, steps: int, truncate: int) -> list[Tensor]:
    """Return the gradient of the outer loss for each block's initial values, and as the last tensor the loss itself.

    Exact if the last block alone has a branch and ``truncate`` is at least ``steps``: the moments of later blocks'
    neurons count as constants. Raises DivergedError if the loss is NaN or infinite.
    """
    # Fused attention, through which an earlier block's gradient goes, has no second derivative.
    with torch.enable_grad(), sdpa_kernel([SDPBackend.MATH]):
        course.look_up(start)
        loss = outer_loss(course, after_steps(course, start, rate, steps, truncate))
        gradient = torch.autograd.grad(loss, list(start.values()))
    if not torch.isfinite(loss):
        raise DivergedError(f"the loss became {loss.item()} in the outer loop; try a lower learning_rate")
    return [*gradient, loss.detach()]


def outer_loss(course: Course, values: Values) -> Tensor:
    """Cross-entropy of the passage's learned tokens against the candidates, in nats per token."""
    return F.softplus(course.gaps(values)).mean()


def after_steps(course: Course, start: Values, rate: float, steps: int, truncate: int = 0) -> Values:
    """Return the values after these steps, as a function of ``start`` through the last ``truncate`` of them.

    The steps before those count as a constant shift.
    """
    values = {block: initial.detach() for block, initial in start.items()}
    for number in range(steps):
        through = number >= steps - truncate
        if through and (number == 0 or number == steps - truncate):
            values = {b: initial + (values[b] - initial).detach() for b, initial in start.items()}
        values, _ = course.step(values, rate, through)
    return values
