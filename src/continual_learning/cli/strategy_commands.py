"""Mounts the commands that strategies bring: see `continual_learning.strategies.commands`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, get_type_hints

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, note, percent, plain, progress_bar, size
from continual_learning.strategies import registry
from continual_learning.strategies.commands import Command

if TYPE_CHECKING:
    from continual_learning.app.learner import Learner
    from continual_learning.app.learning_chat import NestedSession
    from continual_learning.cli.session import Choice
    from continual_learning.memory.store import Store
    from continual_learning.model.base_model import BaseModel
    from continual_learning.settings.schema import Config
    from continual_learning.strategies.base import Strategy


class Context:
    """`continual_learning.strategies.commands.CommandContext` on this program's session, settings and output."""

    def output(self, as_json: bool) -> Output:
        """The output of this command."""
        return Output(as_json)

    def progress_bar(self, title: str) -> AbstractContextManager[Any]:
        """A callback that draws a bar, or None."""
        return progress_bar(title)

    def config(
        self, flags: Mapping[str, Any] | None = None, variables: Mapping[str, tuple[str, str]] | None = None
    ) -> Config:
        """All settings."""
        from continual_learning.settings.schema import load_config

        return load_config(flags, variables=variables)

    def learning_chat(self, base: BaseModel, strategy: Strategy[Any], store: Store, config: Config) -> NestedSession:
        """A conversation that learns as it goes."""
        from continual_learning.app.learning_chat import NestedSession

        settings = config.settings
        return NestedSession(base, strategy, store, settings.nested, settings.max_new_tokens, settings.documents)

    def assignments(self, texts: Sequence[str]) -> dict[str, str]:
        """The assignments given with ``--set``."""
        from continual_learning.settings.schema import parse_assignments

        return parse_assignments(list(texts))

    def from_text(self, model: Any, key: str, text: str) -> Any:
        """The text of a flag as the type of this field."""
        from continual_learning.settings.schema import from_text

        return from_text(model, key, text)

    def choose(
        self,
        memory: str | None,
        strategy: str | None = None,
        model: str | None = None,
        settings: Sequence[str] = (),
        max_new_tokens: int | None = None,
        must_exist: bool = True,
    ) -> Choice:
        """Which memory, strategy and model."""
        from continual_learning.cli.session import choose

        return choose(memory, strategy, model, settings, max_new_tokens, must_exist)

    def learner(self, choice: Choice) -> Learner:
        """The learner for a choice; loads the model."""
        from continual_learning.cli.session import open_learner

        return open_learner(choice)

    def store(self, memory: str | None) -> Store:
        """The store of a memory that exists."""
        from continual_learning.cli.session import open_store

        return open_store(memory)

    def plain(self, data: Any) -> Any:
        """Plain JSON values."""
        return plain(data)

    def percent(self, share: float | None) -> str | None:
        """A share as a percentage."""
        return percent(share)

    def size(self, count: int) -> str:
        """Bytes in readable form."""
        return size(count)

    def answer_notes(self, out: Output, answer: Any) -> None:
        """The notes of an answer."""
        from continual_learning.cli.ask import notes_of

        notes_of(out, answer)


def mount(app: typer.Typer, groups: Mapping[str, typer.Typer]) -> None:
    """Add the commands of all strategies. ``groups`` are the existing ones, such as ``train``.

    A command of another package whose name is taken is left out with a warning.
    """
    known = dict(groups)
    taken = {info.name for info in app.registered_commands} | {info.name for info in app.registered_groups}
    mounted: set[str] = set()
    for place, module in registry.command_modules():
        helps: Mapping[str, str] = getattr(module, "GROUPS", {})
        for command in getattr(module, "COMMANDS", ()):
            group, _, name = command.name.rpartition(" ")
            if command.name in mounted or (not group and name in taken):
                note(
                    f"warning: the command {command.name!r} of strategy {place.name!r} (package {place.package!r}) is "
                    "left out: there is one of this name; expected another name"
                )
                continue
            mounted.add(command.name)
            if group and group not in known:
                known[group] = options.group(helps.get(group, f"Commands of the strategy {place.name}."))
                app.add_typer(known[group], name=group)
            (known[group] if group else app).command(name)(_bound(command))


def _bound(command: Command) -> Callable[..., None]:
    """The command's function without its first parameter, as typer reads it."""
    hints = get_type_hints(command.run, include_extras=True)
    signature = inspect.signature(command.run)
    _context, *rest = signature.parameters.values()

    def run(**given: Any) -> None:
        command.run(Context(), **given)

    run.__name__, run.__doc__ = command.run.__name__, command.run.__doc__
    run.__annotations__ = {p.name: hints[p.name] for p in rest} | {"return": None}
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in rest], return_annotation=None
    )
    return run
