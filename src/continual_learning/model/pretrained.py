"""A loaded model with its tokenizer, and the fingerprint of its weights."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from continual_learning.model.network import Network
    from continual_learning.model.tokenizer import Tokenizer


@dataclass(frozen=True)
class Pretrained:
    """A loaded model with its tokenizer, on the CPU, and its `fingerprint`."""

    model: PreTrainedModel | Network
    tokenizer: PreTrainedTokenizerBase | Tokenizer
    fingerprint: str


def fingerprint(model: PreTrainedModel | Network) -> str:
    """SHA-256, in hex, of the architecture's sizes and of every parameter's name, shape and values.

    Values are rounded to bf16 first, so that a model has one fingerprint whether it was loaded in
    fp32 or bf16, on a CPU or a GPU. The configuration's other fields are left out: their names
    change between versions of Transformers.
    """
    config = model.config.get_text_config()
    sizes = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    h = hashlib.sha256(json.dumps([getattr(config, size, None) for size in sizes]).encode())
    for name, parameter in sorted(model.named_parameters()):
        h.update(json.dumps([name, list(parameter.shape)]).encode())
        rounded = parameter.detach().to(torch.bfloat16).contiguous().cpu().view(-1)
        h.update(rounded.view(torch.uint8).numpy().data)
    return h.hexdigest()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep Transformers from printing progress bars and remarks; what matters is raised as an error."""
    from transformers.utils import logging

    switches: Any = logging
    verbosity, bars = switches.get_verbosity(), switches.is_progress_bar_enabled()
    switches.set_verbosity_error()
    switches.disable_progress_bar()
    # The GGUF reader uses tqdm directly and has no switch for it.
    gguf_utils: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    tqdm = gguf_utils.tqdm
    gguf_utils.tqdm = functools.partial(tqdm, disable=True)
    try:
        yield
    finally:
        gguf_utils.tqdm = tqdm
        switches.set_verbosity(verbosity)
        if bars:
            switches.enable_progress_bar()
