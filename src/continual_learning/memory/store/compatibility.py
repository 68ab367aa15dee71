"""Does a state belong to this strategy and this base model?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from continual_learning.errors import MismatchError

if TYPE_CHECKING:
    from continual_learning.memory.state import State


def check_compatible(state: State, strategy_name: str, base_fingerprint: str, base_name: str) -> None:
    """Raise MismatchError, with both values, unless ``state`` was made by this strategy on this base.

    The fingerprint decides: the same weights under another name or path are the same base, and weights held in fewer
    bits are another one.
    """
    meta = state.meta
    if meta.strategy != strategy_name:
        raise MismatchError(
            f"the memory was made with strategy {meta.strategy!r}, expected {strategy_name!r}; "
            f"open it with strategy {meta.strategy!r} or choose another memory name"
        )
    made_in, made_on = _bits(meta.base_fingerprint)
    held_in, held = _bits(base_fingerprint)
    if made_on == held and made_in != held_in:
        raise MismatchError(
            f"the memory was made with {meta.base_name!r} and its weights in {made_in}; now they are in {held_in}: "
            f"set model.frozen_weights to {made_in}, or choose another memory name"
        )
    if meta.base_fingerprint != base_fingerprint:
        raise MismatchError(
            f"the memory was made with base model {meta.base_name!r} (fingerprint {meta.base_fingerprint[:12]}), "
            f"expected {base_name!r} (fingerprint {base_fingerprint[:12]}); "
            f"open it with model {meta.base_name!r} or choose another memory name"
        )


def _bits(fingerprint: str) -> tuple[str, str]:
    """What the weights are held in, and the fingerprint of the full ones: ``nf4-1a2b…`` is nf4 and ``1a2b…``."""
    held, _, of_full = fingerprint.rpartition("-")
    return held or "full", of_full
