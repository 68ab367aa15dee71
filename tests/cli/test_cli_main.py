"""The entry: help, usage errors, what becomes of exceptions, pipes and signals."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from continual_learning import __version__
from continual_learning.cli import main as main_module
from continual_learning.errors import CorruptMemoryError, DocumentError, LearningError

GROUPS = {
    "benchmark": "squad stream forgetting needle conversation repository transfer",
    "memory": "list show history forget rollback clear delete export import cleanup new documents forgetting",
    "checkpoint": "save load list info compare export delete cleanup",
    "documents": "fetch show lists",
    "ace": "show save load diff edit undo learn ask",
    "feedback": "good bad correct list undo fade",
    "config": "show get set path",
    "model": "list pull info",
    "train": "start hypernetwork",
}
COMMANDS = [
    [],
    *([c] for c in ("learn", "ask", "chat", "nested", "compare", "info", "doctor", "serve", *GROUPS)),
    *([group, c] for group, names in GROUPS.items() for c in names.split()),
]
MAIN = [sys.executable, "-m", "continual_learning.cli.main"]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_json(cli: Any, command: list[str]) -> None:
    result = cli(*command, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: {' '.join(['continual-learning', *command])}")
    if command and not (len(command) == 1 and command[0] in GROUPS):
        assert "--json" in result.out


@pytest.mark.parametrize("command", [[group] for group in GROUPS], ids=" ".join)
def test_without_a_command_the_help_is_shown(cli: Any, command: list[str]) -> None:
    assert cli(*command) == cli(*command, "--help")


def test_no_command_is_missing_here() -> None:
    group: Any = __import__("typer").main.get_command(main_module.app)
    assert {" ".join(c) for c in COMMANDS if c} == {
        *group.commands,
        *(f"{name} {sub}" for name in GROUPS for sub in group.commands[name].commands),
    }


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from continual_learning.cli.main import main\n"
        "for c in sys.argv[1:]: assert main([*c.split(), '--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'yaml', 'platformdirs'} & set(sys.modules); assert not heavy, heavy"
    )
    command = [sys.executable, "-c", code, *map(" ".join, COMMANDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs the processor time of a child")
def test_help_is_quick() -> None:
    import resource

    def seconds() -> float:
        """Processor time of one call: unlike wall time, the same on a busy machine."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*MAIN, "learn", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


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


def test_an_encoding_that_lacks_a_character() -> None:
    code = "from continual_learning.cli.output import *; import sys; from continual_learning.cli import main as m\n"
    code += "m.main(['--version']); Output(False).line('naïve 日本'); print_json({'a': '日'})"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"na?ve ??" in done.stdout
    assert b'"\\u65e5"' in done.stdout
