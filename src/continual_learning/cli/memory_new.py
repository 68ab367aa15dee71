"""`memory new`: create an empty memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, plain
from continual_learning.errors import InputError


def new(
    memory: Annotated[str, typer.Argument(help="Name of the memory.")],
    strategy: options.Strategy = None,
    model: options.Model = None,
    settings: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Create an empty memory: to choose its strategy, or to talk to the base model alone."""
    from continual_learning.cli.session import choose, open_learner

    out = Output(as_json)
    choice = choose(memory, strategy, model, settings or (), must_exist=False)
    if choice.exists:
        raise InputError(f"memory {memory!r} is there already (strategy {choice.strategy}); give another name")
    learner = open_learner(choice)
    learner.choose()
    choice = replace(choice, strategy=learner.strategy.name)
    assert learner.store is not None  # it was opened by name
    version = learner.store.save(learner.state, "init", "nothing learned yet")
    out.result({**choice.names, "version": plain(version)})
    out.line(f"memory {choice.memory!r} ({choice.strategy}, {choice.model}) is there, and holds nothing yet")
