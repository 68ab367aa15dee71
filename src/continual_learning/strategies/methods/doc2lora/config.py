"""Sizes of a hypernetwork, and what it was made for.

D = context width, E = latent width, R = rank, I and O = inputs and outputs of a target module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from continual_learning.strategies.methods.doc2lora.perceiver import Heads

ContextEncoder = Literal["per_layer_activations", "early_exit", "embed_only"]


@dataclass(frozen=True)
class HypernetworkConfig:
    """Sizes of a hypernetwork, and what it was made for. JSON values only, apart from the tuples."""

    base_name: str
    """The base model it was trained for."""
    context_width: int
    """D."""
    modules: Mapping[str, tuple[int, int]]
    """Target modules with their inputs and outputs, I and O; kept sorted by name."""
    layers: tuple[int, ...]
    """The blocks of the base that it writes to."""
    rank: int
    """R."""
    multiplier: float
    """Factor applied to ``B^T A``."""
    latent_width: int
    """E."""
    latents: int
    """Number of latents of the Perceiver's encoder."""
    encoder: tuple[bool, ...]
    """For each encoder layer, whether it is cross-attention."""
    decoder: tuple[bool, ...] = (True,)
    heads: Heads = field(default_factory=Heads)
    head_blocks: int = 4
    """Residual MLPs before the head."""
    head_blocks_per_layer: bool = True
    """Whether these have separate weights for each layer."""
    use_bias: bool = True
    """Whether the learned ranks are added to those of every document."""
    context_encoder: ContextEncoder = "per_layer_activations"
    context_blocks: int | None = None
    """For per_layer_activations, the number of activations (None: one per block of the base). For early_exit, the
    number of blocks that are run (None: a quarter of them)."""
    affixes: tuple[str, str] | None = None
    """Text before and after every chunk in training, special tokens by name. None: what the base's chat template writes
    around a user's turn."""
    trained_chunks: int = 8
    """Maximum number of chunks per document in training."""
    trained_chunk_tokens: int = 1024
    """Maximum number of document tokens per chunk in training."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "modules", {m: tuple(self.modules[m]) for m in sorted(self.modules)})

    def ranks(self, chunks: int) -> int:
        """Return the rank of the adapter of a document with this many chunks."""
        return (chunks + self.use_bias) * self.rank

    @property
    def first_block(self) -> int:
        """The first block that changes; the blocks below compute the same as without a document."""
        return min(self.layers)

    @property
    def per_layer(self) -> bool:
        """Whether every layer's latents come from that layer's own activations."""
        return self.context_encoder == "per_layer_activations"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> HypernetworkConfig:
        """Inverse of `to_json`. Raises TypeError or ValueError for missing, unknown or wrong fields."""
        fields = dict(data)
        fields["heads"] = Heads(**fields["heads"])
        for name in ("layers", "encoder", "decoder", "affixes"):
            if fields.get(name) is not None:
                fields[name] = tuple(fields[name])
        return cls(**fields)


@dataclass(frozen=True)
class LinearHypernetworkConfig:
    """Sizes of a linear fast-weight generator, and what it was made for. JSON values only, apart from the tuples."""

    base_name: str
    """The base model it was trained for."""
    context_width: int
    """D."""
    modules: Mapping[str, tuple[int, int]]
    """The one target module with its inputs and outputs, I and O."""
    layers: tuple[int, ...]
    """The blocks of the base that it writes to."""
    rank: int
    """R: width of a key."""
    bias_rank: int = 8
    """Learned ranks in addition to the memories, which teach the form of the answers; 0 for none."""
    reader_modules: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Attention modules the reader changes, with their inputs and outputs; kept sorted by name. Empty: no reader."""
    reader_layers: tuple[int, ...] = ()
    """The blocks of the base that the reader changes."""
    reader_rank: int = 0
    """Rank of the reader's LoRA."""
    multiplier: float = 1.0
    """Factor applied to ``B^T A``."""
    affixes: tuple[str, str] = ("", "")
    """Text before and after every chunk, special tokens by name."""
    trained_chunks: int = 1
    """Maximum number of chunks per document in training."""
    trained_chunk_tokens: int = 1024
    """Maximum number of document tokens per chunk in training."""

    def __post_init__(self) -> None:
        if len(self.modules) != 1:
            raise ValueError(f"modules = {dict(self.modules)}; expected exactly one target module")
        readers = {name: tuple(sizes) for name, sizes in sorted(self.reader_modules.items())}
        object.__setattr__(self, "reader_modules", readers)
        if len({bool(readers), bool(self.reader_layers), bool(self.reader_rank)}) > 1:
            raise ValueError(
                f"a reader of rank {self.reader_rank} for {len(readers)} modules of {len(self.reader_layers)} blocks; "
                "expected all three above 0, or none"
            )

    def ranks(self, chunks: int) -> int:
        """Return the rank of the adapter of a document with this many chunks."""
        return chunks * self.rank

    @property
    def first_block(self) -> int:
        """The first block that changes; the blocks below compute the same as without a document."""
        return min(*self.layers, *self.reader_layers)

    @property
    def module(self) -> tuple[str, int, int]:
        """The target module's name, I and O."""
        [(name, (inputs, outputs))] = self.modules.items()
        return name, inputs, outputs

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LinearHypernetworkConfig:
        """Inverse of `to_json`. Raises TypeError or ValueError for missing, unknown or wrong fields."""
        fields = dict(data)
        fields["modules"] = {name: tuple(sizes) for name, sizes in fields["modules"].items()}
        for name in ("layers", "affixes", "reader_layers"):
            if name in fields:
                fields[name] = tuple(fields[name])
        return cls(**fields)


DocumentConfig = HypernetworkConfig | LinearHypernetworkConfig


@dataclass(frozen=True)
class TextToLoRAConfig:
    """Sizes of a text hypernetwork, and what it was made for."""

    base_name: str
    """The base model it was trained for."""
    context_width: int
    """D, the base's hidden size."""
    modules: Mapping[str, tuple[int, int]]
    """Target modules with their inputs and outputs, I and O; kept sorted by name. Published: q_proj and v_proj."""
    layers: tuple[int, ...]
    """The blocks of the base that it writes to."""
    rank: int = 8
    """R."""
    alpha: float = 16.0
    """The multiplier is alpha / sqrt(R)."""
    task_width: int = 64
    """Width of the encoded description."""
    place_width: int = 32
    """Width of the embeddings of layer and module."""
    width: int = 512
    """E."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "modules", {m: tuple(self.modules[m]) for m in sorted(self.modules)})

    @property
    def multiplier(self) -> float:
        """Factor applied to ``B^T A``."""
        return self.alpha / math.sqrt(self.rank)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TextToLoRAConfig:
        """Inverse of `to_json`. Raises TypeError or ValueError for missing, unknown or wrong fields."""
        return cls(**{**data, "layers": tuple(data["layers"])})
