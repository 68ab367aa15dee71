"""The documented settings file, word for word: it loads, and each key does what its comment says."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypernetworks import base_adapter_network

from continual_learning.app.learner import Learner
from continual_learning.cli.session import choose
from continual_learning.doc2lora import save_hypernetwork
from continual_learning.documents import Document
from continual_learning.errors import ConfigError
from continual_learning.model.base_model import BaseModel
from continual_learning.settings.schema import Config, canonical, load_config, strategy_names
from continual_learning.strategies.base import make_strategy, strategy_class
from continual_learning.strategies.methods.ace import ACE
from continual_learning.strategies.methods.doc2lora import Doc2LoRAConfig
from continual_learning.strategies.methods.ttt import TTT
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.weak_settings import weak_settings

FILE = Path(__file__).parent.parent / "fixtures" / "documented-settings.yaml"
TEXT = Document("The quick brown fox has seven cats and lives in the old harbour of Lund.", "Fox")


@pytest.fixture(autouse=True)
def _documented_file(cli: Any) -> None:
    """The working folder of ``cli`` has the documented file as its settings."""
    shutil.copy(FILE, "continual-learning.yaml")


@pytest.fixture
def config() -> Config:
    return load_config(environ={})


def given() -> dict[str, Any]:
    sections = yaml.safe_load(FILE.read_text("utf-8"))
    return {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}


def edit(**changes: str) -> None:
    """Replace the values of keys in the working folder's file."""
    text = FILE.read_text("utf-8")
    for key, value in changes.items():
        text, count = re.subn(rf"(\b{key}: +)\S+", rf"\g<1>{value}", text)
        assert count == 1, key
    Path("continual-learning.yaml").write_text(text, "utf-8")


def test_every_key_is_a_setting_with_its_line(config: Config) -> None:
    found = {setting.key: setting for setting in config.items()}
    lines = FILE.read_text("utf-8").splitlines()
    for key, value in given().items():
        setting = found[canonical(key)]
        assert setting.value == value, key
        number = int(setting.origin.rpartition("line ")[2])
        assert lines[number - 1].strip().startswith(f"{key.partition('.')[2]}:")
    assert len(given()) == 24


def test_config_show_names_every_key(cli: Any) -> None:
    shown = cli("config", "show", "--json")
    settings = {row["key"]: row for row in shown.json["settings"]}
    assert shown.code == 0 and all(settings[canonical(key)]["value"] == value for key, value in given().items())
    assert settings["strategies.ace.backend"]["value"] == "ollama"
    assert settings["strategies.ace.backend"]["origin"] == "implied by the options that are set"
    assert cli("config", "get", "doc2lora.checkpoint").out == "SakanaAI/doc-to-lora\n"


def test_the_model_and_the_blocks_that_are_modified(config: Config) -> None:
    assert config.model_for("ttt") == "Qwen/Qwen2.5-1.5B" and config.settings.model.device == "auto"
    ttt = make_strategy("ttt", config.strategy_options("ttt")).config
    assert (ttt.first_block, ttt.last_block) == (21, 28)


def test_alpha_is_frozen_at_first_and_falls_with_every_step_to_its_floor(config: Config) -> None:
    ttt = make_strategy("ttt", config.strategy_options("ttt")).config
    assert (ttt.alpha(0), ttt.alpha(1), ttt.alpha(50), ttt.alpha(1000)) == (1.0, 0.99, 0.5, 0.3)


@pytest.mark.slow
def test_learning_with_the_documented_values_warns_with_values_that_work(
    tiny_base: BaseModel, config: Config, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**config.strategy_options("ttt"), "first_block": 2, "last_block": 4, "guard": False}
    strategy = make_strategy("ttt", options)
    assert isinstance(strategy, TTT)
    _, report = strategy.learn(tiny_base, strategy.init(tiny_base), TEXT)
    expected = (
        "ttt.learning_rate 1e-05 teaches next to nothing; on the embedded model these work: "
        "ttt.learning_rate 0.3 to 1.9"
    )
    assert report.accepted and report.warnings.count(expected) == 1
    monkeypatch.setattr("continual_learning.model.base_model.BaseModel.load", lambda *_: tiny_base)
    edit(modified_layers_start="2", modified_layers_end="4")
    Path("fox.txt").write_text(TEXT.text)
    learned = cli("learn", "fox.txt", "--set", "guard=false")
    assert [line for line in learned.err.splitlines() if "next to nothing" in line] == [f"warning: fox: {expected}"]


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({}, None),
        ({"learning_rate": 0.2}, None),
        ({"learning_rate": 0.1}, "ttt.learning_rate 0.1 teaches"),
        ({"alpha_initial": 0.97}, None),
    ],
)
def test_only_values_that_teach_next_to_nothing_are_warned_of(options: dict[str, float], warned: str | None) -> None:
    ttt = make_strategy("ttt", options).config
    assert isinstance(ttt, TTTConfig)
    found = weak_settings(ttt)
    assert len(found) == (warned is not None) and all(text.startswith(str(warned)) for text in found)


