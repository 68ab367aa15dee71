"""From a text to an adapter, in three modes behind one function.

    doc         a document is internalised by a hypernetwork that was trained for the base (Doc-to-LoRA)
    text        a description of a task becomes an adapter (Text-to-LoRA)
    simulated   as doc, with a hypernetwork of seeded random weights: it runs every step and knows nothing

No mode falls back on another: without a trained hypernetwork, doc and text raise ModelNotFoundError.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor

from continual_learning.errors import ConfigError, DocumentError, ModelNotFoundError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_layout, mlp_parts
from continual_learning.strategies.methods.doc2lora.adapter import adapter_of, check_fits, in_place
from continual_learning.strategies.methods.doc2lora.checkpoint import load_hypernetwork, load_text_hypernetwork
from continual_learning.strategies.methods.doc2lora.config import DocumentConfig, HypernetworkConfig
from continual_learning.strategies.methods.doc2lora.context import chat_affixes, document_chunks, named_affixes
from continual_learning.strategies.methods.doc2lora.generated_lora import Adapter, Place
from continual_learning.strategies.methods.doc2lora.hub import default_for, locate, no_hypernetwork
from continual_learning.strategies.methods.doc2lora.hypernetwork import Hypernetwork
from continual_learning.strategies.methods.doc2lora.network import DocumentHypernetwork
from continual_learning.strategies.methods.doc2lora.perceiver import Heads
from continual_learning.strategies.methods.doc2lora.text_to_lora import TextToLoRA

Mode = Literal["doc", "text", "simulated"]
MODES: tuple[Mode, ...] = ("doc", "text", "simulated")
SIMULATED = "simulated: made by random weights that were never trained; it says nothing about Doc-to-LoRA"
"""Note carried by every result of the simulated mode."""

ChunkCallback = Callable[[int, int], None]
"""Called after each chunk with the number of chunks done and the total."""
NetworkT = TypeVar("NetworkT", DocumentHypernetwork, Hypernetwork, TextToLoRA)

# B starts at zero, which would change nothing; at a hundredth of A's scale the model still writes language.
_SIMULATED_SCALE = 0.01
_SIMULATED_RANK = 8  # that of the published hypernetwork


@dataclass(frozen=True)
class Internalised:
    """A text turned into an adapter."""

    adapter: Adapter
    tokens: int
    """Number of tokens of the text, counted by the base's tokenizer."""
    chunks: int
    warnings: tuple[str, ...] = ()
    common: Adapter = field(default_factory=dict)
    """What is added in addition, once for all texts that the same network made adapters of."""
    basis: dict[Place, Tensor] = field(default_factory=dict)
    """The network's own A, for each place where adapters use it; a text of K chunks repeats it K times."""

    @property
    def whole(self) -> Adapter:
        """Both together: what to put in place for this text alone."""
        return in_place([(self.adapter, self.common)])


class AdapterGenerator(ABC):
    """Makes adapters for one base."""

    mode: Mode

    @abstractmethod
    def internalise(self, base: BaseModel, text: str, on_chunk: ChunkCallback | None = None) -> Internalised:
        """Turn the text into an adapter. Raises DocumentError for a text without tokens."""


class DocumentGenerator(AdapterGenerator):
    """Doc-to-LoRA: chunks, their activations, and a LoRA for each chunk, concatenated."""

    def __init__(
        self,
        base: BaseModel,
        hypernetwork: DocumentHypernetwork,
        chunk_tokens: int = 1024,
        mode: Mode = "doc",
    ):
        """Raise MismatchError if the hypernetwork was made for another base."""
        self.mode = mode
        self.hypernetwork = hypernetwork
        self._chunk_tokens = chunk_tokens
        affixes = hypernetwork.config.affixes
        self._affixes = named_affixes(base, *affixes) if affixes else chat_affixes(base)
        self._warnings = check_fits(base, hypernetwork.config)

    @torch.no_grad()
    def internalise(self, base: BaseModel, text: str, on_chunk: ChunkCallback | None = None) -> Internalised:
        """Run the base and the hypernetwork once per chunk, one chunk at a time to bound memory."""
        config = self.hypernetwork.config
        cut = document_chunks(base, text, self._chunk_tokens, self._affixes)
        made = []
        for number, ids in enumerate(cut.ids, 1):
            made.append(self.hypernetwork.generate(*self.hypernetwork.read(base, [ids])))
            if on_chunk:
                on_chunk(number, len(cut.ids))
        generated = {
            name: {half: torch.cat([m[name][half] for m in made]) for half in matrices}
            for name, matrices in made[0].items()
        }
        combined = self.hypernetwork.combine(generated, [len(cut.ids)])
        warnings = (*self._warnings, *_beyond_training(config, len(cut.ids), cut.size))
        return Internalised(
            adapter_of(config, combined, 0, config.ranks(len(cut.ids))),
            cut.tokens,
            len(cut.ids),
            warnings,
            self.hypernetwork.common(),
            self.hypernetwork.basis(),
        )


