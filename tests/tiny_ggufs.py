"""Tiny random models of every supported family as GGUF files, laid out as llama.cpp's converter does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tiny_models import CHAT_TEMPLATE, SENTENCES, WIDTH, tiny_model, tiny_tokenizer

# family -> (architecture in GGUF, kind of tokenizer, settings of the tiny model besides those of its family).
# Gemma 3's pattern of windows is not in a GGUF file: five blocks with one, then one without.
GGUF_FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "gpt2", {}),
    "qwen2": ("qwen2", "gpt2", {}),
    "qwen3": ("qwen3", "gpt2", {}),
    "gemma2": ("gemma2", "llama", {"attn_logit_softcapping": 2.0}),
    "gemma3": (
        "gemma3",
        "llama",
        {
            "num_hidden_layers": 6,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
            "query_pre_attn_scalar": 8,
        },
    ),
    "mistral": ("llama", "llama", {"sliding_window": None}),
    "phi3": ("phi3", "llama", {}),
}
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


def tiny_gguf_model(family: str, seed: int = 0) -> Any:
    """The model that `make_gguf` writes."""
    return tiny_model(family, seed, **GGUF_FAMILIES[family][2])


def make_gguf(
    family: str,
    path: Path,
    seed: int = 0,
    chat: bool = False,
    fields: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
    without: tuple[str, ...] = (),
    architecture: str | None = None,
) -> Path:
    """Write a tiny random model as a GGUF file in fp32; returns its path.

    ``fields`` replace fields of the header or are added to it, ``tensors`` are added, tensors in ``without`` left out,
    and another ``architecture`` may be claimed.
    """
    model = tiny_gguf_model(family, seed)
    real, kind, _ = GGUF_FAMILIES[family]
    arch = architecture or real
    config = model.config
    head_size = getattr(config, "head_dim", None) or WIDTH // config.num_attention_heads
    header: dict[str, Any] = {
        "general.type": "model",
        "general.name": f"tiny {family}",
        "general.license": "apache-2.0",
        "general.file_type": 0,
        f"{arch}.context_length": config.max_position_embeddings,
        f"{arch}.block_count": config.num_hidden_layers,
        f"{arch}.embedding_length": config.hidden_size,
        f"{arch}.feed_forward_length": config.intermediate_size,
        f"{arch}.attention.head_count": config.num_attention_heads,
        f"{arch}.attention.head_count_kv": config.num_key_value_heads,
        f"{arch}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        f"{arch}.attention.key_length": head_size,
        f"{arch}.attention.value_length": head_size,
        f"{arch}.rope.dimension_count": head_size,
        f"{arch}.vocab_size": config.vocab_size,
    }
    rope = config.rope_parameters
    header[f"{arch}.rope.freq_base"] = float(rope.get("full_attention", rope)["rope_theta"])
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if getattr(config, name, None) is not None:
            header[f"{arch}.{name}"] = float(getattr(config, name))
    if family in ("gemma2", "gemma3"):
        header[f"{arch}.attention.sliding_window"] = config.sliding_window
    header |= _byte_level() if kind == "gpt2" else _sentencepiece(family)
    if chat:
        header["tokenizer.chat_template"] = CHAT_TEMPLATE
    header |= fields or {}
    weights = {**_weights(model, family, real), **(tensors or {})}
    write_gguf(path, arch, header, {name: data for name, data in weights.items() if name not in without})
    return path


def write_gguf(path: Path, architecture: str, fields: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write a GGUF file with these fields and tensors. A field of None is left out."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in fields.items():
        if value is None:
            continue
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        else:
            writer.add_array(name, value)
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _weights(model: Any, family: str, architecture: str) -> dict[str, np.ndarray]:
    config = model.config
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    found = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        data = tensor.detach().to(torch.float32).numpy()
        if architecture == "llama" and (part := re.search(r"\.([qk])_proj\.", name)):
            heads = config.num_attention_heads if part[1] == "q" else config.num_key_value_heads
            data = data.reshape(heads, 2, -1, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)
        if family in ("gemma2", "gemma3") and name.endswith("norm.weight"):
            data = data + 1
        stem, _, suffix = name.rpartition(".")
        found[f"{names.get_name(stem)}.{suffix}"] = np.ascontiguousarray(data)
    return found


def _byte_level() -> dict[str, Any]:
    tokenizer = tiny_tokenizer()
    backend = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = [tokenizer.convert_ids_to_tokens(i) for i in range(len(tokenizer))]
    special = set(tokenizer.all_special_tokens)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [_CONTROL if token in special else _NORMAL for token in tokens],
        "tokenizer.ggml.merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in backend["merges"]],
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
        "tokenizer.ggml.add_bos_token": False,
    }


def _sentencepiece(family: str) -> dict[str, Any]:
    """A vocabulary of single bytes, letters and some words, which pairs of tokens lead to."""
    # A tokenizer in Transformers adds those of its special tokens that are missing.
    special = ("<eos>", "<bos>") if family.startswith("gemma") else ("</s>", "<s>")
    tokens = ["<pad>", *special, "<unk>", "<mask>"]
    kinds = [_CONTROL, _CONTROL, _CONTROL, _UNKNOWN, _CONTROL]
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    kinds += [_BYTE] * 256
    words = [f"▁{word}" for sentence in SENTENCES for word in re.findall(r"[a-z]+", sentence.lower())]
    starts = [word[:length] for word in words for length in range(2, len(word) + 1)]
    letters = ["▁", *map(chr, range(33, 127))]
    room = len(tiny_tokenizer()) - len(tokens)
    more = list(dict.fromkeys([*letters, *starts]))[:room]
    assert len(more) == room
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens + more,
        "tokenizer.ggml.scores": [-float(number) for number in range(len(tokens) + room)],
        "tokenizer.ggml.token_type": kinds + [_NORMAL] * room,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
    }
