"""The hypernetwork of Doc-to-LoRA: a document's activations in, a LoRA for every layer out.

Charakorn et al. 2026, "Doc-to-LoRA: Learning to Instantly Internalize Contexts", arXiv 2602.15902, in the
architecture of the published checkpoints. One Perceiver reads each layer's activations into R latents for each target
module; residual MLPs with separate weights for each layer follow; then, with z the latent scaled to length 1,

    [a; b] = z H[layer, module],   A = scaler_A * a,   B = scaler_B * b

The chunks of a document are concatenated along the rank, followed by R learned ranks (bias_A, bias_B). A weight changes
by ``multiplier * B^T A``; the published multiplier is ``lora_alpha`` itself, 2 R^1.5, not alpha / R.

Shapes: C = chunks, G = documents, L = layers, S = tokens, D = context width, E = latent width, M = target modules,
R = rank, I and O = inputs and outputs of a target module, K = all ranks of a document.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from continual_learning.errors import InputError
from continual_learning.strategies.methods.doc2lora.config import HypernetworkConfig
from continual_learning.strategies.methods.doc2lora.context import context_activations
from continual_learning.strategies.methods.doc2lora.generated_lora import Generated, parameter_key
from continual_learning.strategies.methods.doc2lora.network import DocumentHypernetwork, chunk_counts, side_by_side
from continual_learning.strategies.methods.doc2lora.perceiver import Perceiver

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel

# Tokens, over all layers of a chunk, that the Perceiver reads at a time: its first projection takes 8 D floats a token.
_SLICE_TOKENS = 16_384


class PerLayerLinear(nn.Module):
    """A linear layer with separate weights for each layer L."""

    def __init__(self, layers: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(layers, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(1, layers, 1, 1, outputs))

    def forward(self, x_CLMRI: Tensor) -> Tensor:
        """``[C, L, M, R, inputs]`` to ``[C, L, M, R, outputs]``."""
        return torch.einsum("clmri,lio->clmro", x_CLMRI, self.weight) + self.bias


class PerLayerBlock(nn.Module):
    """``x + LN(W2 silu(W1 LN(x)))``, W1 and W2 separate for each layer. Attributes are named as published."""

    def __init__(self, layers: int, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            PerLayerLinear(layers, width, 4 * width),
            nn.SiLU(),
            PerLayerLinear(layers, 4 * width, width),
            nn.LayerNorm(width),
        )

    def forward(self, x_CLMRE: Tensor) -> Tensor:
        """``[C, L, M, R, E]`` to the same."""
        return x_CLMRE + self.layers(x_CLMRE)


class SharedBlock(nn.Module):
    """As `PerLayerBlock`, with one W1 and W2 for all layers. Identities stand for the published dropout, at rate 0."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Identity(),
            nn.Linear(width, 4 * width),
            nn.SiLU(),
            nn.Identity(),
            nn.Linear(4 * width, width),
            nn.LayerNorm(width),
        )

    def forward(self, x_CLMRE: Tensor) -> Tensor:
        """``[C, L, M, R, E]`` to the same."""
        return x_CLMRE + self.mlp(x_CLMRE)


class Head(nn.Module):
    """A matrix for each layer and module, from a latent to the two halves of a rank."""

    def __init__(self, layers: int, modules: int, width: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(layers, modules, width, outputs))

    def forward(self, x_CLMRE: Tensor) -> Tensor:
        """``[C, L, M, R, E]`` to ``[C, L, M, R, outputs]``."""
        return torch.einsum("clmre,lmeo->clmro", x_CLMRE, self.weight)


class _Aggregator(nn.Module):
    def __init__(self, perceiver: Perceiver):
        super().__init__()
        self.perceiver = perceiver


