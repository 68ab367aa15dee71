"""The rows that measure a chat whose weights learn, by the names that `--rows` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from continual_learning.errors import ConfigError
from continual_learning.evaluation.contender import Contender
from continual_learning.strategies.base import strategy_class, strategy_names


def with_variants() -> list[str]:
    """Names of the strategies that have variants (`Strategy.variants`)."""
    return [name for name in strategy_names() if strategy_class(name).variants]


def variant_rows(
    names: Sequence[str] | None = None, options: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Contender]:
    """The named rows, by default all: three baselines, and the variants of all strategies that have some.

    ``options``, by strategy, are added to those of the variants that take more. Raises ConfigError for an unknown name.
    """
    rows = {
        "frozen": Contender("frozen", label="no adaptation"),
        "prompt": Contender("in_context", {"reader": None}, label="history in the prompt"),
        "retrieval": Contender("rag", label="retrieval over turns"),
    }
    for strategy in with_variants():
        more = (options or {}).get(strategy, {})
        for name, variant in strategy_class(strategy).variants.items():
            given = {**more, **variant.options} if variant.takes_options else dict(variant.options)
            rows[name] = Contender(strategy, given, label=f"{strategy}, {variant.label}")
    chosen = list(rows) if names is None else names
    if unknown := [name for name in chosen if name not in rows]:
        raise ConfigError(f"--rows: no row {unknown[0]!r}; expected some of {', '.join(rows)}")
    return [rows[name] for name in chosen]
