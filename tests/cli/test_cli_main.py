"""The entry: help, usage errors, what becomes of exceptions, pipes and signals."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from continual_learning import __version__
from continual_learning.cli import main as main_module
from continual_learning.errors import CorruptMemoryError, DocumentError, LearningError


def commands(command: Any, names: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """The words of a command and of all below it."""
    yield list(names)
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*names, name))


COMMANDS = list(commands(typer.main.get_command(main_module.app)))
GROUPS = {c[0] for c in COMMANDS if len(c) == 2}
MAIN = [sys.executable, "-m", "continual_learning.cli.main"]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_json(cli: Any, command: list[str]) -> None:
    result = cli(*command, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: {' '.join(['continual-learning', *command])}")
    if command and not (len(command) == 1 and command[0] in GROUPS):
        assert "--json" in result.out


@pytest.mark.parametrize("command", [[group] for group in sorted(GROUPS)], ids=" ".join)
def test_without_a_command_the_help_is_shown(cli: Any, command: list[str]) -> None:
    assert cli(*command) == cli(*command, "--help")


def test_the_documented_commands_are_there() -> None:
    documented = """learn, ask, chat, nested, compare, info, doctor, serve, feedback good, feedback bad, feedback
        correct, benchmark needle, memory list, memory show, memory history, memory forget, memory rollback,
        memory delete, memory export, memory import, checkpoint save, checkpoint load, checkpoint list,
        checkpoint info, checkpoint compare, checkpoint export, checkpoint cleanup, config show, config get,
        config set, config path, model list, model pull, model info, documents fetch, ace learn, train
        start, train hypernetwork"""
    assert {" ".join(c.split()) for c in documented.split(",")} <= {" ".join(c) for c in COMMANDS}


@pytest.mark.slow
def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from continual_learning.cli.main import main\n"
        "for c in sys.argv[1:]: assert main([*c.split(), '--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pydantic', 'yaml', 'platformdirs'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", code, *map(" ".join, COMMANDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


EACH_HELP = """
import os, sys, time
from continual_learning.cli.main import main
shared = time.process_time()  # Python's start and the imports: every command has them
for command in sys.argv[1:]:
    ours, its = os.pipe()
    if os.fork() == 0:  # as fresh as a new process; its processor time starts at 0
        sys.stdout = open(os.devnull, "w")
        assert main([*command.split(), "--help"]) == 0
        os.write(its, f"{shared + time.process_time()} {command}\\n".encode())
        os._exit(0)
    os.close(its)
    print(os.read(ours, 1000).decode(), end="")
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.slow
def test_every_help_takes_less_than_half_a_second() -> None:
    seconds: dict[str, float] = {}
    for _ in range(3):  # processor time: unlike wall time, nearly the same on a busy machine
        command = [sys.executable, "-c", EACH_HELP, *map(" ".join, COMMANDS)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines():
            found, _, name = line.partition(" ")
            seconds[name] = min(float(found), seconds.get(name, float(found)))
        if max(seconds.values()) < 0.5:
            break
    assert len(seconds) == len(COMMANDS)
    assert {name: s for name, s in seconds.items() if s >= 0.5} == {}


@pytest.mark.slow
def test_no_torch_where_there_is_no_memory() -> None:
    commands = (
        "memory list",
        "memory show",
        "memory history --json",
        "memory delete work --yes",
        "checkpoint list",
        "config show",
        "config set memory x",
        "ask hello",
    )
    code = (
        "import sys; from continual_learning.cli.main import main\n"
        "for c in sys.argv[1:]: main(c.split()); assert 'torch' not in sys.modules, c"
    )
    done = subprocess.run([sys.executable, "-c", code, *commands], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_version(cli: Any) -> None:
    assert cli("--version").out == f"continual-learning {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nope"], ["--nope", "continual-learning --help"]),
        (["lern"], ["'lern'", "learn"]),
        (["lern", "--help"], ["'lern'", "learn"]),
        (["learn"], ["PATH", "continual-learning learn --help"]),
        (["memory", "lst"], ["'lst'", "list", "continual-learning memory --help"]),
        (["ask", "q", "--max-new-tokens", "many"], ["--max-new-tokens", "many"]),
        (["ask", "q", "--max-new-tokens", "0"], ["--max-new-tokens", "0"]),
        (["ask", "q", "--memory"], ["--memory"]),
        (["ask", "q", "more"], ["more"]),
    ],
)
def test_usage_errors_are_one_line(cli: Any, arguments: list[str], words: list[str]) -> None:
    result = cli(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert result.err.startswith("error: ")
    assert all(word in result.err for word in words), result.err


def test_an_error_is_json_too(cli: Any) -> None:
    result = cli("memory", "show", "nowhere", "--json")
    assert result.code == 2
    error = result.json["error"]
    assert error["type"] == "UnknownNameError"
    assert error["exit_code"] == 2
    assert result.err == f"error: {error['message']}\n"
    assert cli("memory", "show", "--jsn", "--json").json["error"]["exit_code"] == 2


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make `memory list` raise."""

    def put(error: BaseException) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr("continual_learning.cli.session.memory_names", fail)

    return put


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DocumentError("bad\n  input"), 2, "error: bad input"),
        (LearningError("no luck"), 1, "error: no luck"),
        (CorruptMemoryError("broken"), 1, "error: broken"),
        (KeyboardInterrupt(), 130, "interrupted; the memory is as it was"),
        (KeyboardInterrupt("2 were kept"), 130, "interrupted; 2 were kept"),
        (ZeroDivisionError("by\nzero"), 1, "error: ZeroDivisionError: by zero; this was not expected"),
        (OSError(5, "Input/output error"), 1, "error: OSError: [Errno 5] Input/output error; this was not expected"),
        (EOFError(), 1, "error: EOFError: ; this was not expected"),
    ],
)
def test_exceptions(cli: Any, raising: Any, error: BaseException, code: int, line: str) -> None:
    raising(error)
    result = cli("memory", "list")
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith(line)
    assert result.err.count("\n") == 1
    assert ("--debug" in result.err) == ("not expected" in line)


@pytest.mark.parametrize("where", [0, 1, 2, None])
def test_debug_shows_the_traceback(cli: Any, raising: Any, monkeypatch: pytest.MonkeyPatch, where: int | None) -> None:
    raising(ZeroDivisionError("by zero"))
    arguments = ["memory", "list"]
    if where is None:
        monkeypatch.setenv("CONTINUAL_LEARNING_DEBUG", "1")
    else:
        arguments.insert(where, "--debug")
    result = cli(*arguments)
    assert result.code == 1
    assert "Traceback" in result.err and "in fail" in result.err


def test_control_characters_do_not_reach_the_terminal(cli: Any, raising: Any) -> None:
    raising(DocumentError("a\x1b[31mb\x07c\u0085"))
    assert cli("memory", "list").err == "error: a[31mbc\n"


@pytest.mark.skipif(os.name != "posix", reason="needs pipes that close")
def test_a_closed_pipe_is_quiet() -> None:
    process = subprocess.Popen([*MAIN, "config", "show"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()  # before anything is written: Python has not even started
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), error) == (141, b"")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize("command", ["memory list --json", "config get NO", "chat --memory none"])
@pytest.mark.slow
def test_standard_streams_that_are_closed(closed: str, command: str) -> None:
    line = f"{shlex.join(MAIN)} {command}"
    usual = subprocess.run(["sh", "-c", f"{line} </dev/null"], capture_output=True, text=True, check=False)
    done = subprocess.run(["sh", "-c", f"{line} </dev/null {closed}"], capture_output=True, text=True, check=False)
    assert done.returncode == usual.returncode
    assert done.stdout == ("" if ">&-" in closed.split() else usual.stdout)
    assert done.stderr == ("" if "2>&-" in closed.split() else usual.stderr)


def test_an_encoding_that_lacks_a_character() -> None:
    code = "from continual_learning.cli.output import *; import sys; from continual_learning.cli import main as m\n"
    code += "m.main(['--version']); Output(False).line('naïve 日本'); print_json({'a': '日'})"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"na?ve ??" in done.stdout
    assert b'"\\u65e5"' in done.stdout
