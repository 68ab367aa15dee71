"""Networks without Transformers: importing that library takes longer than answering a question.

The embedded models run on them. Modules and weights have the names that Transformers gives them, and the forward pass
gives the same values, bit for bit, so that strategies, memories and adapters work on either.

Shapes: B = rows of a batch, T = tokens of a row, V = vocabulary.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from continual_learning.errors import ModelError
from continual_learning.model.network.gemma3 import Gemma3Config
from continual_learning.model.network.llama import LlamaConfig
from continual_learning.model.network.parts import Backbone, KeyValueCache, NetworkConfig, linear

__all__ = ["KeyValueCache", "Network", "config_of"]

_CONFIGS: dict[str, type[NetworkConfig]] = {"llama": LlamaConfig, "gemma3_text": Gemma3Config}


class CausalOutput(NamedTuple):
    """What the whole network computes."""

    logits: Tensor
    """[B, T, V]."""


class Network(nn.Module):
    """A causal language model: `Backbone` and a head that shares the embedding's weights."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.model = config.backbone()
        self.lm_head = linear(config.hidden_size, config.vocab_size)

    @classmethod
    def from_folder(cls, folder: Path) -> Network:
        """The model of a Hugging Face folder. Its weights are mapped: what is not used is not read.

        Raises ModelError for a model that needs more than a network of ours computes, or lacks weights; OSError and
        SafetensorError for files that cannot be read.
        """
        network = cls(config_of(folder))
        weights = load_file(folder / "model.safetensors")
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
        try:
            network.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:160]  # it has a line, a long one, for each kind of mistake
            raise ModelError(f"{folder / 'model.safetensors'} does not fit its config.json: {reason}") from None
        network.lm_head.weight = network.model.embed_tokens.weight
        return network

    @property
    def base_model(self) -> Backbone:
        """The network without its head."""
        return self.model

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.model.embed_tokens.weight.dtype

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of tokens."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Linear:
        """The head."""
        return self.lm_head

    def forward(self, input_ids: Tensor | None = None, **given: Any) -> CausalOutput:
        """Logits; arguments as in `Backbone.forward`."""
        return CausalOutput(self.lm_head(self.model(input_ids, **given).last_hidden_state))


def config_of(folder: Path) -> NetworkConfig:
    """The configuration of the model in a Hugging Face folder.

    Raises ModelError for a model that needs more than a network of ours computes, OSError for a missing file.
    """
    given = json.loads((folder / "config.json").read_text("utf-8"))
    found = _CONFIGS.get(given.get("model_type"))
    if found is None:
        expected = " or ".join(map(repr, _CONFIGS))
        raise ModelError(
            f"model_type = {given.get('model_type')!r}; expected {expected}: load this model with Transformers"
        )
    return found.from_fields(given)
