"""Cached recitations of passages: several questions about one passage need it recited only once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from torch import Tensor

# Passages: a document of 50,000 tokens has about 300. An entry is a text of 700 bytes and
# keeps its weights, 60 kB, alive.
_MOST = 512


class Recitations:
    """Texts by passage, valid as long as the very same weights are asked. They are in memory only."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, tuple[tuple[Tensor, ...], str]] = OrderedDict()

    def get(self, key: Hashable, made_of: Sequence[Tensor], recite: Callable[[], str]) -> str:
        """Return the text of ``key``, recited unless it is cached and was recited from the tensors ``made_of``."""
        known = self._known.pop(key, None)
        same = known is not None and len(known[0]) == len(made_of)
        if known is None or not (same and all(a is b for a, b in zip(known[0], made_of, strict=True))):
            known = (tuple(made_of), recite())
        self._known[key] = known
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return known[1]
