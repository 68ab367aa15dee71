"""Entry point of the command line: the commands, and how their errors are reported."""

from __future__ import annotations

import gc
import logging
import os
import sys
import traceback
from typing import Annotated, Any

import typer
import typer.core

from continual_learning import __version__
from continual_learning.cli import (
    ask,
    benchmark,
    chat,
    checkpoint,
    compare,
    config,
    doctor,
    documents,
    feedback,
    info,
    learn,
    memory,
    memory_new,
    memory_report,
    model,
    model_prepare,
    serve,
    strategy_commands,
    train,
)
from continual_learning.cli.outcome import INTERRUPTED, PROGRAM, is_usage, outcome
from continual_learning.cli.output import note, open_standard_streams, print_json

PIPE_CLOSED = 141
"""128 plus the number of SIGPIPE: the reader of standard output has closed it."""
HELP = ["--help", "-h"]


class _PassedOn(Exception):
    """Carries an exception past typer, which handles some by itself."""

    def __init__(self, error: BaseException):
        super().__init__(str(error))
        self.error = error


class _Group(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, OSError, EOFError) as error:
            raise _PassedOn(error) from error


app = typer.Typer(
    cls=_Group,
    name=PROGRAM,
    help="A small language model that reads your documents, keeps what it read, and answers from it.",
    epilog="Without a command: the menu. Settings: `continual-learning config show`. "
    "Something wrong: `continual-learning doctor`.",
    no_args_is_help=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": HELP},
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (also CONTINUAL_LEARNING_DEBUG=1).")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        from continual_learning.cli.menu import run_menu

        raise typer.Exit(run_menu(main))


app.command("learn")(learn.learn)
app.command("ask")(ask.ask)
app.command("chat")(chat.chat)
app.add_typer(feedback.app, name="feedback")
app.command("compare")(compare.compare)
app.add_typer(benchmark.app, name="benchmark")
memory.app.command("new")(memory_new.new)
memory.app.command("documents")(memory_report.documents)
memory.app.command("forgetting")(memory_report.forgetting)
app.add_typer(memory.app, name="memory")
app.add_typer(checkpoint.app, name="checkpoint")
app.add_typer(documents.app, name="documents")
app.add_typer(config.app, name="config")
model.app.command("prepare")(model_prepare.prepare)
app.add_typer(model.app, name="model")
app.add_typer(train.app, name="train")
app.command("info")(info.info)
app.command("doctor")(doctor.doctor)
app.command("serve")(serve.serve)
strategy_commands.mount(app, {"train": train.app})


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 bad input, 1 failure, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Imports make half a million objects and no garbage: looking for some takes a tenth of a cold start.
    gc.set_threshold(100_000, 50, 50)
    open_standard_streams()
    # Accepted anywhere, so that it can be appended to the command that has just failed.
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in options or os.environ.get("CONTINUAL_LEARNING_DEBUG", "") not in ("", "0")
    arguments = [a for a in options if a != "--debug"] + arguments[len(options) :]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # an answer may hold characters that the terminal's encoding lacks
            stream.reconfigure(errors="replace")
    _show_log(debug)
    try:
        if arguments and arguments[-1] in HELP and (text := _help_of(arguments[:-1])) is not None:
            print(text, flush=True)
            return 0
        code = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BaseException as raised:
        error = raised.error if isinstance(raised, _PassedOn) else raised
        if isinstance(error, BrokenPipeError):
            # Python flushes standard output once more on leaving, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        if isinstance(error, SystemExit):
            raise
        if debug and not is_usage(error):
            traceback.print_exception(error)
        code, message = outcome(error)
        note(f"{'' if code == INTERRUPTED else 'error: '}{message}")
        if "--json" in options:
            print_json({"error": {"type": type(error).__name__, "message": message, "exit_code": code}})
        return code


class _NoteHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(f"{'' if record.levelno == logging.INFO else record.levelname.lower() + ': '}{record.getMessage()}")


def _help_of(names: list[str]) -> str | None:
    """The help of a command; None if the words name no command. Typer's own way imports pydantic, which takes 0.2 s."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command, info_name=PROGRAM, **command.context_settings)
    for name in names:
        command = getattr(command, "commands", {}).get(name)
        if command is None:
            return None
        context = typer.Context(command, parent=context, info_name=name, **command.context_settings)
    return str(command.get_help(context))


def _show_log(debug: bool) -> None:
    """Send the package's log, such as the note that a model's first use takes a while, to standard error."""
    logger = logging.getLogger("continual_learning")
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    # by name: run as a program, this module is there twice
    if not any(type(handler).__name__ == _NoteHandler.__name__ for handler in logger.handlers):
        logger.addHandler(_NoteHandler())


if __name__ == "__main__":
    sys.exit(main())
