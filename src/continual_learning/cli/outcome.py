"""How an error is reported: the exit code and one line."""

from __future__ import annotations

import errno

import typer

from continual_learning.errors import ContinualLearningError

PROGRAM = "continual-learning"
INTERRUPTED = 130
"""128 plus the number of SIGINT, as shells report it."""


def outcome(error: BaseException) -> tuple[int, str]:
    """Exit code and one line for an error."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return INTERRUPTED, f"interrupted; {str(error) or 'the memory is as it was'}"
    if isinstance(error, ContinualLearningError):
        return error.exit_code, _one_line(error)
    if is_usage(error):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else PROGRAM
        text = " ".join(str(error.format_message()).split()).rstrip(".")  # type: ignore[attr-defined]
        return 2, f"{text}{_refused_value(error)}; see {command} --help"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return 2, f"{error.filename!r}: the name is longer than the file system allows; choose a shorter one"
    return 1, f"{type(error).__name__}: {_one_line(error)}; this was not expected: run with --debug for the traceback"


def is_usage(error: BaseException) -> bool:
    """Whether typer refused the command line itself."""
    # by its attributes, not by its class: typer has moved that class between versions
    return hasattr(error, "format_message")


def _refused_value(error: BaseException) -> str:
    """The value that typer refused, which its message leaves out where pydantic judged it."""
    details = getattr(error.__context__, "errors", None)
    return f", not {details()[0]['input']!r}" if callable(details) else ""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
