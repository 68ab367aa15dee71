"""How far two states are apart, document by document and part by part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from continual_learning.memory.state import State


def state_difference(a: State, b: State) -> dict[str, Any]:
    """JSON values: documents ``added`` and ``removed`` going from a to b, and ``parts``.

    Of each part: ``status`` (same, changed, added, removed), ``tensors``, ``tensors_changed``,
    ``l2`` (Euclidean distance over all floating-point tensors) and ``cosine`` (None if either side
    is all zeros). A tensor that one side lacks, or has in another shape, counts as zeros there.
    """
    ids_a, ids_b = ({d.id for d in s.meta.documents} for s in (a, b))
    parts_a, parts_b = a.parts, b.parts
    return {
        "documents": {
            "added": [{"id": d.id, "title": d.title} for d in b.meta.documents if d.id not in ids_a],
            "removed": [{"id": d.id, "title": d.title} for d in a.meta.documents if d.id not in ids_b],
        },
        "parts": {
            part: _part_difference(parts_a.get(part, {}), parts_b.get(part, {}))
            for part in sorted({*parts_a, *parts_b})
        },
    }


def _part_difference(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    import torch

    names = sorted({*a, *b})
    changed = 0
    square_a = square_b = square_distance = dot = 0.0
    for name in names:
        left, right = a.get(name), b.get(name)
        if left is None or right is None or left.shape != right.shape:
            changed += 1
            xx, yy = _dot(left, left), _dot(right, right)
            distance = xx + yy
        else:
            changed += not (left.dtype == right.dtype and torch.equal(left, right))
            xx, yy = _dot(left, left), _dot(right, right)
            dot += _dot(left, right)
            # not xx + yy - 2 dot: that cancels where the two are near
            floating = left.is_floating_point() and right.is_floating_point()
            distance = float((left.double() - right.double()).square().sum()) if floating else 0.0
        square_a, square_b, square_distance = square_a + xx, square_b + yy, square_distance + distance
    norms = math.sqrt(square_a) * math.sqrt(square_b)
    status = "added" if not a else "removed" if not b else "changed" if changed else "same"
    return {
        "status": status,
        "tensors": len(names),
        "tensors_changed": changed,
        "l2": math.sqrt(square_distance),
        "cosine": max(-1.0, min(1.0, dot / norms)) if norms else None,
    }


def _dot(x: torch.Tensor | None, y: torch.Tensor | None) -> float:
    """Inner product in float64; 0 for a missing tensor and for indices, whose distances mean nothing."""
    if x is None or y is None or not (x.is_floating_point() and y.is_floating_point()):
        return 0.0
    return float(x.double().flatten() @ y.double().flatten())