class DescriptionGenerator(AdapterGenerator):
    """Text-to-LoRA: a LoRA from the base's last hidden state of a description."""

    mode = "text"

    def __init__(self, base: BaseModel, network: TextToLoRA):
        """Raise MismatchError if the network was made for another base."""
        self.network = network
        self._warnings = check_fits(base, network.config)

    @torch.no_grad()
    def internalise(self, base: BaseModel, text: str, on_chunk: ChunkCallback | None = None) -> Internalised:
        """Read a description whole; one that does not fit in the window is a document, and is refused."""
        ids = base.encode(text.strip())
        if not 0 < len(ids) <= base.window:
            raise DocumentError(
                f"a task description of {len(ids)} tokens; expected 1 to {base.window}: describe the task in a few "
                "sentences, or learn a document in mode doc"
            )
        ids_1S = torch.tensor([ids], device=base.device)
        hidden_1SD = base.backbone(input_ids=ids_1S, use_cache=False).last_hidden_state
        config = self.network.config
        adapter = adapter_of(config, self.network.generate(hidden_1SD[:, -1]), 0, config.rank)
        if on_chunk:
            on_chunk(1, 1)
        return Internalised(adapter, len(ids), 1, self._warnings)


def make_generator(
    base: BaseModel,
    mode: Mode,
    source: str | None = None,
    chunk_tokens: int = 1024,
    seed: int = 0,
    rank: int | None = None,
) -> AdapterGenerator:
    """Return the generator of a mode. ``source`` names the hypernetwork (`hub.locate`); ``seed`` seeds a simulated one.

    ``rank`` is the rank of a simulated one, and the rank that a trained one must have; None: any. Networks are loaded
    once per base. Raises ModelNotFoundError if there is none, ModelError if it cannot be read, MismatchError if it is
    for another base, ConfigError if it has another rank.
    """
    if reason := missing(base.name, mode, source, base.fingerprint):
        raise ModelNotFoundError(reason)
    if mode == "simulated":
        size = rank or _SIMULATED_RANK
        made = base.remember(("simulated hypernetwork", seed, size), lambda: simulated_hypernetwork(base, seed, size))
        return DocumentGenerator(base, made, chunk_tokens, mode="simulated")
    if source is None:
        source = default_for(base.name, base.fingerprint)
        assert source is not None  # otherwise `missing` would have given a reason
    if mode == "text":
        described = _loaded(base, source, load_text_hypernetwork)
        _check_rank(source, described.config.rank, rank)
        return DescriptionGenerator(base, described)
    network = _loaded(base, source, load_hypernetwork)
    _check_rank(source, network.config.rank, rank)
    return DocumentGenerator(base, network, chunk_tokens)


def _check_rank(source: str, rank: int, wanted: int | None) -> None:
    if wanted not in (None, rank):
        raise ConfigError(
            f"lora_rank = {wanted}, and hypernetwork {source!r} gives each chunk rank {rank}; "
            f"set lora_rank to {rank}, or leave it out"
        )


def missing(base_name: str, mode: Mode, source: str | None, fingerprint: str | None = None) -> str | None:
    """Return what to tell a user who set no hypernetwork for a base that has none; None if nothing is missing.

    Without the base's ``fingerprint`` the one that was prepared for it is not known.
    """
    if mode == "simulated" or source is not None or (mode == "doc" and default_for(base_name, fingerprint)):
        return None
    return no_hypernetwork(base_name, mode)


def simulated_hypernetwork(base: BaseModel, seed: int, rank: int = _SIMULATED_RANK) -> Hypernetwork:
    """Return a small, untrained hypernetwork of random weights that writes to every MLP's last matrix."""
    parts = mlp_parts(base.mlp(0))
    name = f"{base.family.mlp_name}.{mlp_layout(base.mlp(0)).down}"
    config = HypernetworkConfig(
        base_name=base.name,
        context_width=base.hidden_size,
        modules={name: (parts.intermediate_size, parts.hidden_size)},
        layers=tuple(range(base.block_count)),
        rank=rank,
        multiplier=2 * rank**1.5,
        latent_width=64,
        latents=8,
        encoder=(True, True),
        heads=Heads(queries=4, keys=2, width=16),
        head_blocks=1,
    )
    network = Hypernetwork.initialised(config, seed)
    with torch.no_grad():
        for scaler_1LR1 in network.scaler_B.values():
            scaler_1LR1.fill_(_SIMULATED_SCALE)
    return _placed(base, network)


def _loaded(base: BaseModel, source: str, load: Callable[[Path], NetworkT]) -> NetworkT:
    path = Path(source).expanduser()
    changed = path.stat().st_mtime_ns if path.exists() else None  # another one may be put in its place
    key = ("hypernetwork", source, changed, load.__name__)
    return base.remember(key, lambda: _placed(base, load(locate(source))))


def _placed(base: BaseModel, network: NetworkT) -> NetworkT:
    return network.to(base.device)


def _beyond_training(config: DocumentConfig, chunks: int, size: int) -> tuple[str, ...]:
    found = []
    if chunks > config.trained_chunks:
        found.append(
            f"the text takes {chunks} chunks, and the hypernetwork was trained on at most {config.trained_chunks} a "
            "document: answers may be garbled; learn it as several documents"
        )
    if size > config.trained_chunk_tokens:
        found.append(
            f"chunks of {size} tokens, and the hypernetwork was trained on at most {config.trained_chunk_tokens}: "
            "answers may be garbled; lower chunk_tokens"
        )
    return tuple(found)
