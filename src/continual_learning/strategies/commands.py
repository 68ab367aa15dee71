"""Commands and menu entries that a strategy brings: what its ``commands.py`` defines, and what it is given.

``commands.py`` stands in the strategy's folder (of a strategy in one file, ``_NAME_commands.py`` next to it) and is
read for every ``--help``: it imports torch and the strategy inside functions only. It may define

    COMMANDS: Sequence[Command]      commands, mounted under their names
    GROUPS: Mapping[str, str]        the help of a group of commands that is the strategy's own
    MENU: Sequence[MenuEntry]        entries of the menu

The command line implements `CommandContext` and `MenuContext`, so that strategies need not know it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")]
Memory = Annotated[
    str | None, typer.Option("--memory", "-m", help="Name of the memory [default: the setting `memory`].")
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
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what has this name.")]


class CommandOutput(Protocol):
    """What one command writes: with ``--json`` one document on standard output, else lines and tables."""

    @property
    def terminal(self) -> bool:
        """Whether a person reads standard output as it comes."""

    def line(self, text: str = "") -> None:
        """A line on standard output; nothing with ``--json``."""

    def token(self, text: str) -> None:
        """A piece of an answer that is being written."""

    def note(self, text: str) -> None:
        """A line on standard error."""

    def result(self, data: Any) -> None:
        """The JSON document, of dataclasses, mappings, sequences and paths; nothing without ``--json``."""

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Names and values, aligned."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table."""


class CommandContext(Protocol):
    """What a command is given to work with. Learner, settings and stores are those of the program above."""

    def output(self, as_json: bool) -> CommandOutput:
        """The output of this command."""

    def progress_bar(self, title: str) -> AbstractContextManager[Any]:
        """A `ProgressCallback` that draws a bar; None where nobody would see it."""

    def config(
        self, flags: Mapping[str, Any] | None = None, variables: Mapping[str, tuple[str, str]] | None = None
    ) -> Any:
        """All settings: a `Config`. ``flags`` maps dotted keys to values; a None is a flag not given.

        ``variables`` maps dotted keys to a text and what it is from, such as another program's variable.
        """

    def learning_chat(self, base: Any, strategy: Any, store: Any, config: Any) -> Any:
        """A conversation that learns as it goes, with these settings: a `NestedSession`."""

    def assignments(self, texts: Sequence[str]) -> dict[str, str]:
        """``["key=value", …]`` of ``--set``. Raises ConfigError."""

    def from_text(self, model: Any, key: str, text: str) -> Any:
        """The text of a flag as the type of this field of a pydantic model."""

    def choose(
        self,
        memory: str | None,
        strategy: str | None = None,
        model: str | None = None,
        settings: Sequence[str] = (),
        max_new_tokens: int | None = None,
        must_exist: bool = True,
    ) -> Any:
        """Which memory, strategy and model: a `Choice`. Raises UnknownNameError and ConfigError."""

    def learner(self, choice: Any) -> AbstractContextManager[Any]:
        """The `Learner` for a choice, closed at the end."""

    def store(self, memory: str | None) -> Any:
        """The `Store` of a memory that exists. Raises UnknownNameError."""

    def plain(self, data: Any) -> Any:
        """Dataclasses, tuples and paths as plain JSON values."""

    def percent(self, share: float | None) -> str | None:
        """A share for people."""

    def size(self, count: int) -> str:
        """Bytes for people."""

    def answer_notes(self, out: Any, answer: Any) -> None:
        """The notes of an answer, on standard error."""


class MenuContext(Protocol):
    """What an entry of the menu is given. Whatever it does is a command line that the user sees."""

    @property
    def prompts(self) -> Any:
        """Questions at the terminal: ``text``, ``path``, ``number``, ``confirm``, ``select``, ``several``."""

    @property
    def memory(self) -> str:
        """The memory that entries work with."""

    def memory_of(self, strategy: str) -> str:
        """The present memory if it was made with this strategy, else one of the strategy's name."""

    def run(self, *arguments: object) -> int:
        """Run a command as the shell would, after showing it; its exit code."""

    def say(self, text: str) -> None:
        """A line for the user."""

    def config(self) -> Any:
        """All settings: a `Config`."""

    def options(self, strategy: str) -> dict[str, Any]:
        """All options of a strategy as the settings have them."""

    def model_for(self, strategy: str) -> str:
        """The model that a new memory of this strategy gets."""

    def learn(self, source: str, memory: str, *more: str, strategy: str | None = None, qa: str = "") -> int:
        """`learn` into a memory. ``strategy`` is for one that is not there yet."""

    def ask_in_turn(self, memory: str, feedback: bool = False) -> None:
        """Questions to a memory until an empty one. ``feedback``: after each answer, what it was worth."""

    def learn_then_ask(self, strategy: str) -> None:
        """Documents into a memory of this strategy, then questions with feedback."""


@dataclass(frozen=True)
class Command:
    """A command of the command line."""

    name: str
    """As it is called: ``nested``, or with its group ``ace show``."""
    run: Callable[..., None]
    """Its first parameter is the `CommandContext`, the others are options and arguments that typer reads; its
    docstring is the help."""


@dataclass(frozen=True)
class MenuEntry:
    """One line of the menu."""

    group: str
    title: str
    help: str
    """What it does, in a line."""
    action: Callable[[MenuContext], None]
