"""GGUF files: each architecture computes what its Hugging Face model does, and what is wrong is said in one line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_ggufs import GGUF_FAMILIES, make_gguf, tiny_gguf_model, write_gguf
from tiny_models import CHAT_TEMPLATE, SENTENCES

from continual_learning.errors import ModelError, ModelNotFoundError
from continual_learning.model import dequantised
from continual_learning.model.base_model import BaseModel
from continual_learning.model.copies import USER_FILES, copies
from continual_learning.model.gguf_config import complete_config
from continual_learning.model.gguf_files import read_header
from continual_learning.model.loading import load_pretrained
from continual_learning.model.pretrained import fingerprint


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("family", GGUF_FAMILIES)
def test_each_architecture_computes_what_its_model_does(family: str, tmp_path: Path) -> None:
    path = make_gguf(family, tmp_path / f"{family}.gguf")
    base = BaseModel.load(str(path), device="cpu")
    ids = [(7 * i + 3) % base.vocab_size for i in range(24)]  # longer than the windows of Gemma
    torch.testing.assert_close(logits(base.model, ids), logits(tiny_gguf_model(family), ids), rtol=1e-4, atol=1e-4)
    assert base.own_network is (family in ("llama", "gemma3"))
    assert not base.chats
    for text in SENTENCES[:4]:
        assert base.decode(base.encode(text)).strip() == text
    # The second time it comes from the copy.
    assert load_pretrained(str(path), torch.float32).fingerprint == base.fingerprint == fingerprint(base.model)


def test_a_chat_template_and_a_folder_with_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "chatty"
    folder.mkdir()
    path = make_gguf("qwen2", folder / "model.gguf", chat=True)
    base = BaseModel.load(str(folder), device="cpu")
    assert base.chats and base.tokenizer.chat_template == CHAT_TEMPLATE
    assert (
        base.fingerprint == BaseModel.load(str(path), device="cpu").fingerprint == fingerprint(tiny_gguf_model("qwen2"))
    )
    shutil.copy(path, folder / "other.gguf")
    with pytest.raises(ModelError, match=r"holds 2 GGUF files; expected one: give the path .*model\.gguf"):
        load_pretrained(str(folder), torch.float32)


def test_a_file_is_dequantised_once_and_its_old_copies_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, other = make_gguf("llama", tmp_path / "a.gguf"), make_gguf("llama", tmp_path / "b.gguf", seed=1)
    for file in (path, other):
        load_pretrained(str(file), torch.float32)
    before = {copy.source: copy.folder for copy in copies(USER_FILES)}
    assert set(before) == {path, other}
    with monkeypatch.context() as patch:
        patch.setattr(dequantised, "dequantise", lambda *_: pytest.fail("there is a copy"))
        load_pretrained(str(path), torch.float32)
    # Another file of the same name: its copy takes the place of the old one. The other file's stays.
    path.unlink()
    make_gguf("llama", path, seed=2)
    changed = load_pretrained(str(path), torch.float32)
    assert changed.fingerprint == fingerprint(tiny_gguf_model("llama", seed=2))
    after = {copy.source: copy.folder for copy in copies(USER_FILES)}
    assert after[other] == before[other] and after[path] != before[path] and not before[path].exists()
    # A damaged copy is made anew.
    os.truncate(after[path] / "model.safetensors", 1000)
    assert load_pretrained(str(path), torch.float32).fingerprint == changed.fingerprint


def test_what_the_reader_leaves_out_of_the_configuration(tmp_path: Path) -> None:
    from transformers import AutoConfig

    frequencies = np.array([1.0, 1.0, 2.5, 32.0], dtype=np.float32)
    path = make_gguf("llama", tmp_path / "x.gguf", tensors={"rope_freqs.weight": frequencies})
    config = AutoConfig.from_pretrained(tmp_path, gguf_file=path.name)
    with pytest.raises(ModelError, match=r"rope_freqs\.weight"):
        complete_config(config, read_header(path))
    # As llama.cpp's converter writes them for Llama 3.2: divisors of the frequencies.
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    config.rope_parameters = rope
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    divisors = 500000.0 ** -(torch.arange(0, 8, 2) / 8) / scaled
    fields = {"llama.rope.freq_base": 500000.0}
    path = make_gguf("llama", tmp_path / "y.gguf", fields=fields, tensors={"rope_freqs.weight": divisors.numpy()})
    config = AutoConfig.from_pretrained(tmp_path, gguf_file=path.name)
    complete_config(config, read_header(path))
    assert config.rope_parameters["rope_type"] == "llama3"
    again, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    torch.testing.assert_close(again, scaled)
    # Gemma 3 of 4B and more: positions of full attention alone.
    scaling = {"gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 8.0}
    path = make_gguf("gemma3", tmp_path / "z.gguf", fields=scaling)
    config = AutoConfig.from_pretrained(tmp_path, gguf_file=path.name)
    complete_config(config, read_header(path))
    assert config.rope_parameters["full_attention"]["factor"] == 8.0
    assert "factor" not in config.rope_parameters["sliding_attention"]


def header_only(path: Path, architecture: str, **fields: Any) -> Path:
    names = {name.replace("__", "."): value for name, value in fields.items()}
    write_gguf(path, architecture, {"tokenizer.ggml.tokens": ["a"], **names}, {"t.weight": np.zeros(4, np.float32)})
    return path


def not_there(folder: Path) -> Path:
    header_only(folder / "model-q4.gguf", "llama")
    return folder / "model-q5.gguf"


def wrong_magic(folder: Path) -> Path:
    (folder / "x.gguf").write_bytes(b"<html>not found</html>")
    return folder / "x.gguf"


def git_lfs_pointer(folder: Path) -> Path:
    (folder / "x.gguf").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    return folder / "x.gguf"


def old_version(folder: Path) -> Path:
    (folder / "x.gguf").write_bytes(b"GGUF\x01\0\0\0" + bytes(64))
    return folder / "x.gguf"


def truncated(folder: Path) -> Path:
    path = make_gguf("llama", folder / "x.gguf")
    os.truncate(path, path.stat().st_size // 2)
    return path


def truncated_in_the_header(folder: Path) -> Path:
    path = make_gguf("llama", folder / "x.gguf")
    os.truncate(path, 300)
    return path


def impossible_lengths(folder: Path) -> Path:
    (folder / "x.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 64)
    return folder / "x.gguf"


def split_with_missing_parts(folder: Path) -> Path:
    return header_only(folder / "x-00001-of-00003.gguf", "llama")


def split_and_complete(folder: Path) -> Path:
    for number in (1, 2):
        header_only(folder / f"x-0000{number}-of-00002.gguf", "llama")
    return folder


def split_and_renamed(folder: Path) -> Path:
    return header_only(folder / "x.gguf", "llama", split__count=3)


def mmproj(folder: Path) -> Path:
    return header_only(folder / "mmproj.gguf", "clip", general__type="mmproj")


def vision_language(folder: Path) -> Path:
    return header_only(folder / "x.gguf", "qwen2vl")


def encoder(folder: Path) -> Path:
    return header_only(folder / "x.gguf", "nomic-bert")


def encoder_of_a_decoder(folder: Path) -> Path:
    return header_only(folder / "x.gguf", "qwen3", qwen3__pooling_type=3)


def t5_encoder(folder: Path) -> Path:
    return header_only(folder / "x.gguf", "t5encoder")


def encoder_decoder(folder: Path) -> Path:
    return header_only(folder / "x.gguf", "t5")


def adapter(folder: Path) -> Path:
    return header_only(folder / "x.gguf", "llama", general__type="adapter")


def importance_matrix(folder: Path) -> Path:
    return header_only(folder / "x.gguf", "llama", general__type="imatrix")


def no_tokenizer(folder: Path) -> Path:
    return header_only(folder / "x.gguf", "llama", tokenizer__ggml__tokens=None)


def unknown_architecture(folder: Path) -> Path:
    return make_gguf("llama", folder / "x.gguf", architecture="granitehybrid")


def missing_weights(folder: Path) -> Path:
    return make_gguf("llama", folder / "x.gguf", without=("blk.1.ffn_up.weight",))


def unknown_split_of_text(folder: Path) -> Path:
    return make_gguf("llama", folder / "x.gguf", fields={"tokenizer.ggml.pre": "deepseek-llm"})


def other_tokenizer(folder: Path) -> Path:
    return make_gguf("llama", folder / "x.gguf", fields={"tokenizer.ggml.model": "bert"})


def tokens_of_another_alphabet(folder: Path) -> Path:
    """A tokenizer that loses what it cannot spell: no byte tokens, and few letters."""
    tokens = ["<pad>", "</s>", "<s>", "<unk>", "<mask>", *(f"w{number}" for number in range(379))]
    return make_gguf("mistral", folder / "x.gguf", fields={"tokenizer.ggml.tokens": tokens})


def weights_without_a_place(folder: Path) -> Path:
    return make_gguf("llama", folder / "x.gguf", tensors={"blk.0.attn_q.bias": np.ones(32, np.float32)})


def scaled_positions(folder: Path) -> Path:
    factors = np.ones(4, np.float32)
    return make_gguf("phi3", folder / "x.gguf", tensors={"rope_factors_long.weight": factors})


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (not_there, r"was not found: expected a GGUF file that exists; did you mean '.*model-q4\.gguf'"),
        (wrong_magic, r"is not a GGUF file: it begins with b'<htm', expected b'GGUF'; check the path"),
        (git_lfs_pointer, "git lfs pull"),
        (old_version, "is GGUF of version 1; expected 2 or 3"),
        (truncated, r"is truncated: it has [\d,]+ bytes, expected [\d,]+ by its header; fetch it again"),
        (truncated_in_the_header, "is truncated: its 300 bytes end within the header"),
        (impossible_lengths, "is truncated: its 72 bytes end within the header"),
        (
            split_with_missing_parts,
            r"2 of them are missing: x-00002-of-00003\.gguf, x-00003-of-00003\.gguf; fetch them",
        ),
        (split_and_complete, r"join them with llama\.cpp's `llama-gguf-split --merge x-00001-of-00002\.gguf x\.gguf`"),
        (split_and_renamed, "one of 3 parts of a split file"),
        (mmproj, r"the part of a vision model that reads images .*: give the GGUF file of its text part"),
        (vision_language, r"is a vision model \(architecture 'qwen2vl'\); expected a model of text alone"),
        (encoder, r"is an encoder \(architecture 'nomic-bert'\)"),
        (encoder_of_a_decoder, r"is an encoder \(architecture 'qwen3'\)"),
        (t5_encoder, r"is an encoder \(architecture 't5encoder'\)"),
        (encoder_decoder, r"is an encoder-decoder \(architecture 't5'\)"),
        (adapter, "is an adapter without its base .*: give the GGUF file of the model that it was trained for"),
        (importance_matrix, "is of type 'imatrix'"),
        (no_tokenizer, "holds no tokenizer"),
        (unknown_architecture, r"'granitehybrid', which Transformers does not read from GGUF; expected one of .*qwen2"),
        (missing_weights, r"lacks 1 of its weights \(model\.layers\.1\.mlp\.up_proj\.weight"),
        (unknown_split_of_text, "by the rule 'deepseek-llm'"),
        (other_tokenizer, "Cannot build a tokenizer|'bert'"),
        (tokens_of_another_alphabet, "the tokenizer that Transformers makes of it gives"),
        (weights_without_a_place, r"holds 1 weights that Transformers does not read .* \(blk\.0\.attn_q\.bias, …\)"),
        (scaled_positions, "positions scaled for long texts"),
    ],
)
def test_what_cannot_be_used_is_one_line(make: Any, expected: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(ModelError, match=expected) as caught:
        load_pretrained(str(path), torch.float32)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert not copies(USER_FILES)


@pytest.mark.parametrize(
    ("files", "error", "expected"),
    [
        (
            {"adapter_config.json": {"base_model_name_or_path": "some/base"}},
            ModelError,
            "is an adapter without its base, 'some/base'; expected a whole model",
        ),
        (
            {"config.json": {"model_type": "bert", "architectures": ["BertForMaskedLM"]}},
            ModelError,
            r"is an encoder \(BertForMaskedLM\)",
        ),
        ({"config.json": {"model_type": "modernbert"}}, ModelError, r"is an encoder \(modernbert\)"),
        (
            {"config.json": {"model_type": "qwen2_5_vl", "vision_config": {"depth": 2}}},
            ModelError,
            r"is one of images or sound \(qwen2_5_vl\)",
        ),
        (
            {"config.json": {"model_type": "t5", "is_encoder_decoder": True, "architectures": ["T5Model"]}},
            ModelError,
            r"is an encoder-decoder \(T5Model\)",
        ),
        ({"notes.txt": {}}, ModelNotFoundError, r"holds no config\.json"),
    ],
)
def test_a_folder_of_something_else(
    files: dict[str, Any], error: type[Exception], expected: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(error, match=expected) as caught:
        load_pretrained(str(tmp_path), torch.float32)
    assert "\n" not in str(caught.value)
