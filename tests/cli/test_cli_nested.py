"""`nested`, and the benchmarks of its uses."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from continual_learning.errors import ConfigError
from continual_learning.strategies.methods.nested.environment import read_environment
from continual_learning.strategies.methods.nested.repl import joined

pytestmark = pytest.mark.slow

SMALL = [
    arg
    for text in ("periods=[0]", "learning_rates=[1e-2]", "steps=[1]", "replay=[0.5]", "optimizers=[adamw]")
    for arg in ("--set", text)
]  # fmt: skip


@pytest.fixture
def nested(cli: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("continual_learning.strategies.methods.nested.learning.MAX_LOSS_RISE", 50.0)

    def run(lines: list[str], *arguments: object) -> Any:
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
        return cli("nested", "--max-new-tokens", 4, *SMALL, *arguments)

    return run


def test_a_conversation_on_standard_input(nested: Any, tmp_path: Path) -> None:
    (tmp_path / "cat.txt").write_text("The cat is in the house.")
    lines = ["My fox lives \\", "in Paris.", "/stats", "/why", "/undo", f"/learn {tmp_path / 'cat.txt'}", "/save one",
             "/list", "/clear", "/reset", "/load one --with-history", "/help", "/quit", "never read"]  # fmt: skip
    result = nested(lines)
    assert result.code == 0, result.err
    assert "adapted: learned in level 1; loss" in result.err and "tokens, " in result.err
    for words in ("taken back", "saved as one", "loaded one: 1 turns learned, 2 messages", "/learn FILE", "start over"):
        assert words in result.out, words
    assert "My fox lives in Paris." in result.out, "why shows the turn, joined from two lines"
    again = nested(["/list"], "--load", "one", "--json")
    assert again.code == 0 and again.json["turns"] == []


def test_json_and_unsaved_work(nested: Any) -> None:
    result = nested(["My fox lives in Paris."], "--json")
    [turn] = result.json["turns"]
    assert turn["adaptation"]["accepted"] and turn["answer"]["question"] == "My fox lives in Paris."
    assert "not saved" in result.err


@pytest.mark.parametrize(
    ("line", "word"),
    [("/lod x", "no command '/lod'"), ("/learn", "expected one file"), ("/load", "/load NAME"),
     ("/learn -", "expected one file"), ("/save a b", "2 names"), ("/learn 'x", "quotation"),
     ("/load nowhere", "nowhere")],
)  # fmt: skip
def test_a_wrong_command_on_standard_input_ends_with_two(line: str, word: str, nested: Any) -> None:
    result = nested([line])
    assert result.code == 2 and word in result.err


def test_one_shot(nested: Any) -> None:
    result = nested([], "--once", "My fox lives in Paris.", "--question", "Where does my fox live?", "--json")
    assert result.json["gone"] and result.json["before"]["text"] == result.json["after_reset"]["text"]
    assert "gone" in nested([], "--once", "My fox lives in Paris.").out


def test_flags_that_need_another(nested: Any) -> None:
    assert nested([], "--with-history").code == 2 and nested([], "--question", "x").code == 2
    assert nested([], "--once", "x", "--load", "y").code == 2


def test_a_memory_of_another_strategy_is_refused(work: Any, nested: Any) -> None:
    result = nested([], "--memory", "work")
    assert result.code == 2 and "in_context" in result.err


def test_the_variables_of_the_public_program(nested: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {"NL_AUTO_SAVE_EVERY_N": "1", "NL_CHECKPOINT_DIR": str(tmp_path / "kept"), "NL_AUTO_RESET_THRESHOLD": "1",
              "NL_LEARNING_RATE": "0.001", "NL_ADAPT_STEPS": "1", "NL_TEMPERATURE": "0.5", "NL_TOP_K": "5"}  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    result = nested(["My fox lives in Paris."])
    assert result.code == 0, result.err
    assert "saved as" in result.err and "start over after 1 turns" in result.err
    from continual_learning.memory.store import Store

    config = Store(tmp_path / "kept").meta()["config"]
    assert config["temperature"] == 0.5 and config["top_k"] == 5
    assert config["learning_rates"] == [0.01], "--set goes over a variable"
    assert config["weights"] == "low_rank"
    monkeypatch.setenv("NL_CONTEXT_WINDOW", "many")
    assert nested([]).code == 2


def test_a_preset_is_where_settings_begin(cli: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from continual_learning.memory.store import Store

    monkeypatch.setattr("sys.stdin", io.StringIO("My fox lives in Paris.\n/save one\n"))
    monkeypatch.setenv("NL_LEARNING_RATE", "3e-6")
    result = cli("nested", "--preset", "public", "--max-new-tokens", 2, "--set", "embeddings=false")
    assert result.code == 0, result.err
    config = Store.open("nested").meta()["config"]
    assert config["weights"] == "full" and config["signal"] == "text" and config["embeddings"] is False
    assert config["learning_rates"] == [3e-6] and config["steps"] == [2]


def test_clear_says_what_waits(nested: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NL_ADAPT_EVERY_N_TURNS", "2")
    assert "still to be learned: 1" in nested(["My fox lives in Paris.", "/clear"]).out


def test_weights_are_saved_in_the_folder_that_is_set(nested: Any, cli: Any, tmp_path: Path) -> None:
    assert cli("config", "set", "nested.checkpoint_dir", str(tmp_path / "weights")).code == 0
    assert nested(["My fox lives in Paris.", "/save one"]).code == 0
    from continual_learning.memory.store import Store

    assert Store(tmp_path / "weights").head is not None
    listed = cli("checkpoint", "list", "--memory", tmp_path / "weights", "--json").json
    assert [c["name"] for c in listed["checkpoints"]] == ["one"]
    assert "no memory in" in cli("checkpoint", "list", "--memory", tmp_path / "nowhere").err


def test_every_variable_is_read_and_others_are_refused() -> None:
    values = {"NL_SLOW_RATIO": "0.5", "NL_ADAPT_USER_ONLY": "true", "NL_ADAPT_STEPS": "3", "OTHER": "1"}
    assert read_environment(values, 2) == {
        "strategies.nested.slow_ratio": ("0.5", "NL_SLOW_RATIO"),
        "nested.adapt_user_only": ("true", "NL_ADAPT_USER_ONLY"),
        "strategies.nested.steps": ("[3, 3]", "NL_ADAPT_STEPS"),
    }
    with pytest.raises(ConfigError, match="NL_SLOW_RATE"):
        read_environment({"NL_SLOW_RATE": "1"}, 1)


def test_lines_go_on_after_a_backslash() -> None:
    assert list(joined(iter(["a \\", "b", " c ", "d\\"]))) == ["a \nb", "c", "d"]


def test_checkpoints_of_levels(nested: Any, cli: Any, tmp_path: Path) -> None:
    assert nested(["My fox lives in Paris.", "/save one", "I have seven dogs.", "/save two"]).code == 0
    memory = ("--memory", "nested")
    compared = cli("checkpoint", "compare", "one", "two", *memory, "--json").json
    assert compared["levels"][0]["distance"] > 0 and compared["levels"][0]["most_changed"]
    assert "level1" in cli("checkpoint", "compare", "one", "two", *memory).out
    exported = cli("checkpoint", "export", "two", tmp_path / "adapter", "--peft", *memory, "--json")
    assert exported.code == 0 and (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert cli("checkpoint", "export", "two", tmp_path / "adapter", "--peft", *memory).code == 2
    assert cli("ask", "Where does my fox live?", *memory, "--max-new-tokens", "3").code == 0
    from safetensors import safe_open

    file = tmp_path / "weights.safetensors"
    assert cli("checkpoint", "export", "two", file, *memory).code == 0
    with safe_open(file, "pt") as tensors:
        assert any(name.startswith("level1/") for name in tensors.keys())  # noqa: SIM118  (not a mapping)
        assert tensors.metadata()["strategy"] == "nested"
    assert cli("checkpoint", "export", "two", file, *memory).code == 2


SMALL_ROW = [a.replace("periods", "nested.periods") if i % 2 else a for i, a in enumerate(SMALL)]
SMALL_ROW = [f"nested.{a}" if i % 2 and not a.startswith("nested.") else a for i, a in enumerate(SMALL_ROW)]


def test_benchmark_conversation(cli: Any, tiny: Any) -> None:
    result = cli("benchmark", "conversation", "--turns", 6, "--facts", 3, "--rows", "frozen,prompt,several", *SMALL_ROW,
                 "--max-new-tokens", 3, "--fresh", "--json")  # fmt: skip
    assert result.code == 0, result.err
    rows = result.json["results"]
    assert [r["label"] for r in rows] == ["no adaptation", "history in the prompt", "nested, several levels"]
    assert rows[0]["questions"] == 3 and sum(b["questions"] for b in rows[2]["by_distance"]) == 3
    assert rows[2]["config"]["steps"] == [1]


def test_needle_has_the_rows_too(cli: Any, tiny: Any) -> None:
    result = cli("benchmark", "needle", "--rows", "one,several", *SMALL_ROW, "--tokens", 60, "--documents", 1,
                 "--max-new-tokens", 3, "--fresh", "--no-flops", "--json")  # fmt: skip
    assert result.code == 0, result.err
    assert [r["label"] for r in result.json["results"]] == ["nested, one level", "nested, several levels"]
    assert cli("benchmark", "needle", "--rows", "one", "--strategies", "rag").code == 2


def test_benchmark_repository_and_transfer(cli: Any, tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "fox.py").write_text('def run(x):\n    """Let the fox run. Fast."""\n')
    common = ("--rows", "several", *SMALL_ROW, "--max-new-tokens", 3, "--fresh", "--json")
    result = cli("benchmark", "repository", tmp_path / "code", *common)
    assert result.code == 0, result.err
    assert [a["question"] for a in result.json["results"][0]["answers"]] == [
        "Where is run defined?", "What is the name of: Let the fox run?"]  # fmt: skip
    result = cli("benchmark", "transfer", "--examples", 2, "--questions", 2, *common)
    assert result.code == 0 and result.json["results"][0]["questions"] == 2
    assert cli("benchmark", "conversation", "--rows", "many").code == 2
