"""Text-to-LoRA: a description of a task in, a LoRA for every layer out.

Charakorn et al. 2025, "Text-to-LoRA: Instant Transformer Adaption", arXiv 2506.06105, section 3: an embedding of the
description, together with learned embeddings of the layer and the module, passes through residual MLPs to one head for
A and B of each module. The description is embedded by the base model itself, as its final hidden state at the last
token. The result is multiplied by alpha / sqrt(R), as in rank-stabilised LoRA (arXiv 2312.03732).

Shapes: N = descriptions, D = width of their embedding, L = layers, E = width of the MLPs, R = rank, I and O =
inputs and outputs of a target module.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from continual_learning.errors import InputError
from continual_learning.strategies.methods.doc2lora.config import TextToLoRAConfig
from continual_learning.strategies.methods.doc2lora.generated_lora import Generated, parameter_key


class _Residual(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.silu(self.down(F.silu(self.up(self.norm(x)))))


class TextToLoRA(nn.Module):
    """Makes LoRA matrices from embedded task descriptions. Differentiable throughout."""

    def __init__(self, config: TextToLoRAConfig):
        super().__init__()
        self.config = config
        mixed = config.task_width + 2 * config.place_width
        self.task = nn.Sequential(nn.Linear(config.context_width, config.task_width), nn.LayerNorm(config.task_width))
        self.layer = nn.Embedding(len(config.layers), config.place_width)
        self.module = nn.Embedding(len(config.modules), config.place_width)
        self.mixer = _Residual(mixed, 4 * mixed)
        self.block = _Residual(mixed, 4 * mixed)
        self.out = nn.Sequential(nn.LayerNorm(mixed), nn.Linear(mixed, config.width), nn.SiLU())
        self.heads = nn.ModuleDict(
            {parameter_key(m): nn.Linear(config.width, config.rank * (i + o)) for m, (i, o) in config.modules.items()}
        )

    def generate(self, descriptions_ND: Tensor) -> Generated:
        """Return the matrices of each description: for every module ``A`` ``[N, L, R, I]`` and ``B`` ``[N, L, R, O]``.

        Raises InputError for embeddings of another width.
        """
        config = self.config
        weight = self.layer.weight
        if descriptions_ND.ndim != 2 or descriptions_ND.shape[1] != config.context_width:
            found = list(descriptions_ND.shape)
            raise InputError(f"descriptions of shape {found}; expected [descriptions, {config.context_width}]")
        count, layers = len(descriptions_ND), len(config.layers)
        task_NLF = self.task(descriptions_ND.to(weight.device, weight.dtype))[:, None].expand(-1, layers, -1)
        layer_NLF = self.layer.weight[None].expand(count, -1, -1)
        generated: Generated = {}
        for number, (name, (inputs, outputs)) in enumerate(config.modules.items()):
            module_NLF = self.module.weight[number].expand(count, layers, -1)
            mixed_NLF = self.block(self.mixer(torch.cat([task_NLF, layer_NLF, module_NLF], dim=-1)))
            flat_NLRF = self.heads[parameter_key(name)](self.out(mixed_NLF)).unflatten(-1, (config.rank, -1))
            generated[name] = {"A": flat_NLRF[..., :inputs], "B": flat_NLRF[..., inputs : inputs + outputs]}
        return generated
