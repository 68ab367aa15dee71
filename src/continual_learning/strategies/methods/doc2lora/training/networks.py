"""The initial hypernetwork, of the kind and sizes that the settings ask for."""

from __future__ import annotations

from dataclasses import replace

from continual_learning.datasets.facts import fact_documents
from continual_learning.documents.shipped import background_texts
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import linear_sizes, mlp_layout, mlp_parts
from continual_learning.strategies.methods.doc2lora.adapter import linear_modules
from continual_learning.strategies.methods.doc2lora.config import HypernetworkConfig, LinearHypernetworkConfig
from continual_learning.strategies.methods.doc2lora.hypernetwork import Hypernetwork
from continual_learning.strategies.methods.doc2lora.linear import LinearHypernetwork
from continual_learning.strategies.methods.doc2lora.network import DocumentHypernetwork
from continual_learning.strategies.methods.doc2lora.perceiver import Heads
from continual_learning.strategies.methods.doc2lora.training.settings import HypernetworkTraining
from continual_learning.strategies.methods.doc2lora.training.targets import prompt_ids, reply_ids

_LINEAR_RANK, _READER_RANK, _PERCEIVER_RANK = 768, 16, 8
_LATENT_WIDTH, _CROSS_LAYERS = 128, 2  # for a Perceiver of 10 million parameters, which a CPU trains in hours
_FIT_TEXTS, _FIT_DOCUMENTS = 24, 4


def initial_network(base: BaseModel, settings: HypernetworkTraining) -> DocumentHypernetwork:
    """Return the network to start from, on the base's device and in fp32.

    The linear generator is fitted to the base, unless it is to ``start`` from another; the Perceiver is random.
    """
    network: DocumentHypernetwork
    if settings.generator == "linear":
        linear = linear_config(base, settings)
        if settings.start is None:
            network = LinearHypernetwork.fitted(base, linear, _fit_texts(base, settings.seed))
        else:
            network = LinearHypernetwork(linear)
    else:
        rank = settings.rank or _PERCEIVER_RANK
        perceiver = HypernetworkConfig(
            base_name=base.name,
            context_width=base.hidden_size,
            modules=_target(base),
            layers=settings.blocks or tuple(range(base.block_count)),
            rank=rank,
            multiplier=2 * rank**1.5,
            latent_width=_LATENT_WIDTH,
            latents=8,
            encoder=(True,) * _CROSS_LAYERS,
            heads=Heads(queries=4, keys=2, width=max(8, _LATENT_WIDTH // 4)),
            head_blocks=1,
            trained_chunks=settings.max_chunks,
        )
        network = Hypernetwork.initialised(perceiver, settings.seed)
    return network.to(base.device)


def linear_config(base: BaseModel, settings: HypernetworkTraining) -> LinearHypernetworkConfig:
    """Return the sizes of a linear generator for this base."""
    modules = _target(base)
    [(inputs, _)] = modules.values()
    linear = LinearHypernetworkConfig(
        base_name=base.name,
        context_width=base.hidden_size,
        modules=modules,
        layers=settings.blocks or memory_blocks(base.block_count),
        rank=settings.rank or min(_LINEAR_RANK, inputs),
        trained_chunks=settings.max_chunks,
    )
    if width := _READER_RANK if settings.reader_rank is None else settings.reader_rank:
        memory = min(linear.layers)
        blocks = tuple(range(max(0, memory - base.block_count // 3), memory + 1))
        linear = replace(linear, reader_modules=attention_modules(base), reader_layers=blocks, reader_rank=width)
    return linear


def _target(base: BaseModel) -> dict[str, tuple[int, int]]:
    """Return the last matrix of an MLP, by its path in a block, with its inputs and outputs."""
    parts, layout = mlp_parts(base.mlp(0)), mlp_layout(base.mlp(0))
    return {f"{base.family.mlp_name}.{layout.down}": (parts.intermediate_size, parts.hidden_size)}


def attention_modules(base: BaseModel) -> dict[str, tuple[int, int]]:
    """Return the linear modules of a block outside its MLP, by path in the block, with their inputs and outputs."""
    mlp = f"{base.family.mlp_name}."
    block = base.blocks[0]
    return {path: linear_sizes(block.get_submodule(path)) for path in linear_modules(block) if not path.startswith(mlp)}


def memory_blocks(count: int) -> tuple[int, ...]:
    """Return the block at four fifths of the depth, and the last one, after which no block alters what was written."""
    return tuple(sorted({count * 4 // 5, count - 1}))


def _fit_texts(base: BaseModel, seed: int) -> list[list[int]]:
    """Return ordinary texts, and questions with replies: what the base reads when it learns and when it answers."""
    made = fact_documents("train", _FIT_DOCUMENTS, 8, seed)
    read = [*background_texts()[:_FIT_TEXTS], *(item.document.text for item in made)]
    texts = [base.encode(text, add_special_tokens=True) for text in read]
    for item in made:
        for question, reply in zip(item.questions[:4], item.replies[:4], strict=True):
            texts.append([*prompt_ids(base, question.question), *reply_ids(base, reply)[:-1]])
    return [ids[: base.window] for ids in texts]
