"""What Transformers' GGUF reader leaves out of a model's configuration, taken from the file's header.

Without it some files would load and compute something else, without a word: the reader uses a class's defaults for
soft caps, for the scale of attention, and for scaled rotary positions. What is set here is what llama.cpp
computes (`src/llama-model.cpp`); what cannot be expressed is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from continual_learning.errors import ModelError
from continual_learning.model.gguf_files import Header

_SCALED_BY_WIDTH = {("gemma2", 46), ("gemma3", 62)}
"""Architecture and blocks of the models (27B) whose attention is scaled by hidden size / heads."""
_KEPT_SCALINGS = (None, "none")
# Llama 3.1 and later; files hold what follows from these three, and the factor.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def complete_config(config: Any, header: Header) -> None:
    """Put into a Transformers configuration, in place, what the header says and the reader leaves out.

    Raises ModelError for a model whose positions are scaled in a way that is not read.
    """
    for token in ("bos_token_id", "eos_token_id"):
        setattr(config, token, header.fields.get(f"tokenizer.ggml.{token}"))
    embedding = next((tensor for tensor in header.tensors if tensor.name == "token_embd.weight"), None)
    if embedding is not None:
        config.vocab_size = int(embedding.shape[-1])
    head_size = header.get("attention.key_length")
    if head_size is not None and hasattr(config, "head_dim"):
        config.head_dim = int(head_size)
    for field, key in (
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
        ("sliding_window", "attention.sliding_window"),
    ):
        if header.get(key) is not None and hasattr(config, field):
            setattr(config, field, header.get(key))
    if hasattr(config, "query_pre_attn_scalar"):
        by_width = (header.architecture, config.num_hidden_layers) in _SCALED_BY_WIDTH
        config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads if by_width else config.head_dim
    _complete_rope(config, header)


def _complete_rope(config: Any, header: Header) -> None:
    names = {tensor.name for tensor in header.tensors}
    scaling = header.get("rope.scaling.type")
    if "rope_freqs.weight" in names:
        changed = _llama3(config, header)
    elif any(name.startswith("rope_factors_") for name in names):
        raise ModelError(
            f"{header.path} has positions scaled for long texts (rope_factors_long), which Transformers does not read "
            "from GGUF; give the model's Hugging Face folder, or a version of it for shorter texts"
        )
    elif scaling in _KEPT_SCALINGS:
        return
    elif scaling == "linear":
        changed = {"rope_type": "linear", "factor": float(header.get("rope.scaling.factor"))}
    elif scaling == "yarn":
        original = header.get("rope.scaling.original_context_length")
        changed = {"rope_type": "yarn", "factor": float(header.get("rope.scaling.factor"))}
        changed |= {"original_max_position_embeddings": int(original)} if original else {}
    else:
        raise ModelError(
            f"{header.path} has positions scaled by {scaling!r} (rope.scaling.type); expected none, linear or yarn: "
            "give the model's Hugging Face folder"
        )
    rope = config.rope_parameters
    # Gemma 3 keeps one entry a kind of attention, and scales the positions of full attention alone.
    target = rope.get("full_attention", rope)
    target.update(changed)


def _llama3(config: Any, header: Header) -> dict[str, Any]:
    """The scaling that gives the divisors of frequencies in the file, which are those of Llama 3.1 and later."""
    found = header.values("rope_freqs.weight")
    assert found is not None
    theta, factor = float(config.rope_parameters["rope_theta"]), float(found.max())
    low, high, original = _LLAMA3.values()
    frequencies = theta ** -(np.arange(0, 2 * len(found), 2) / (2 * len(found)))
    turns = original * frequencies / (2 * np.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    expected = 1 / ((1 - smooth) / factor + smooth)
    if not np.allclose(found, expected, rtol=1e-3):
        raise ModelError(
            f"{header.path} has positions scaled in a way that Transformers does not read from GGUF "
            "(rope_freqs.weight); expected the scaling of Llama 3: give the model's Hugging Face folder"
        )
    return {"rope_type": "llama3", "factor": factor, **_LLAMA3}
