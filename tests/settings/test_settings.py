"""Settings: which one wins, what is refused and with which words, and how a file is edited."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from continual_learning.documents import Limits
from continual_learning.errors import ConfigError, StorageError
from continual_learning.options import StrategyConfig
from continual_learning.settings import aliases, edit
from continual_learning.settings import schema as config_module
from continual_learning.settings.edit import default_yaml, file_to_write, set_value
from continual_learning.settings.schema import (
    Config,
    NestedSettings,
    SpeakerSettings,
    check_file,
    config_files,
    core_keys,
    load_config,
    parse_assignments,
    strategy_names,
    user_file,
)
from continual_learning.strategies.base import strategy_class
from continual_learning.strategies.choosing import AutoConfig

DOCUMENTED_SECTIONS = ("model", "ttt", "alpha", "tfidf_gate", "ace", "doc2lora")
DEFAULT_FILE = Path(__file__).parents[2] / "configs" / "default.yaml"


class ToyConfig(StrategyConfig):
    """Options of a strategy that exists in these tests alone."""

    rate: float = pydantic.Field(0.1, gt=0)
    steps: int | None = None
    mode: str = "fast"
    sizes: tuple[int, ...] = (1, 2)
    low: int = 0
    high: int = 10

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> ToyConfig:
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, no variables, and a strategy called ``toy``."""
    for name in os.environ:
        if name.startswith("CONTINUAL_LEARNING_") and name != "CONTINUAL_LEARNING_HOME":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config_module, "strategy_names", lambda: ["frozen", "toy"])
    monkeypatch.setattr(edit, "strategy_names", lambda: ["frozen", "toy"])

    def find(name: str) -> Any:
        return type("Toy", (), {"Config": ToyConfig, "summary": "a toy"}) if name == "toy" else strategy_class(name)

    monkeypatch.setattr("continual_learning.strategies.base.strategy_class", find)
    monkeypatch.setattr(aliases, "STRATEGY_SECTIONS", ("toy", "ace"))
    monkeypatch.setattr(
        aliases,
        "RENAMED",
        {"model.speed": "strategies.toy.rate", "gate.low": "strategies.toy.low", "gate.x": "strategies.ace.x"},
    )
    return tmp_path


def local(text: str) -> Path:
    path = Path("continual-learning.yaml").absolute()
    path.write_text(text, "utf-8")
    return path


def user(text: str) -> Path:
    path = user_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def refusal(text: str) -> str:
    local(text)
    with pytest.raises(ConfigError) as caught:
        load_config()
    message = str(caught.value)
    assert "\n" not in message
    return message


def values(config: Config) -> dict[str, tuple[Any, str]]:
    return {s.key: (s.value, s.origin) for s in config.items()}


GROUPS = {
    f"{section}.{key}": (value, "default")
    for section, kind in (("auto", AutoConfig), ("nested", NestedSettings), ("speaker", SpeakerSettings))
    for key, value in kind().model_dump().items()
}


def test_defaults_and_keys() -> None:
    assert values(load_config()) == {
        **GROUPS,
        "model.name": ("smollm2-135m", "default"),
        "model.device": ("auto", "default"),
        "model.dtype": ("auto", "default"),
        "model.precision": ("full", "default"),
        "model.frozen_weights": ("full", "default"),
        "strategy": ("ttt", "default"),
        "memory": ("default", "default"),
        "max_new_tokens": (64, "default"),
        **{f"documents.{key}": (value, "default") for key, value in Limits().model_dump().items()},
    }
    assert core_keys() == list(values(load_config()))


def test_a_group_of_settings_is_read_from_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    local("nested:\n  context_window: 2\n")
    monkeypatch.setenv("CONTINUAL_LEARNING_NESTED__ADAPT_USER_ONLY", "false")
    settings = load_config(variables={"nested.auto_save_every_n": ("3", "NL_X")}).settings.nested
    assert (settings.context_window, settings.adapt_user_only, settings.auto_save_every_n) == (2, False, 3)
    with pytest.raises(ConfigError, match="variable NL_X"):
        load_config(variables={"nested.auto_save_every_n": ("few", "NL_X")})


