"""Chat models by name, and what is wrong with a name."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from continual_learning.chat_models import Connection, LlamaCppModel, OllamaModel, OpenAIModel, named_model
from continual_learning.errors import ConfigError, ContinualLearningError, InputError, MissingExtraError


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("", "http://localhost:11434"),
        ("elsewhere", "http://elsewhere:11434"),
        ("0.0.0.0:9", "http://0.0.0.0:9"),
        ("https://there:9/x", "https://there:9/x"),
    ],
)
def test_ollama_is_where_its_own_variable_says(variable: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", variable)
    model = named_model("ollama:qwen3.5:9b", Connection())
    assert isinstance(model, OllamaModel) and model.name == "qwen3.5:9b"
    assert model._settings.url == address
    assert named_model("ollama:a", Connection(host="http://set:1"))._settings.url == "http://set:1"


def test_the_name_of_an_openai_model_follows_the_address() -> None:
    model = named_model("openai:http://localhost:8000/v1#org/small", Connection(num_ctx=512, section="speaker"))
    assert isinstance(model, OpenAIModel) and (model.name, model.window) == ("org/small", 512)
    assert model._settings.url == "http://localhost:8000/v1"
    assert model._settings.setting("num_ctx") == "speaker.num_ctx"


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("qwen3", ConfigError, "'qwen3'; expected ollama:NAME, openai:URL#NAME or llamacpp:FILE.gguf"),
        ("vllm:a", ConfigError, "'vllm:a'; expected ollama:NAME"),
        ("ollama: ", ConfigError, "expected ollama:NAME"),
        ("openai:http://localhost/v1", ConfigError, "expected openai:URL#NAME, such as"),
        ("openai:localhost:8000#a", ConfigError, "expected an address such as"),
        ("openai:https://me:secret@there/v1", ConfigError, r"\[secret\]"),
        ("llamacpp:absent.gguf", InputError, r"absent\.gguf: no such file"),
    ],
)
def test_a_bad_name_is_one_line(name: str, error: type[ContinualLearningError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        named_model(name, Connection())
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_what_is_no_gguf_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"model\.gguf: no GGUF file, it begins with b'<htm'"):
        named_model(f"llamacpp:{file}", Connection())
    with pytest.raises(InputError, match="cannot be read"):
        named_model(f"llamacpp:{tmp_path}", Connection())


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF and more")
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(MissingExtraError, match=r"run `pip install 'continual-learning-slm\[llamacpp\]'`"):
        named_model(f"llamacpp:{file}", Connection())


def test_a_damaged_gguf_file_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF and more")
    model = named_model(f"llamacpp:{file}", Connection(section="speaker"))
    assert isinstance(model, LlamaCppModel)
    with pytest.raises(ContinualLearningError, match=r"model\.gguf: llama\.cpp cannot load it") as caught:
        model.prepare()
    assert "\n" not in str(caught.value) and "speaker.num_ctx" in str(caught.value)


def test_a_base_model_that_never_saw_a_chat_is_no_speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Llama:
        def __init__(self, model_path: str, **_: object):
            self.metadata = {"gemma3.context_length": "64"}
            if "instruct" in model_path:
                self.metadata["tokenizer.chat_template"] = "{{ messages }}"

    package = ModuleType("llama_cpp")
    monkeypatch.setattr(package, "Llama", Llama, raising=False)
    monkeypatch.setitem(sys.modules, "llama_cpp", package)
    for name in ("base.gguf", "instruct.gguf"):
        (tmp_path / name).write_bytes(b"GGUF and more")
    chatting = named_model(f"llamacpp:{tmp_path}/instruct.gguf", Connection())
    assert isinstance(chatting, LlamaCppModel)
    chatting.prepare()
    assert chatting.window == 64
    with pytest.raises(InputError, match=r"base\.gguf: no chat template in it, so this is a base model"):
        LlamaCppModel(tmp_path / "base.gguf", 64).prepare()
