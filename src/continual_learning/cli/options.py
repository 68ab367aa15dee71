"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

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


Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")]
Memory = Annotated[
    str | None, typer.Option("--memory", "-m", help="Name of the memory [default: the setting `memory`].")
]
MemoryArgument = Annotated[
    str | None, typer.Argument(metavar="[MEMORY]", help="Name of the memory [default: the setting `memory`].")
]
Strategy = Annotated[
    str | None, typer.Option("--strategy", "-s", help="How a new memory learns; one that exists keeps its own.")
]
Model = Annotated[
    str | None, typer.Option("--model", help="Base model: smollm2-135m, a Hugging Face name, or a local folder.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option of the strategy; may be given several times."),
]
MaxNewTokens = Annotated[
    int | None, typer.Option("--max-new-tokens", metavar="N", help="Longest answer, in tokens.", min=1)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what has this name.")]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private", help="Read pages from private addresses too, such as localhost.")
]


def limits(allow_private: bool) -> Limits:
    """Limits on reading documents: the settings' section `documents`, and what the flag allows."""
    from continual_learning.settings.schema import load_config

    return load_config({"documents.allow_private": True if allow_private else None}).settings.documents
