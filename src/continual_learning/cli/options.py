"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from continual_learning.strategies.commands import Json as Json  # noqa: PLC0414 - exported
from continual_learning.strategies.commands import MaxNewTokens as MaxNewTokens  # noqa: PLC0414
from continual_learning.strategies.commands import Memory as Memory  # noqa: PLC0414
from continual_learning.strategies.commands import Model as Model  # noqa: PLC0414
from continual_learning.strategies.commands import Overwrite as Overwrite  # noqa: PLC0414
from continual_learning.strategies.commands import Set as Set  # noqa: PLC0414

if TYPE_CHECKING:
    from continual_learning.documents import Limits


def group(help_text: str) -> typer.Typer:
    """A group of commands that shows its help when it is called without one."""
    app = typer.Typer(help=help_text, rich_markup_mode=None)

    @app.callback(invoke_without_command=True)
    def show_help(ctx: typer.Context) -> None:
        if ctx.invoked_subcommand is None:
            print(ctx.get_help())

    return app


MemoryArgument = Annotated[
    str | None, typer.Argument(metavar="[MEMORY]", help="Name of the memory [default: the setting `memory`].")
]
Strategy = Annotated[
    str | None,
    typer.Option(
        "--strategy", "-s", help="Strategy of a new memory, or auto to choose one; an existing memory keeps its own."
    ),
]
Speaker = Annotated[
    str | None,
    typer.Option(
        "--speaker",
        metavar="MODEL",
        help="Another model that words the answers from what the memory finds: ollama:NAME, openai:URL#NAME or "
        "llamacpp:FILE.gguf [default: the setting `speaker.model`].",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private", help="Also read pages from private addresses, such as localhost.")
]


def limits(allow_private: bool) -> Limits:
    """Limits on reading documents: the settings' section `documents`, and what the flag allows."""
    from continual_learning.settings.schema import load_config

    return load_config({"documents.allow_private": True if allow_private else None}).settings.documents
