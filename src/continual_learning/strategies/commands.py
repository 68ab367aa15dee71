"""Commands and menu entries that a strategy adds: what its ``commands.py`` defines, and what is passed to it.

``commands.py`` is in the strategy's folder (for a single-file strategy it is ``_NAME_commands.py`` next to it) and is
imported for every ``--help``: it imports torch and the strategy inside functions only. It may define

    COMMANDS: Sequence[Command]      commands, mounted under their names
    GROUPS: Mapping[str, str]        the help text of each command group that the strategy adds
    MENU: Sequence[MenuEntry]        entries of the menu
    PREPARES: Sequence[Preparation]  what is made once for a base: `model prepare`

The command line implements `CommandContext` and `MenuContext`, so that strategies need not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output, and nothing else.")]
Memory = Annotated[
    str | None, typer.Option("--memory", "-m", help="Name of the memory [default: the setting `memory`].")
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="Base model: smollm2-135m, gemma3-270m, a GGUF file, a local folder, or a Hugging Face name."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option of the strategy; may be repeated."),
]
MaxNewTokens = Annotated[
    int | None, typer.Option("--max-new-tokens", metavar="N", help="Maximum tokens per answer.", min=1)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace anything that already has this name.")]


class CommandOutput(Protocol):
    """The output of one command: with ``--json`` one document on standard output, otherwise lines and tables."""

    @property
    def terminal(self) -> bool:
        """Whether standard output is a terminal that a person reads."""

    def line(self, text: str = "") -> None:
        """Write a line to standard output; nothing with ``--json``."""

    def token(self, text: str) -> None:
        """Write a piece of an answer that is being generated."""

    def note(self, text: str) -> None:
        """Write a line to standard error."""

    def result(self, data: Any) -> None:
        """Write the JSON document from dataclasses, mappings, sequences and paths; nothing without ``--json``."""

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Write names and values, aligned."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write a table."""


class CommandContext(Protocol):
    """What is passed to a command. Learner, settings and stores are those of the program that calls it."""

    def output(self, as_json: bool) -> CommandOutput:
        """The output of this command."""

    def progress_bar(self, title: str) -> AbstractContextManager[Any]:
        """A `ProgressCallback` that draws a bar; None if nobody would see it."""

    def config(
        self, flags: Mapping[str, Any] | None = None, variables: Mapping[str, tuple[str, str]] | None = None
    ) -> Any:
        """All settings: a `Config`. ``flags`` maps dotted keys to values; None means that the flag was not given.

        ``variables`` maps dotted keys to a text and its origin, such as another program's variable.
        """

    def learning_chat(self, base: Any, strategy: Any, store: Any, config: Any) -> Any:
        """A conversation that learns as it goes, with these settings: a `NestedSession`."""

    def assignments(self, texts: Sequence[str]) -> dict[str, str]:
        """Parse the ``["key=value", …]`` of ``--set``. Raises ConfigError."""

    def from_text(self, model: Any, key: str, text: str) -> Any:
        """Convert the text of a flag to the type of this field of a pydantic model."""

    def choose(
        self,
        memory: str | None,
        strategy: str | None = None,
        model: str | None = None,
        settings: Sequence[str] = (),
        max_new_tokens: int | None = None,
        must_exist: bool = True,
    ) -> Any:
        """Determine memory, strategy and model: a `Choice`. Raises UnknownNameError and ConfigError."""

    def learner(self, choice: Any) -> Any:
        """The `Learner` for a choice; loads the model."""

    def store(self, memory: str | None) -> Any:
        """The `Store` of an existing memory. Raises UnknownNameError."""

    def plain(self, data: Any) -> Any:
        """Convert dataclasses, tuples and paths to plain JSON values."""

    def percent(self, share: float | None) -> str | None:
        """A share in human-readable form."""

    def size(self, count: int) -> str:
        """A number of bytes in human-readable form."""

    def answer_notes(self, out: Any, answer: Any) -> None:
        """Write the notes of an answer to standard error."""


class MenuContext(Protocol):
    """What is passed to a menu entry. Everything an entry does is a command line that the user sees."""

    @property
    def prompts(self) -> Any:
        """Prompts at the terminal: ``text``, ``path``, ``number``, ``confirm``, ``select``, ``several``."""

    @property
    def memory(self) -> str:
        """The memory that the entries work with."""

    def memory_of(self, strategy: str) -> str:
        """The current memory if it was made with this strategy, else one named after the strategy."""

    def run(self, *arguments: object) -> int:
        """Show a command, run it as the shell would, and return its exit code."""

    def say(self, text: str) -> None:
        """Print a line for the user."""

    def config(self) -> Any:
        """All settings: a `Config`."""

    def options(self, strategy: str) -> dict[str, Any]:
        """All options of a strategy, with their values in the settings."""

    def model_for(self, strategy: str) -> str:
        """The model for a new memory of this strategy."""

    def learn(self, source: str, memory: str, *more: str, strategy: str | None = None, qa: str = "") -> int:
        """Run `learn` into a memory. ``strategy`` is for a memory that does not exist yet."""

    def ask_in_turn(self, memory: str, feedback: bool = False) -> None:
        """Ask a memory questions until an empty one is entered. ``feedback``: also ask for a rating of each answer."""

    def learn_then_ask(self, strategy: str) -> None:
        """Learn documents into a memory of this strategy, then ask questions with feedback."""


@dataclass(frozen=True)
class Command:
    """A command of the command line."""

    name: str
    """The name to call it by: ``nested``, or with its group ``ace show``."""
    run: Callable[..., None]
    """Its first parameter is the `CommandContext`; the rest are options and arguments that typer parses. Its
    docstring is the help text."""


@dataclass(frozen=True)
class Work:
    """What it takes to make something once for a base."""

    tokens: int
    """Tokens that the base would read in the same time, at its measured speed."""
    bytes: int
    """Bytes of what is made."""


@dataclass(frozen=True)
class Preparation:
    """Something that is made once for a base, by a `train` command, and found from then on.

    The functions are passed the base, and whether it is made ``quick``: in minutes, and less well.
    """

    name: str
    """What it is, in a word."""
    file: str
    """File or folder in which it is found, in the base's folder (`model.prepared`)."""
    serves: str
    """What it is for, in a few words."""
    ships: Callable[[Any], bool]
    """Whether one for this base ships with the package."""
    work: Callable[[Any, bool], Work]
    command: Callable[[bool, Path], Sequence[str]]
    """The command that makes the same in a folder, without the model: ``train reader --out FOLDER --set …``."""
    train: Callable[[Any, bool, Path, Any], Path]
    """Call what the command calls, in this folder of a run, with a `ProgressCallback` or None; an earlier run in it is
    resumed. Returns the file that was made, or the folder itself."""


@dataclass(frozen=True)
class MenuEntry:
    """One line of the menu."""

    group: str
    title: str
    help: str
    """One line that says what it does."""
    action: Callable[[MenuContext], None]