def test_each_layer_wins_over_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    weakest = user("memory: user\nmodel:\n  name: user\n  dtype: float32\nstrategies:\n  toy: {rate: 0.5, steps: 3}\n")
    stronger = local("model:\n  name: local\nstrategy: toy\nstrategies:\n  toy:\n    rate: 1e-3\n")
    monkeypatch.setenv("CONTINUAL_LEARNING_MAX_NEW_TOKENS", "7")
    monkeypatch.setenv("CONTINUAL_LEARNING_STRATEGIES__TOY__MODE", "slow")
    config = load_config({"max_new_tokens": 8, "model.device": None})
    assert values(config) == {
        **GROUPS,
        "model.name": ("local", f"{stronger}, line 2"),
        "model.device": ("auto", "default"),
        "model.dtype": ("float32", f"{weakest}, line 4"),
        "model.precision": ("full", "default"),
        "model.frozen_weights": ("full", "default"),
        "strategy": ("toy", f"{stronger}, line 3"),
        "memory": ("user", f"{weakest}, line 1"),
        "max_new_tokens": (8, "--max-new-tokens"),
        **{f"documents.{key}": (value, "default") for key, value in Limits().model_dump().items()},
        "strategies.toy.rate": (0.001, f"{stronger}, line 6"),
        "strategies.toy.steps": (3, f"{weakest}, line 6"),
        "strategies.toy.mode": ("slow", "variable CONTINUAL_LEARNING_STRATEGIES__TOY__MODE"),
    }
    assert config_files() == [weakest, stronger]


def test_flags_win_over_settings_for_options() -> None:
    local("strategies: {toy: {rate: 0.5, mode: slow}}")
    options = load_config().strategy_options("toy", {"rate": "2", "sizes": "[3, 4]", "steps": "null"})
    assert options == {"rate": 2, "mode": "slow", "sizes": [3, 4], "steps": None}
    assert load_config().strategy_options("frozen") == {}


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [("MEMORY", "2024", "2024"), ("MEMORY", "null", "null"), ("MODEL__NAME", "on", "on"), ("MEMORY", "", "default")],
)
def test_variables_are_read_as_the_setting_needs(variable: str, text: str, expected: str) -> None:
    settings = load_config(environ={f"CONTINUAL_LEARNING_{variable}": text}).settings
    assert expected in (settings.memory, settings.model.name)


def test_variables_of_other_kinds_are_left_alone() -> None:
    assert not load_config(
        environ={"CONTINUAL_LEARNING_HOME": "x", "CONTINUAL_LEARNING_DEBUG": "1", "HOME": "y"}
    ).origins


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("MEMROY", "x", ["'memroy'", "did you mean 'memory'"]),
        ("MODEL__NAEM", "x", ["'model.naem'", "did you mean 'name'"]),
        ("MODEL", "x", ["names a section", "MODEL__NAME"]),
        ("DOCUMENTS", "x", ["names a section", "DOCUMENTS__"]),
        ("TOY", "x", ["names a section", "TOY__"]),
        ("DOCUMENTS__MAX_BYTE", "1", ["'documents.max_byte'", "did you mean 'max_bytes'"]),
        ("STRATEGIES__TOY", "x", ["names a section"]),
        ("STRATEGIES__TOI__RATE", "1", ["'strategies.toi'", "did you mean 'toy'"]),
        ("MAX_NEW_TOKENS", "0", ["max_new_tokens = 0", "greater than or equal to 1"]),
        ("MAX_NEW_TOKENS", "true", ["'true'", "integer"]),
        ("MAX_NEW_TOKENS", "a: b: c", ["integer"]),
        ("MODEL__DEVICE", "gpu", ["'gpu'", "cuda"]),
        ("STRATEGY", "tooy", ["'tooy'", "did you mean 'toy'"]),
    ],
)
def test_a_wrong_variable_is_named(variable: str, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ={f"CONTINUAL_LEARNING_{variable}": text})
    message = str(caught.value)
    assert all(word in message for word in [f"CONTINUAL_LEARNING_{variable}", *words]), message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memory: a\nmodle:\n  name: x\n", ["line 2", "'modle'", "did you mean 'model'"]),
        ("model:\n  name: x\n  nmae: y\n", ["line 3", "'model.nmae'", "did you mean 'name'"]),
        ("strategies:\n  tooy:\n    rate: 1\n", ["line 2", "'strategies.tooy'", "did you mean 'toy'"]),
        ("memory: a\nmemory: b\n", ["line 2", "second time"]),
        ("memory: 3\n", ["line 1", "memory = 3", "string"]),
        ("\nstrategy: tooy\n", ["line 2", "'tooy'", "did you mean 'toy'"]),
        ("model: smollm2\n", ["line 1", "model is 'smollm2'", "expected"]),
        ("model:\n  dtype: float64\n", ["line 2", "'float64'", "float32"]),
        ("- a\n", ["line 1", "expected"]),
        ("just words", ["expected"]),
        ("a: b: c\n", ["line 1", "not YAML"]),
        ("memory: 'open\n", ["not YAML"]),
        ("memory: \x07\n", ["not YAML"]),
        ("memory: 2001-13-01\n", ["not YAML", "month"]),
        ("[" * 500, ["not YAML"]),
        ("1: x\n", ["line 1", "'1'"]),
        ("model: &x {name: *x}\n", ["continual-learning.yaml"]),
    ],
)
def test_a_wrong_file_names_the_line(text: str, words: list[str]) -> None:
    message = refusal(text)
    assert all(word in message for word in ["continual-learning.yaml", *words]), message


