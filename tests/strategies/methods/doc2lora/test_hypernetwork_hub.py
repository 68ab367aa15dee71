"""Finding hypernetworks: local paths, and the hub with a stub in its place."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from hypernetworks import FIXTURE, config_for, random_hypernetwork, write_published

from continual_learning.errors import ModelNotFoundError
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.doc2lora import generators
from continual_learning.strategies.methods.doc2lora.generators import DocumentGenerator, make_generator, missing
from continual_learning.strategies.methods.doc2lora.hub import locate, published_for

GEMMA = "google/gemma-2-2b-it"
FILE = "gemma_demo/checkpoint-80000/pytorch_model.bin"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was asked of the hub, which has the fixture's file for everything."""
    calls: list[tuple[str, str]] = []

    def download(repository: str, file: str) -> str:
        calls.append((repository, file))
        return str(FIXTURE / "pytorch_model.bin")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return calls


def fail(monkeypatch: pytest.MonkeyPatch, error: Exception) -> str:
    def download(repository: str, file: str) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ModelNotFoundError) as caught:
        locate("SakanaAI/doc-to-lora")
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"hypernetwork SakanaAI/doc-to-lora/{FILE} could not be fetched")
    return message


@pytest.mark.parametrize("name", [GEMMA, "gemma-2-2b-it", "models/Gemma-2-2B-it", "./gemma-2-2b-it/"])
def test_gemma_has_a_published_one(name: str) -> None:
    found = published_for(name)
    assert found is not None and (found.repository, found.file) == ("SakanaAI/doc-to-lora", FILE)
    assert missing(name, "doc", None) is None


@pytest.mark.parametrize("name", ["google/gemma-2-2b", "gemma"])
def test_others_have_none_and_the_message_says_what_to_do(name: str) -> None:
    reason = missing(name, "doc", None)
    assert reason is not None and "\n" not in reason
    assert repr(name) in reason and "set hypernetwork" in reason and GEMMA in reason
    assert missing(name, "doc", "folder") is None and missing(name, "simulated", None) is None


def test_text_mode_has_no_published_one() -> None:
    assert "none is published" in str(missing(GEMMA, "text", None))


def test_a_local_path_needs_no_hub(asked: list[tuple[str, str]], tmp_path: Path) -> None:
    assert locate(str(FIXTURE)) == FIXTURE
    assert locate(str(FIXTURE / "pytorch_model.bin")) == FIXTURE / "pytorch_model.bin"
    assert asked == []


def test_names_on_the_hub(asked: list[tuple[str, str]]) -> None:
    locate("SakanaAI/doc-to-lora")
    locate("SakanaAI/doc-to-lora/qwen/checkpoint-1/pytorch_model.bin")
    locate("someone/else")
    assert asked == [
        ("SakanaAI/doc-to-lora", FILE),
        ("SakanaAI/doc-to-lora", "qwen/checkpoint-1/pytorch_model.bin"),
        ("someone/else", "pytorch_model.bin"),
    ]


@pytest.mark.parametrize("source", ["absent", "./absent/file.bin", "~/absent/x", "a//b", "/absent/folder"])
def test_a_path_that_is_not_there_is_not_asked_of_the_hub(source: str, asked: list[tuple[str, str]]) -> None:
    with pytest.raises(ModelNotFoundError, match="was not found; expected a file or folder"):
        locate(source)
    assert asked == []


def test_the_default_for_gemma_is_fetched_once_and_read(
    asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, tiny_llama_dir: Path, tmp_path: Path
) -> None:
    base = BaseModel.load(str(tiny_llama_dir), device="cpu")
    base.name = GEMMA
    # As wide as the published one's heads are, and for this base.
    network = random_hypernetwork(config_for(base, heads=generators.Heads(2, 1, 128)))
    file = write_published(network, tmp_path / "pytorch_model.bin")

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        return str(file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for _ in range(2):
        made = make_generator(base, "doc")
        assert isinstance(made, DocumentGenerator)
        assert made.hypernetwork.config.affixes is not None
        assert made.internalise(base, "Comb jellies eat plankton.").chunks == 1
    assert asked == [("SakanaAI/doc-to-lora", FILE)]


def response() -> Any:
    return types.SimpleNamespace(headers={}, request=None, status_code=401)


@pytest.mark.parametrize("kind", [GatedRepoError, RepositoryNotFoundError])
def test_a_closed_repository_says_how_to_log_in(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    message = fail(monkeypatch, kind("401 Client Error.\nAccess is restricted.", response=response()))
    assert "hf auth login" in message and "huggingface.co/SakanaAI/doc-to-lora" in message


def test_no_network_and_not_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    message = fail(monkeypatch, LocalEntryNotFoundError("Cannot find the file.\nTry again."))
    assert "not in the cache" in message and "set hypernetwork to the file" in message


def test_any_other_failure_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "check the name and the network" in fail(monkeypatch, ConnectionError("no route"))