def test_an_ollama_model_that_is_named_plays_the_roles(config: Config) -> None:
    strategy = make_strategy("ace", config.strategy_options("ace"))
    assert isinstance(strategy, ACE)
    assert strategy.config.backend == "ollama" and strategy.chat_model().name == "qwen3.5:9b"
    assert (strategy.config.host, strategy.config.loops, strategy.config.max_strategies) == (
        "http://localhost:11434",
        3,
        50,
    )


@pytest.mark.parametrize(
    ("options", "backend"),
    [
        ({}, "base"),
        ({"host": "http://localhost:1"}, "base"),
        ({"server_model": "x"}, "ollama"),
        ({"server_model": "x", "base_url": "http://localhost:1/v1"}, "openai"),
        ({"server_model": "x", "backend": "base"}, "base"),
    ],
)
def test_which_backend_is_chosen(options: dict[str, str], backend: str) -> None:
    assert make_strategy("ace", options).config.backend == backend


def test_playbooks_are_saved_in_their_folder(cli: Any, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(playbook_dir="playbooks\\n  backend: base")
    monkeypatch.setattr("continual_learning.model.base_model.BaseModel.load", lambda *_: tiny_base)
    Path("fox.txt").write_text(TEXT.text)
    assert cli("learn", "fox.txt", "--strategy", "ace", "--memory", "work").code == 0
    assert cli("ace", "edit", "--text", "Answer in few words.", "-m", "work").code == 0
    assert cli("ace", "save", "book.json", "-m", "work").code == 0
    assert cli("ace", "save", "elsewhere.json", "-m", "work").code == 0
    assert sorted(p.name for p in Path("playbooks").iterdir()) == ["book.json", "elsewhere.json"]
    assert cli("ace", "load", "book.json", "-m", "other").code == 0
    assert cli("ace", "diff", "book.json", "-m", "work").out == "no difference\n"
    here = Path("here.json").absolute()
    assert cli("ace", "save", here, "-m", "work").code == 0 and here.exists()


def test_the_base_of_doc2lora_is_its_own(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(strategy="doc2lora", must_exist=False).model == "google/gemma-2-2b-it"
    assert choose(strategy="doc2lora", model="x", must_exist=False).model == "x"
    assert choose(strategy="frozen", must_exist=False).model == "Qwen/Qwen2.5-1.5B"
    loaded: list[str] = []

    def load(name: str, *_: Any) -> BaseModel:
        loaded.append(name)
        raise ConfigError("enough")

    monkeypatch.setattr("continual_learning.app.learner.BaseModel.load", load)
    for model in (None, "x"):
        with pytest.raises(ConfigError, match="enough"):
            Learner.open(model, "doc2lora", **config.strategy_options("doc2lora"))
    assert loaded == ["google/gemma-2-2b-it", "x"]


def test_the_hypernetwork_its_rank_and_the_chunks(config: Config, tiny_base: BaseModel, tmp_path: Path) -> None:
    options = config.strategy_options("doc2lora")
    doc2lora = Doc2LoRAConfig(**options)
    assert (doc2lora.mode, doc2lora.hypernetwork, doc2lora.chunk_tokens) == ("doc", "SakanaAI/doc-to-lora", 1024)
    save_hypernetwork(base_adapter_network(tiny_base), tmp_path / "network")
    mine = {**options, "hypernetwork": str(tmp_path / "network"), "guard": False}
    strategy = make_strategy("doc2lora", mine)
    with pytest.raises(ConfigError) as caught:
        strategy.learn(tiny_base, strategy.init(tiny_base), TEXT)
    rank = base_adapter_network(tiny_base).config.rank
    assert rank != 8 and str(caught.value).startswith("lora_rank = 8, and hypernetwork ")
    assert str(caught.value).endswith(f"gives each chunk rank {rank}; set lora_rank to {rank}, or leave it out")
    strategy = make_strategy("doc2lora", {**mine, "lora_rank": rank})
    assert strategy.learn(tiny_base, strategy.init(tiny_base), TEXT)[1].accepted


def test_simulated_is_a_mode_without_downloads(tiny_base: BaseModel) -> None:
    edit(simulated="true")
    ranks = []
    for size in (8, 2):
        options = {**load_config(environ={}).strategy_options("doc2lora"), "guard": False, "lora_rank": size}
        strategy = make_strategy("doc2lora", options)
        state, report = strategy.learn(tiny_base, strategy.init(tiny_base), TEXT)
        assert report.accepted and report.reason.startswith("simulated: ")
        ranks.append(state.meta.documents[0].details["rank"])
    assert ranks == [16, 4]  # of one chunk and of what the network learned for all
    assert make_strategy("doc2lora", {"mode": "simulated", "simulated": False}).config.simulated


def test_no_option_of_a_strategy_hides_a_parameter_of_open() -> None:
    """`Learner.open(model, strategy, **options)`: an option called model could not be given."""
    parameters = set(inspect.signature(Learner.open).parameters) - {"options"}
    for name in strategy_names():
        assert not parameters & set(strategy_class(name).Config.model_fields), name
