"""The loop of `continual-learning nested`: lines in, commands and turns out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from continual_learning.errors import ContinualLearningError, InputError
from continual_learning.strategies.commands import CommandContext, CommandOutput

if TYPE_CHECKING:
    from continual_learning.types import LearnReport

HELP = """\
/learn FILE               learn a file or a folder
/undo                     take the last adaptation back, exactly; also /load and /reset
/why                      the turns that changed the weights most
/clear                    forget the conversation; the weights stay
/reset                    forget the conversation and the weights
/save [NAME]              save weights and conversation
/load NAME [--with-history]  saved weights, with the conversation if asked for
/list                     what was saved
/stats                    levels, what they wait for, sizes
/help                     this
/quit                     end (also Ctrl-D, or Ctrl-C twice)
A line that ends in \\ continues on the next one."""


class Repl:
    """One run of the loop over a session, a `NestedSession`: a conversation that learns."""

    def __init__(self, cli: CommandContext, out: CommandOutput, session: Any):
        self._cli = cli
        self._out = out
        self._session = session
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "/learn": self._learn,
            "/undo": self._undo,
            "/why": self._why,
            "/clear": self._clear,
            "/reset": self._reset,
            "/save": self._save,
            "/load": self._load,
            "/list": self._list,
            "/stats": self._stats,
            "/help": lambda _: out.line(HELP),
        }

    def run(self) -> list[Any]:
        """Read until the end of the input or /quit; return the turns."""
        interactive = sys.stdin.isatty()
        if interactive:
            self._out.note(f"{self._session.base.name}: what you say is learned; /help lists the commands")
        turns: list[Any] = []
        for text in joined(self._prompted() if interactive else (line.rstrip("\n") for line in sys.stdin)):
            if text in ("/quit", "/exit"):
                break
            if not text:
                continue
            try:
                if text.startswith("/"):
                    self._command(text)
                else:
                    turns.append(self._say(text))
            except ContinualLearningError as error:
                if not interactive:
                    raise
                self._out.note(f"error: {error}")
            except KeyboardInterrupt:
                if not interactive:
                    raise
                self._out.note("\nstopped; this turn is not kept")
        if not self._session.saved and self._session.state.meta.documents:
            self._out.note("what was learned is not saved; /save before /quit keeps it")
        return turns

    def _say(self, text: str) -> Any:
        turn = self._session.say(text, self._out.token if self._out.terminal else None)
        self._out.line("" if self._out.terminal else turn.answer.text)
        sys.stdout.flush()
        if turn.adaptation is not None:
            self._out.note(adaptation_line(turn.adaptation))
        warnings = turn.adaptation.warnings if turn.adaptation else ()
        for note in (*warnings, *turn.answer.notes, *turn.notes):
            self._out.note(note)
        return turn

    def _command(self, text: str) -> None:
        name, *words = text.split(maxsplit=1)
        if name not in self._commands:
            raise InputError(f"no command {name!r}; expected one of {', '.join([*self._commands, '/quit'])}")
        try:
            arguments = shlex.split(words[0]) if words else []
        except ValueError as error:
            raise InputError(f"{text!r}: {error}; close the quotation marks") from None
        self._commands[name](arguments)

    def _learn(self, arguments: list[str]) -> None:
        if len(arguments) != 1 or arguments == ["-"]:
            raise InputError(f"/learn {' '.join(arguments)}: expected one file or folder")
        with self._cli.progress_bar("learn") as progress:
            reports, skipped = self._session.learn_file(arguments[0], progress)
        for item in skipped:
            self._out.note(f"skipped {item.source}: {item.reason}")
        for report in reports:
            self._out.line(f"{report.title or report.document_id}: {report.tokens} tokens")
            for text in (adaptation_line(report), *report.warnings):
                self._out.note(text)

    def _undo(self, _: list[str]) -> None:
        if self._session.undo():
            self._out.line("the last change is taken back; what was said stays in the conversation until /clear")
        else:
            self._out.line("nothing to take back")

    def _why(self, _: list[str]) -> None:
        rows = self._session.why()
        if not rows:
            self._out.line("nothing learned yet")
            return
        columns = ("distance", "levels", "loss", "turn")
        self._out.table(
            columns,
            [
                (
                    f"{row['distance']:.3f}",
                    " ".join(map(str, row["levels"])) or "waiting",
                    f"{row['loss_before']:.2f} to {row['loss_after']:.2f}",
                    " ".join(row["text"].split())[:60],
                )
                for row in rows
            ],
        )

    def _clear(self, _: list[str]) -> None:
        self._session.clear()
        waiting = len(self._session.unlearned)
        self._out.line(
            "the conversation is forgotten; the weights stay"
            + (f"; messages still to be learned: {waiting}" if waiting else "")
        )

    def _reset(self, _: list[str]) -> None:
        self._session.reset()
        self._out.line("conversation and weights start over; /undo takes that back")

    def _save(self, arguments: list[str]) -> None:
        if len(arguments) > 1:
            raise InputError(f"/save with {len(arguments)} names; expected one, or none for the time")
        version = self._session.save(arguments[0] if arguments else None)
        self._out.line(f"saved as {version.checkpoints[-1]} ({self._cli.size(version.bytes)})")

    def _load(self, arguments: list[str]) -> None:
        names = [a for a in arguments if a != "--with-history"]
        if len(names) != 1 or names[0].startswith("-"):
            raise InputError(
                f"/load {' '.join(arguments)}: expected /load NAME [--with-history]; /list shows the names"
            )
        state = self._session.load(names[0], len(names) < len(arguments))
        self._out.line(f"loaded {names[0]}: {len(state.meta.documents)} turns learned, "
                       f"{len(self._session.history)} messages in the conversation")  # fmt: skip

    def _list(self, _: list[str]) -> None:
        found = self._session.store.checkpoints()
        if not found:
            self._out.line("nothing saved yet; /save NAME does")
            return
        rows = [(name, v.created_at, v.documents, self._cli.size(v.bytes)) for name, v in found.items()]
        self._out.table(("name", "saved", "turns learned", "size"), rows)

    def _stats(self, _: list[str]) -> None:
        facts: dict[str, Any] = self._session.stats()
        levels = facts.pop("levels")
        self._out.facts({**facts, "bytes": self._cli.size(facts["bytes"])})
        columns = ("level", "period", "optimizer", "parameters", "updates", "waiting_tokens")
        self._out.table(columns, [(i + 1, *(level[c] for c in columns[1:])) for i, level in enumerate(levels)])

    def _prompted(self) -> Iterator[str]:
        """Yield lines from a terminal, with history and completion."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import FileHistory

        from continual_learning.io.paths import data_home

        home = data_home()
        home.mkdir(parents=True, exist_ok=True)

        def words() -> list[str]:
            return [*self._commands, "/quit", "--with-history", *self._session.store.checkpoints()]

        prompt: PromptSession[str] = PromptSession(
            history=FileHistory(str(home / "nested_history")), completer=WordCompleter(words, WORD=True)
        )
        interrupted = False
        while True:
            try:
                yield prompt.prompt("> ")
                interrupted = False
            except KeyboardInterrupt:  # discards an unfinished line, as in a shell
                if not prompt.default_buffer.text:
                    if interrupted:
                        return
                    interrupted = True
                    self._out.note("Ctrl-C once more, or /quit, ends the chat")
            except EOFError:
                return


def joined(lines: Iterator[str]) -> Iterator[str]:
    """Yield lines, stripped; one that ends in a backslash continues on the next."""
    held: list[str] = []
    for line in lines:
        if line.endswith("\\"):
            held.append(line[:-1])
            continue
        yield "\n".join([*held, line]).strip()
        held = []
    if held:
        yield "\n".join(held).strip()


def adaptation_line(report: LearnReport) -> str:
    """Describe what adapted, the loss before and after, and the time."""
    verb = "adapted" if report.accepted else "not adapted"
    return f"{verb}: {report.reason} ({report.tokens} tokens, {report.seconds:.1f} s)"
