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
from continual_learning.io.paths import model_cache_home
from continual_learning.model import dequantised
from continual_learning.model.base_model import BaseModel
from continual_learning.model.copies import USER_FILES, copies
from continual_learning.model.gguf_config import complete_config
from continual_learning.model.gguf_files import read_header
from continual_learning.model.loading import load_pretrained
from continual_learning.model.network import Network
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
    assert base.own_network is (family == "llama")  # the only one with a tied head
    assert not base.has_chat_template
    for text in SENTENCES[:4]:
        assert base.decode(base.encode(text)).strip() == text
    # The second time it comes from the copy.
    assert load_pretrained(str(path), torch.float32).fingerprint == base.fingerprint == fingerprint(base.model)