class Hypernetwork(DocumentHypernetwork):
    """Makes LoRA matrices from activations with a Perceiver. Differentiable throughout."""

    config: HypernetworkConfig

    def __init__(self, config: HypernetworkConfig):
        super().__init__()
        self.config = config
        count, modules, rank = len(config.layers), config.modules, config.rank
        queries = len(modules) * rank * (1 if config.per_layer else count)
        self.aggregator = _Aggregator(
            Perceiver(
                config.context_width,
                config.latent_width,
                config.latents,
                queries,
                config.encoder,
                config.decoder,
                config.heads,
            )
        )
        self.layers = nn.Sequential(
            *(
                PerLayerBlock(count, config.latent_width)
                if config.head_blocks_per_layer
                else SharedBlock(config.latent_width)
                for _ in range(config.head_blocks)
            )
        )
        self.head = Head(count, len(modules), config.latent_width, max(i + o for i, o in modules.values()))
        inputs = {parameter_key(m): i for m, (i, _) in modules.items()}
        outputs = {parameter_key(m): o for m, (_, o) in modules.items()}
        self.bias_A = nn.ParameterDict({m: torch.empty(count, rank, i) for m, i in inputs.items()})
        self.bias_B = nn.ParameterDict({m: torch.empty(count, rank, o) for m, o in outputs.items()})
        self.scaler_A = nn.ParameterDict({m: torch.ones(1, count, rank, 1) for m in inputs})
        self.scaler_B = nn.ParameterDict({m: torch.zeros(1, count, rank, 1) for m in inputs})

    @classmethod
    def initialised(cls, config: HypernetworkConfig, seed: int) -> Hypernetwork:
        """An untrained hypernetwork, on the CPU; its adapters change nothing, since scaler_B starts at zero.

        The same seed gives the same weights; the global random state is left alone.
        """
        with torch.device("meta"):
            made = cls(config)
        made.to_empty(device="cpu")
        made.reset(torch.Generator().manual_seed(seed))
        return made

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Reinitialise all weights from the published distributions."""
        config = self.config
        for module in self.modules():
            if isinstance(module, nn.RMSNorm | nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, PerLayerLinear):
                nn.init.normal_(module.weight, std=module.weight.shape[1] ** -0.5, generator=generator)
                nn.init.zeros_(module.bias)
        perceiver = self.aggregator.perceiver
        for resampler in (perceiver.encoder, perceiver.decoder):
            nn.init.normal_(resampler.latents_q, generator=generator)
        spread = config.latent_width + self.head.weight.shape[-1] * config.rank
        nn.init.normal_(self.head.weight, std=0.5 / math.sqrt(spread), generator=generator)
        for name in self.bias_A:
            bias_A_LRI = self.bias_A[name]
            nn.init.normal_(bias_A_LRI, std=0.2 / math.sqrt(bias_A_LRI[0].numel()), generator=generator)
            nn.init.zeros_(self.bias_B[name])
            nn.init.ones_(self.scaler_A[name])
            nn.init.zeros_(self.scaler_B[name])

    def generate(self, activations: Tensor, attention_mask: Tensor | None = None) -> Generated:
        """Return the matrices of each chunk: for every module ``A`` ``[C, L, R, I]`` and ``B`` ``[C, L, R, O]``.

        ``activations`` are ``[C, L, S, D]``, or ``[C, S, D]`` for an early exit or the embeddings;
        ``attention_mask`` is ``[C, S]``, 1 where a token is to be read. Raises InputError for other shapes, and for
        a chunk that is nothing but padding.
        """
        config = self.config
        weight = self.head.weight
        activations = activations.to(weight.device, weight.dtype)
        mask_CS = self._mask(activations, attention_mask)
        latents_CLMRE = self._latents(activations, mask_CS)
        latents_CLMRE = self.layers(latents_CLMRE)
        flat_CLMRF = self.head(latents_CLMRE / latents_CLMRE.norm(dim=-1, keepdim=True))
        generated: Generated = {}
        for number, (name, (inputs, outputs)) in enumerate(config.modules.items()):
            flat_CLRF, key = flat_CLMRF[:, :, number], parameter_key(name)
            generated[name] = {
                "A": flat_CLRF[..., :inputs] * self.scaler_A[key],
                "B": flat_CLRF[..., inputs : inputs + outputs] * self.scaler_B[key],
            }
        return generated

    def combine(self, generated: Generated, chunks_per_document: Sequence[int] | Tensor) -> Generated:
        """Return one LoRA per document: its chunks concatenated along the rank, then the learned ranks, then zeros.

        ``A`` is ``[G, L, K, I]`` and ``B`` ``[G, L, K, O]`` with K = (most chunks + 1) R. Raises InputError if the
        counts do not match the chunks.
        """
        counts = chunk_counts(generated, chunks_per_document)
        ranks = (max(counts) + 1) * self.config.rank
        combined: Generated = {}
        for name, matrices in generated.items():
            key = parameter_key(name)
            bias = {"A": self.bias_A[key], "B": self.bias_B[key]} if self.config.use_bias else {}
            combined[name] = {
                half: torch.stack([side_by_side(part, bias.get(half), ranks) for part in all_CLRF.split(counts)])
                for half, all_CLRF in matrices.items()
            }
        return combined

    def begun(self, base: BaseModel, chunks: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Return the kind of activations that the configuration names, and the mask; see `context_activations`."""
        activations, mask_CS = context_activations(
            base, chunks, self.config.context_encoder, self.config.context_blocks
        )
        return {"activations": activations, "mask": mask_CS}

    def read_on(
        self, base: BaseModel, chunks: Sequence[Sequence[int]], begun: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return what `begun` computed: nothing is left to do."""
        return begun["activations"], begun["mask"]

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """Return all parameters as one group with one rate."""
        return [{"params": list(self.parameters()), "lr": rate}]

    def _latents(self, activations: Tensor, mask_CS: Tensor | None) -> Tensor:
        """Return the latents ``[C, L, M, R, E]``."""
        config, chunks = self.config, activations.shape[0]
        if config.per_layer:  # every layer of a chunk is a sequence of its own
            layers = activations.shape[1]
            activations = activations.flatten(0, 1)
            mask_CS = None if mask_CS is None else mask_CS.repeat_interleave(layers, dim=0)
        rows = max(1, _SLICE_TOKENS // activations.shape[1])
        masks = [None] * math.ceil(len(activations) / rows) if mask_CS is None else mask_CS.split(rows)
        read = [
            self.aggregator.perceiver(part_BSD, part_BS)
            for part_BSD, part_BS in zip(activations.split(rows), masks, strict=True)
        ]
        shape = (chunks, len(config.layers), len(config.modules), config.rank, config.latent_width)
        return torch.cat(read).reshape(shape)

    def _mask(self, activations: Tensor, attention_mask: Tensor | None) -> Tensor | None:
        """Return the mask as booleans, after checking the shapes of activations and mask."""
        config = self.config
        shape = tuple(activations.shape)
        if config.per_layer:
            expected = f"[chunks, {len(config.layers)}, tokens, {config.context_width}]"
            fits = len(shape) == 4 and shape[1] == len(config.layers)
        else:
            expected = f"[chunks, tokens, {config.context_width}]"
            fits = len(shape) == 3
        if not fits or shape[-1] != config.context_width or 0 in shape:
            raise InputError(
                f"activations of shape {list(shape)}; expected {expected}, as the {config.context_encoder} of a base "
                f"like {config.base_name!r} gives"
            )
        if attention_mask is None:
            return None
        if tuple(attention_mask.shape) != (shape[0], shape[-2]):
            raise InputError(
                f"attention_mask of shape {list(attention_mask.shape)}; expected {[shape[0], shape[-2]]}, one value a "
                "token of every chunk"
            )
        mask_CS = attention_mask.to(activations.device, torch.bool)
        if not bool(mask_CS.any(dim=1).all()):
            raise InputError("attention_mask has a chunk with no token to read; expected at least one in each")
        return mask_CS
