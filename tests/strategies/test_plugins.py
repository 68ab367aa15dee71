"""A strategy that another installed package brings appears everywhere like our own."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from continual_learning.errors import ConfigError
from continual_learning.strategies.base import make_strategy, strategy_class, strategy_names

pytestmark = pytest.mark.slow

SUITE = Path(__file__).with_name("test_conformance.py")

STRATEGY = '''"""Repeats the question."""

from continual_learning.options import StrategyConfig
from continual_learning.strategies.base import Strategy, plain_report
from continual_learning.types import Answer


class ParrotConfig(StrategyConfig):
    """Settings of the parrot."""

    feathers: int = 7
    """How many it has."""


class Parrot(Strategy[ParrotConfig]):
    """Learns nothing."""

    summary = "repeats the question"
    Config = ParrotConfig
    role = "control"
    learns = False

    def learn(self, base, state, document, qa=(), progress=None):
        return state, plain_report(document, False, "a parrot learns no document")

    def affects(self, base, state, text):
        return True

    def answer(self, base, state, questions, max_new_tokens=64, on_token=None, history=()):
        said = [base.decode(base.encode(q)[:max_new_tokens]).strip() for q in questions]
        if on_token:
            on_token(said[0])
        return [Answer(q, text) for q, text in zip(questions, said, strict=True)]
'''
COMMANDS = '''from continual_learning.strategies.commands import Command, CommandContext, Json, MenuEntry


def count(cli: CommandContext, as_json: Json = False) -> None:
    """Count the feathers."""
    out = cli.output(as_json)
    out.result({"feathers": 7})
    out.line("7 feathers")


GROUPS = {"parrot": "The bird."}
COMMANDS = (Command("parrot count", count),)
MENU = (MenuEntry("Parrot", "Parrot Count", "its feathers", lambda menu: menu.run("parrot", "count")),)
'''
EVERYWHERE = """
import json, sys
from pathlib import Path
from fastapi.testclient import TestClient
from continual_learning.app.learner import Learner
from continual_learning.cli.main import main
from continual_learning.cli.menu.app import entries
from continual_learning.model.base_model import BaseModel
from continual_learning.server import create_app

model, here = sys.argv[1], Path(sys.argv[2])
(here / "jellies.txt").write_text("Comb jellies eat plankton.")
(here / "qa.jsonl").write_text(json.dumps({"question": "What do comb jellies eat?", "answer": "plankton"}))
assert main(["info", "--json"]) == 0
print("====")
assert main(["config", "show", "--defaults"]) == 0
print("====")
assert main(["parrot", "count", "--json"]) == 0
print("====")
given = ["--qa", str(here / "qa.jsonl"), "--strategies", "parrot,frozen", "--model", model, "--no-flops", "--json"]
assert main(["compare", str(here / "jellies.txt"), *given, "--report", str(here / "report.md")]) == 0
print("====")
print(json.dumps({group: [entry.title for entry in found] for group, found in entries()}))
print("====")
learner = Learner.open(BaseModel.load(model, device="cpu"), "parrot", "birds", home=here / "memories")
with TestClient(create_app(learner)) as client:
    print(json.dumps(client.post("/ask", json={"question": "Who lives here?", "max_new_tokens": 99}).json()))
"""


def install(folder: Path, package: str, points: str, **modules: str) -> Path:
    """A package as pip leaves it: modules, and a folder that says what it is."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    return folder


def install_parrot(folder: Path) -> Path:
    points = "[continual_learning.strategies]\nparrot = parrot_strategy:Parrot\n"
    points += "[continual_learning.commands]\nparrot = parrot_commands\n"
    return install(folder, "parrot-strategy", points, parrot_strategy=STRATEGY, parrot_commands=COMMANDS)


def run(arguments: list[str], folder: Path, home: Path) -> str:
    path = os.pathsep.join([str(folder), *(p for p in sys.path if p)])
    environment = {**os.environ, "PYTHONPATH": path, "CONTINUAL_LEARNING_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=home,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


def test_an_installed_strategy_is_everywhere(packages: Path, home: Path, tiny_llama_dir: Path) -> None:
    install_parrot(packages)
    said = run(["-c", EVERYWHERE, str(tiny_llama_dir), str(home)], packages, home).split("====\n")
    info, settings, count, compared, menu, asked = said
    assert "parrot" in json.loads(info)["strategies"]
    assert "feathers: 7" in settings and "How many it has." in settings
    assert json.loads(count) == {"feathers": 7}
    rows = {row["strategy"]: row for row in json.loads(compared)["results"]}
    assert set(rows) == {"parrot", "frozen"} and rows["parrot"]["role"] == "control"
    assert "parrot" in (home / "report.md").read_text()
    assert json.loads(menu)["Parrot"] == ["Parrot Count"]
    assert json.loads(asked)["answers"][0]["text"].startswith("Who lives here")


def test_the_conformance_suite_runs_on_it(packages: Path, home: Path) -> None:
    install_parrot(packages)
    options = [
        "-q",
        "-k",
        "parrot",
        "-m",
        "conformance",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        f"--rootdir={SUITE.parents[2]}",
    ]
    said = run(["-m", "pytest", str(SUITE), *options], packages, home)
    assert "passed" in said and "failed" not in said and "error" not in said


def test_no_strategy_is_called_auto(
    packages: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(packages, "automatic", "[continual_learning.strategies]\nauto = automatic\n", automatic=STRATEGY)
    monkeypatch.syspath_prepend(str(packages))
    with caplog.at_level(logging.WARNING, "continual_learning"):
        assert "auto" not in strategy_names()
    [message] = [record.getMessage() for record in caplog.records]
    assert "'automatic'" in message and "other than auto" in message


def test_a_name_that_is_taken_is_a_warning_that_names_the_package(
    packages: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(packages, "other-rag", "[continual_learning.strategies]\nrag = other_rag\n", other_rag=STRATEGY)
    monkeypatch.syspath_prepend(str(packages))
    with caplog.at_level(logging.WARNING, "continual_learning"):
        assert strategy_class("rag").__module__.startswith("continual_learning.")
    [message] = [record.getMessage() for record in caplog.records]
    assert "'rag'" in message and "'other-rag'" in message and "\n" not in message


@pytest.mark.parametrize(
    ("text", "problem"), [("import nothing_of_this_name", "ModuleNotFoundError"), ("", "exactly one Strategy")]
)
def test_a_broken_package_is_an_error_that_names_it(
    text: str, problem: str, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"broken_{len(text)}"
    points = f"[continual_learning.strategies]\nlame = {module}\n"
    install(packages, "lame-strategy", points, **{module: text})
    monkeypatch.syspath_prepend(str(packages))
    assert "lame" in strategy_names()
    with pytest.raises(ConfigError, match=f"package 'lame-strategy' cannot be used.*{problem}"):
        make_strategy("lame")
    assert strategy_class("frozen").name == "frozen"
