"""`nested`: a chat whose weights learn, and its one-shot mode."""

from __future__ import annotations

import os
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from continual_learning.errors import ConfigError
from continual_learning.strategies.commands import (
    Command,
    CommandContext,
    CommandOutput,
    Json,
    MaxNewTokens,
    MenuContext,
    MenuEntry,
    Model,
    Set,
)

NAME = "nested"


def nested(
    cli: CommandContext,
    memory: Annotated[str, typer.Option("--memory", "-m", help="Where /save keeps weights.")] = NAME,
    load: Annotated[str | None, typer.Option("--load", metavar="NAME", help="Start from these saved weights.")] = None,
    with_history: Annotated[
        bool, typer.Option("--with-history", help="With --load: restore the saved conversation too.")
    ] = False,
    once: Annotated[
        str | None,
        typer.Option("--once", metavar="TEXT", help="Adapt on a text, answer, reset, and show that it is gone."),
    ] = None,
    question: Annotated[
        str | None, typer.Option("--question", metavar="TEXT", help="With --once: the question, if not the text.")
    ] = None,
    preset: Annotated[
        Literal["several", "one", "public"],
        typer.Option(
            "--preset",
            help="Levels to use: several, the fastest alone, or the weights and steps of the public program.",
        ),
    ] = "several",
    model: Model = None,
    settings: Set = None,
    max_new_tokens: MaxNewTokens = None,
    as_json: Json = False,
) -> None:
    """Talk with a model whose weights learn what is said. Lines can also come from standard input."""
    out = cli.output(as_json)
    if with_history and load is None:
        raise ConfigError("--with-history without --load; expected the name of saved weights, such as --load evening")
    if question is not None and once is None:
        raise ConfigError(f"--question {question!r} without --once; expected a text to adapt on")
    if once is not None and load is not None:
        raise ConfigError(f"--once with --load {load!r}: it begins with no weights and ends so; leave --load out")
    config, chosen = _configured(cli, preset, model, max_new_tokens, settings or ())
    session = _open(cli, config, memory, chosen)
    if load is not None:
        session.load(load, with_history)
    if once is not None:
        _one_shot(cli, out, session, once, question)
        return
    from continual_learning.strategies.methods.nested.repl import Repl

    turns = Repl(cli, out, session).run()
    out.result({"memory": session.store.name, "model": session.base.name, "turns": cli.plain(turns)})


def _configured(
    cli: CommandContext, preset: str, model: str | None, max_new_tokens: int | None, assignments: Sequence[str]
) -> tuple[Any, dict[str, Any]]:
    """Return all settings and the strategy's options: files and variables, the preset, NL_* variables, then flags."""
    from continual_learning.strategies.base import make_strategy
    from continual_learning.strategies.methods.nested.config import PRESETS
    from continual_learning.strategies.methods.nested.environment import read_environment

    begin = {f"strategies.nested.{key}": (dumps(value), f"--preset {preset}") for key, value in PRESETS[preset].items()}

    flags = {"model.name": model, "max_new_tokens": max_new_tokens}
    given = cli.assignments(assignments)
    begun = cli.config(flags, variables=begin).strategy_options("nested", given)
    levels = len(make_strategy("nested", begun).config.periods)
    config = cli.config(flags, variables={**begin, **read_environment(os.environ, levels)})
    return config, config.strategy_options("nested", given)


def _open(cli: CommandContext, config: Any, memory: str, options: dict[str, Any]) -> Any:
    from continual_learning.memory.store import Store
    from continual_learning.model.base_model import BaseModel
    from continual_learning.strategies.base import make_strategy

    strategy = make_strategy("nested", options)
    place, folder = config.settings.model, config.settings.nested.checkpoint_dir
    store = Store(Path(folder).expanduser()) if folder else Store.open(memory)
    if store.head is not None and (made_with := store.meta()["strategy"]) != "nested":
        raise ConfigError(f"memory {store.name!r} was made with strategy {made_with!r}; give --memory another name")
    base = BaseModel.load(place.name, place.device, place.dtype, place.precision, place.frozen_weights)
    return cli.learning_chat(base, strategy, store, config)


def _one_shot(cli: CommandContext, out: CommandOutput, session: Any, text: str, question: str | None) -> None:
    found = session.one_shot(text, question)
    out.result({"model": session.base.name, "text": text, "question": question or text, **cli.plain(found)})
    out.note(f"adapted: {found.adaptation.reason} ({found.adaptation.seconds:.1f} s)")
    out.facts(
        {
            "before": found.before.text,
            "adapted": found.adapted.text,
            "after reset": found.after_reset.text,
            "gone": "yes: the base's own answer, and nothing is left in the memory" if found.gone else "no",
        }
    )


def _menu_chat(menu: MenuContext) -> None:
    """Run the conversation until /quit, Ctrl-D, or Ctrl-C twice."""
    menu.run(NAME, "--memory", menu.memory_of(NAME))


COMMANDS = (Command(NAME, nested),)
MENU = (MenuEntry("Nested", "Nested Chat", "a conversation that the weights learn from", _menu_chat),)
