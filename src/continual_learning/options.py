"""Validated options: the base of every strategy's and every training run's configuration."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import pydantic

from continual_learning.errors import ConfigError, MismatchError


class _Any:
    """Equal to every value."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "any value"


ANY = _Any()
"""In `StrategyConfig.RETIRED`: whatever the value was, the strategy does now what fits it."""


class StrategyConfig(pydantic.BaseModel):
    """Base class of every strategy's settings: unknown names are refused, values are validated."""

    # A field's docstring becomes its description, which `config show --defaults` prints above it.
    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True
    )

    RETIRED: ClassVar[Mapping[str, object]] = {}
    """Options that no longer exist, each with the value that matches what the strategy does now.

    A memory stores all options it was made with, so deleting one would make every older memory unreadable. A stored
    option with this value is dropped when the memory is opened; another value is an error (`current_options`).
    """

    @classmethod
    def of_today(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a memory, without those whose values have another meaning now: their defaults hold."""
        return dict(stored)


ConfigT = TypeVar("ConfigT", bound=StrategyConfig)


def parse_config(model: type[ConfigT], options: Mapping[str, Any], what: str) -> ConfigT:
    """Validate options. An error gives the value, what was expected and the nearest name."""
    try:
        return model(**options)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden" and key in model.RETIRED:
            raise ConfigError(f"{what}: option {key!r} is retired; leave it out") from None
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(model.model_fields)}"
            raise ConfigError(f"{what} has no option {key!r}; {hint}") from None
        # a check over several options has no key, and names them itself
        place = f"{key} = {first['input']!r} is not valid: " if key else ""
        raise ConfigError(f"{what}: {place}{first['msg']}") from None


def current_options(model: type[StrategyConfig], stored: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The options that a memory was made with, minus those that have been retired since.

    Raises MismatchError for a retired option whose value asks for something that this version no longer does.
    """
    stored = model.of_today(stored)
    for key, expected in model.RETIRED.items():
        if key in stored and stored[key] != expected:
            raise MismatchError(
                f"{what} was made with {key} = {stored[key]!r}, an option that is retired; expected {expected!r}: "
                "learn its documents again in a new memory, or open it with the version that made it"
            )
    return {key: value for key, value in stored.items() if key not in model.RETIRED}
