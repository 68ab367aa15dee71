"""Strategy ``auto``: what every strategy would cost for some documents on a base, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from continual_learning.app.estimate import Estimate
from continual_learning.errors import ConfigError
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import Strategy, make_strategy, strategy_class, strategy_names
from continual_learning.strategies.choosing import AutoConfig, Candidate, Chosen, Considered, choose, consider

TYPICAL_TOKENS = 1000
"""Tokens of the document that a strategy is chosen for if none is given."""
_ROOM = 320  # tokens of the window for a question and its answer
_MEASURED = {True: "smollm2-135m", False: "gemma3-270m"}
"""Bases that strategies were measured on, by whether they chat: whichever is like a base stands for it."""


def _defaults(_name: str) -> Mapping[str, Any]:
    return {}


class Automatic:
    """Chooses the strategy of a new memory.

    Args:
        wanted: The settings of strategy `auto`.
        options_of: The options that each strategy is made with, by its name; the default: none.
    """

    def __init__(self, wanted: AutoConfig, options_of: Callable[[str], Mapping[str, Any]] = _defaults):
        self.wanted = wanted
        self._options_of = options_of
        self._estimate: Estimate | None = None

    def make(self, strategy: str) -> Strategy[Any]:
        """A strategy with its options. Raises ConfigError for an invalid one."""
        return make_strategy(strategy, self._options_of(strategy))

    def undecided(self) -> Strategy[Any]:
        """The strategy of a memory before there is anything to choose by: one that never learns."""
        return self.make(next(name for name in strategy_names() if not strategy_class(name).learns))

    def choose(self, base: BaseModel, tokens: Sequence[int] = ()) -> Chosen:
        """The strategy for documents of this many ``tokens``. Raises InputError if every strategy is ruled out."""
        return choose(*self._case(base, tokens or [TYPICAL_TOKENS]))

    def consider(self, base: BaseModel, tokens: Sequence[int]) -> list[Considered]:
        """Every strategy that learns, with its costs and what rules it out."""
        return consider(*self._case(base, tokens))

    def _case(self, base: BaseModel, tokens: Sequence[int]) -> tuple[list[Candidate], AutoConfig, int, float]:
        if self._estimate is None:
            self._estimate = Estimate.here(base)
        candidates: list[Candidate] = []
        unlearned = 0.0
        for name in strategy_names():
            try:
                strategy = self.make(name)
            except ConfigError as error:  # of another package, or with options in the settings that do not fit
                candidates.append(Candidate(name, 0.0, 0.0, 0.0, 0, 0, True, None, lacks=str(error)))
                continue
            if strategy.learns:
                candidates.append(_candidate(strategy, base, tokens, self._estimate))
            else:
                unlearned = max(unlearned, _f1(strategy, base) or 0.0)
        return candidates, self.wanted, len(tokens), unlearned


def _candidate(strategy: Strategy[Any], base: BaseModel, tokens: Sequence[int], estimate: Estimate) -> Candidate:
    name, cost = strategy.name, strategy.cost
    total, longest = sum(tokens), max(tokens)
    window = max(base.window - _ROOM, base.window // 4)
    most = strategy.token_limit
    too_long = ""
    if cost.prompt_tokens is None and total > window:
        too_long = f"{total} tokens in all, and {window} fit into the window"
    elif most is not None and longest > most:
        too_long = f"a document of {longest} tokens, of which it learns {most} (max_tokens)"
    return Candidate(
        name,
        estimate.learn(name, total),
        estimate.learn(name, longest),
        estimate.answer(name, 1, total),
        round(cost.token_bytes * total + cost.document_bytes * len(tokens) + cost.memory_bytes),
        min(total, window if cost.prompt_tokens is None else cost.prompt_tokens),
        strategy.keeps_text,
        _f1(strategy, base),
        cost.general_kept,
        too_long,
        strategy.lacks(base),
    )


def _f1(strategy: Strategy[Any], base: BaseModel) -> float | None:
    """The F1 measured on this base, else on the one most like it, else on any."""
    found = strategy.measured_f1(base)
    like = _MEASURED[base.chats]
    return found.get(base.name, found.get(like, next(iter(found.values()), None)))
