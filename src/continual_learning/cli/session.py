"""From flags and settings to an open Learner or Store: the one place where commands obtain them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from continual_learning.errors import ConfigError, UnknownNameError
from continual_learning.settings.schema import Config, ModelSettings, load_config, parse_assignments
from continual_learning.strategies.choosing import AutoConfig
from continual_learning.strategies.registry import AUTO

if TYPE_CHECKING:
    from continual_learning.app.automatic import Automatic
    from continual_learning.app.learner import Learner
    from continual_learning.app.speaking import Speaker
    from continual_learning.memory.store import Store
    from continual_learning.model.base_model import BaseModel
    from continual_learning.model.cpu_linear import Precision
    from continual_learning.model.quantised import FrozenWeights

    _Place = tuple[str, str, str, Precision, FrozenWeights]

_kept: dict[_Place, BaseModel] | None = None


@contextlib.contextmanager
def models_kept() -> Iterator[None]:
    """Commands run inside reuse the last loaded model: the menu and the server run many in one process."""
    global _kept  # noqa: PLW0603 - commands are functions that share nothing else
    before, _kept = _kept, {}
    try:
        yield
    finally:
        _kept = before


def kept_model() -> BaseModel | None:
    """The model that `models_kept` holds, if any was loaded."""
    return next(iter((_kept or {}).values()), None)


def load_base(name: str, how: ModelSettings) -> BaseModel:
    """The base model of this name, loaded as the settings say unless it is kept. Raises what `BaseModel.load` does."""
    from continual_learning.model.base_model import BaseModel

    place: _Place = (name, how.device, how.dtype, how.precision, how.frozen_weights)
    if _kept is not None and place in _kept:
        return _kept[place]
    if _kept is not None:
        _kept.clear()  # before loading: two models may not fit
    base = BaseModel.load(*place)
    if _kept is not None:
        _kept[place] = base
    return base


@dataclass(frozen=True)
class Choice:
    """Which memory, strategy and model a command works with."""

    memory: str
    strategy: str
    model: str
    exists: bool
    """Whether the memory is on disk already."""
    options: dict[str, Any]
    """Options of the strategy that are set explicitly."""
    config: Config

    @property
    def names(self) -> dict[str, str]:
        """For the JSON document of a command."""
        return {"memory": self.memory, "strategy": self.strategy, "model": self.model}


def choose(
    memory: str | None = None,
    strategy: str | None = None,
    model: str | None = None,
    assignments: Sequence[str] = (),
    max_new_tokens: int | None = None,
    must_exist: bool = True,
    speaker: str | None = None,
) -> Choice:
    """Settle the names. A memory that exists brings its own strategy and model.

    Raises UnknownNameError for a memory that must exist and does not, ConfigError for a flag that
    contradicts the memory.
    """
    flags = {
        "memory": memory,
        "strategy": strategy,
        "model.name": model,
        "max_new_tokens": max_new_tokens,
        "speaker.model": speaker,
    }
    config = load_config(flags)
    settings = config.settings
    texts = parse_assignments(list(assignments))
    stored = stored_names(settings.memory)
    if stored is None:
        if must_exist:
            raise no_memory(settings.memory)
        options = config.strategy_options(settings.strategy, texts)
        base = config.model_for(settings.strategy, options)
        return Choice(settings.memory, settings.strategy, base, False, options, config)
    made_with, made_on = stored
    if settings.strategy == AUTO:  # its settings were for making the memory
        texts = {key: text for key, text in texts.items() if key not in AutoConfig.model_fields}
    if strategy not in (None, AUTO, made_with):
        found = f"--strategy {strategy}: memory {settings.memory!r} was made with strategy {made_with!r}"
        raise ConfigError(f"{found}; leave --strategy out, or give --memory another name")
    # A model is known by its weights, not by its name, so the Learner decides whether a flag that differs fits.
    # The memory keeps the options that it was made with; only what this command sets goes over them.
    options = {key: value for key, value in config.strategy_options(made_with, texts).items() if key in texts}
    return Choice(settings.memory, made_with, model or made_on, True, options, config)


def open_learner(choice: Choice, speaks: bool = False) -> Learner:
    """The Learner for a choice, with its speaker if it ``speaks``; imports torch and loads the model."""
    from continual_learning.app.learner import Learner
    from continual_learning.strategies.base import make_strategy

    automatic = automatic_of(choice) if choice.strategy == AUTO else None
    if automatic is None:
        make_strategy(choice.strategy, choice.options)  # a wrong option is reported before seconds of loading
    speaker = open_speaker(choice.config) if speaks else None  # so is one that cannot be used
    base = load_base(choice.model, choice.config.settings.model)
    if automatic is not None:
        return Learner.open(base, automatic, choice.memory, speaker=speaker)
    return Learner.open(base, choice.strategy, choice.memory, speaker=speaker, **choice.options)


def automatic_of(choice: Choice) -> Automatic:
    """Strategy `auto` with its settings, and with those of the strategies that it chooses from."""
    from continual_learning.app.automatic import Automatic
    from continual_learning.options import parse_config

    given = choice.options if choice.strategy == AUTO else choice.config.strategy_options(AUTO)
    return Automatic(parse_config(AutoConfig, given, f"strategy {AUTO!r}"), choice.config.strategy_options)


def open_speaker(config: Config) -> Speaker | None:
    """The speaker of the settings, ready to speak; None if none is set. Raises what `Speaker.open` does."""
    from continual_learning.app.speaking import SECTION, Speaker
    from continual_learning.chat_models import Connection

    given = config.settings.speaker
    if given.model is None:
        return None
    connection = Connection(given.num_ctx, given.timeout, given.host, given.api_key_variable, SECTION)
    return Speaker.open(given.model, connection)


def open_store(memory: str | None = None) -> Store:
    """The store of a memory that exists. Raises UnknownNameError naming those that do."""
    from continual_learning.memory.store import Store

    name = memory_name(memory)
    if name not in memory_names():
        raise no_memory(name)
    return Store.open(name, create=False)


def memory_name(memory: str | None) -> str:
    """The name given, else the setting."""
    return load_config({"memory": memory}).settings.memory


def memory_names() -> list[str]:
    """Names of all memories on disk."""
    from continual_learning.memory.store import Store

    return sorted(Store.list())


def no_memory(name: str) -> UnknownNameError:
    """The error for a memory that is not there."""
    names = memory_names()
    known = f"those there are: {', '.join(names)}" if names else "there is none yet"
    return UnknownNameError(f"no memory {name!r}; {known}; `continual-learning learn PATH --memory {name}` makes it")


def stored_names(memory: str) -> tuple[str, str] | None:
    """Strategy and model of a memory on disk; None if it is not there or has no version yet."""
    from continual_learning.memory.store import Store

    meta = head_meta(Store.open(memory))
    return None if meta is None else (str(meta["strategy"]), str(meta["base_name"]))


def head_meta(store: Store) -> dict[str, Any] | None:
    """What the current version knows about itself, as `StateMeta.to_json` gave it; None before the first save."""
    return None if store.head is None else store.meta()