def test_empty_files_and_sections_are_fine() -> None:
    local("# nothing yet\nmodel:\nstrategies:\n  toy:\n")
    user("")
    assert not load_config().origins


def test_files_that_cannot_be_read(folder: Path) -> None:
    local("").write_bytes(b"memory: \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config()
    local("").unlink()
    (folder / "continual-learning.yaml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config()


@pytest.mark.parametrize(
    ("text", "flags", "words"),
    [
        ("strategies:\n  toy:\n    raet: 1\n", {}, ["line 3", "'raet'", "did you mean 'rate'"]),
        ("strategies:\n  toy:\n    mode: a\n    rate: -1\n", {}, ["line 4", "rate = -1", "greater than 0"]),
        ("", {"rate": "abc"}, ["--set rate=abc", "'abc'", "number"]),
        ("", {"stepz": "1"}, ["--set stepz=1", "did you mean 'steps'"]),
        ("", {"low": "3", "high": "2"}, ["'toy'", "low must not be above high"]),
    ],
)
def test_a_wrong_option_names_where_it_stands(text: str, flags: dict[str, str], words: list[str]) -> None:
    local(text)
    config = load_config()
    with pytest.raises(ConfigError) as caught:
        config.strategy_options("toy", flags)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_assignments() -> None:
    assert parse_assignments(["a=1", " b = x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for text in ("a", "=1", ""):
        with pytest.raises(ConfigError, match="KEY=VALUE"):
            parse_assignments([text])


def test_documented_names_are_names_of_the_same_settings() -> None:
    path = local("model: {speed: 0.5, name: x}\ntoy:\n  steps: 3\ngate:\n  low: 2\n")
    found = load_config(environ={"CONTINUAL_LEARNING_TOY__MODE": "slow", "CONTINUAL_LEARNING_GATE__LOW": "4"})
    assert values(found) == {
        **values(load_config()),
        "strategies.toy.rate": (0.5, f"{path}, line 1"),
        "strategies.toy.steps": (3, f"{path}, line 3"),
        "strategies.toy.mode": ("slow", "variable CONTINUAL_LEARNING_TOY__MODE"),
        "strategies.toy.low": (4, "variable CONTINUAL_LEARNING_GATE__LOW"),
    }
    assert config_module.canonical("model.speed") == "strategies.toy.rate"
    assert config_module.canonical("ace.x") == "ace.x", "there is no such strategy"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("toy: {rate: 1}\nmodel: {speed: 2}\n", ["line 2", "model.speed is set already", "line 1"]),
        ("strategies: {toy: {low: 1}}\ngate: {low: 1}\n", ["line 2", "gate.low", "set already"]),
        ("gate:\n  lwo: 1\n", ["line 2", "'gate.lwo'", "did you mean 'low'"]),
        ("ace: {x: 1}\n", ["line 1", "'ace'"]),
        ("gate: 3\n", ["line 1", "gate is 3"]),
        ("documents:\n  max_bytes: many\n", ["line 2", "documents.max_bytes = 'many'", "integer"]),
        ("documents: {timeout: 0}\n", ["line 1", "documents.timeout = 0", "greater than 0"]),
        ("documents: {pasue: 0}\n", ["line 1", "did you mean 'pause'"]),
    ],
)
def test_wrong_documented_names(text: str, words: list[str]) -> None:
    message = refusal(text)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(("key", "line"), [("model.speed", 4), ("strategies.toy.rate", 4), ("toy.rate", 4)])
def test_a_wrong_type_under_a_documented_name_names_its_line(key: str, line: int) -> None:
    local(f"# one\nmemory: x\nmodel:\n  speed: fast # {key}\n")
    with pytest.raises(ConfigError, match=rf"line {line}: .*rate = 'fast'"):
        load_config().strategy_options("toy")


@pytest.mark.parametrize("key", ["model.speed", "strategies.toy.rate", "toy.rate"])
@pytest.mark.parametrize(
    "before",
    ["model:\n  speed: 0.1 # why\n", "toy:\n  rate: 0.1 # why\n", "strategies:\n  toy:\n    rate: 0.1 # why\n"],
)
def test_set_changes_the_name_that_stands_in_the_file(before: str, key: str) -> None:
    path = local(before)
    set_value(key, "0.7", path)
    assert path.read_text() == before.replace("0.1", "0.7")
    set_value("gate.low", "3", local(""))
    assert path.read_text() == "gate:\n  low: 3\n"


@pytest.mark.parametrize(
    ("before", "key", "text", "after"),
    [
        ("", "memory", "work", "memory: work\n"),
        ("# mine\n", "model.name", "a", "# mine\nmodel:\n  name: a\n"),
        ("memory: old # keep\nstrategy: toy\n", "memory", "new", "memory: new # keep\nstrategy: toy\n"),
        ("model:\n  # why\n  name: a\n", "model.dtype", "float32", "model:\n  # why\n  dtype: float32\n  name: a\n"),
        ("model: {name: a} # x\n", "model.dtype", "float32", "model: {name: a, dtype: float32} # x\n"),
        ("strategies: # none\n", "strategies.toy.rate", "1e-3", "strategies: # none\n  toy:\n    rate: 0.001\n"),
        ("memory: w", "max_new_tokens", "9", "memory: w\nmax_new_tokens: 9\n"),
        ("memory:\n", "memory", "w", None),
        ("strategies:\n  toy:\n    sizes:\n    - 1\n    - 2\n    rate: 1\n", "strategies.toy.sizes", "[5]", None),
        ('memory: "a\n  b"\n', "memory", "null", None),
        ("model:\n    name: a\n", "model.dtype", "float32", "model:\n    dtype: float32\n    name: a\n"),
        ("memory: on-call\n", "memory", "on", "memory: 'on'\n"),
        (
            "model:\n  name: a\n\n# B\nmemory: w\n",
            "model.dtype",
            "auto",
            "model:\n  dtype: auto\n  name: a\n\n# B\nmemory: w\n",
        ),
        (
            "strategies:\n  toy:\n    sizes: # some\n      - 1 # one\n      - 2\n    # about rate\n    rate: 1.50e-1\n",
            "strategies.toy.sizes",
            "[5]",
            "strategies:\n  toy:\n    sizes: [5]\n    # about rate\n    rate: 1.50e-1\n",
        ),
    ],
)
def test_set_keeps_the_rest_of_the_file(before: str, key: str, text: str, after: str | None) -> None:
    path = local(before)
    set_value(key, text, path)
    if after is not None:
        assert path.read_text() == after
    found = {s.key: s.value for s in load_config().items(strategies=True)}
    assert str(found[key]) == {"1e-3": "0.001"}.get(text, text)
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing is left beside it"


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("memroy", "x", ["'memroy'", "did you mean 'memory'"]),
        ("model", "x", ["model"]),
        ("model.naem", "x", ["did you mean 'name'"]),
        ("max_new_tokens", "0", ["0", "greater"]),
        ("strategy", "tooy", ["did you mean 'toy'"]),
        ("strategies.toy.raet", "1", ["did you mean 'rate'"]),
        ("strategies.toy.rate", "0", ["rate = 0", "greater than 0"]),
        ("strategies.tooy.rate", "1", ["did you mean 'toy'"]),
        ("strategies.toy", "1", ["strategies.toy"]),
        ("strategies", "1", ["strategies"]),
        ("", "1", ["setting"]),
        ("model.name.x", "1", ["model.name"]),
    ],
)
def test_set_refuses_and_leaves_the_file(key: str, text: str, words: list[str]) -> None:
    path = local("memory: mine # yes\n")
    with pytest.raises(ConfigError) as caught:
        set_value(key, text, path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert path.read_text() == "memory: mine # yes\n"


def test_set_changes_one_line_of_the_documented_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    before = (Path(__file__).parents[1] / "fixtures" / "documented-settings.yaml").read_text("utf-8")
    path = local(before)
    set_value("ttt.learning_rate", "2e-2", path)
    changed = "  learning_rate: 0.02          # Adam learning rate for TTT-E2E"
    assert path.read_text("utf-8").splitlines() == [
        changed if line.startswith("  learning_rate") else line for line in before.splitlines()
    ]


def test_set_refuses_what_would_change_elsewhere_too() -> None:
    text = "documents: &x {max_pages: 3}\ntoy: {steps: 1}\nnested: {context_window: 1}\n"
    path = local(text.replace("{context_window: 1}", "*x").replace("documents: &x {max_pages: 3}", "documents: &x {}"))
    before = path.read_text()
    with pytest.raises(ConfigError, match="edit the file by hand"):
        set_value("documents.max_pages", "5", path)
    assert path.read_text() == before


def test_set_does_not_touch_a_file_that_is_wrong_already() -> None:
    path = local("modle: x\n")
    with pytest.raises(ConfigError, match="line 1"):
        set_value("memory", "w", path)
    assert path.read_text() == "modle: x\n"


def test_set_chooses_the_file() -> None:
    assert file_to_write() == user_file()
    set_value("memory", "mine")
    assert user_file().read_text() == "memory: mine\n"
    path = local("")
    assert file_to_write() == path


def test_set_that_cannot_write_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    path = local("memory: mine\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        set_value("memory", "new", path)
    assert path.read_text() == "memory: mine\n"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_shipped_file_documents_every_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    text = DEFAULT_FILE.read_text("utf-8")
    remedy = "run `continual-learning config show --defaults > configs/default.yaml`"
    assert text == default_yaml(), remedy
    sections = list(yaml.safe_load(text))
    assert [s for s in sections if s in DOCUMENTED_SECTIONS] == [s for s in DOCUMENTED_SECTIONS if s in sections]
    assert {"model", "ttt", "alpha", "tfidf_gate", "doc2lora"} <= set(sections)
    found, defaults = check_file(text, DEFAULT_FILE), load_config(environ={}, folder=Path("/nonexistent"))
    without = {"strategies"}
    assert found.settings.model_dump(exclude=without) == defaults.settings.model_dump(exclude=without)
    for name in strategy_names():
        options = strategy_class(name).Config().model_dump(mode="json")
        assert found.settings.strategies.get(name, {}) == options, name
        assert all(found.explicit(f"strategies.{name}.{option}") for option in options)
    given = {s.key for s in found.items() if s.value is not None}  # null is the default
    assert all(found.explicit(key) for key in core_keys() if key in given)


def test_every_default_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    lines = DEFAULT_FILE.read_text("utf-8").splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"\s*\w+: |  \w", line):
            assert above.lstrip().startswith("#"), f"{line.strip()} has no description: give the field a docstring"


def test_reading_settings_needs_no_torch() -> None:
    code = "import sys, continual_learning.settings.schema as c; c.load_config(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
