"""Generated LoRA on a base model: applied through PEFT's layers, and exported as PEFT files.

An adapter is a value: for each place (a block and a target module in it) a low-rank change, with the multiplier already
in B. Adapters add up exactly: their ranks are concatenated in order.

Shapes: G = documents, L = layers, K = ranks with padding, R = rank, I, O = inputs and outputs of a module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from continual_learning.errors import InputError, MismatchError, MissingExtraError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import is_transposed, linear_sizes
from continual_learning.model.published_names import adapter_metadata, published_name
from continual_learning.strategies.methods.doc2lora.config import (
    DocumentConfig,
    HypernetworkConfig,
    LinearHypernetworkConfig,
    TextToLoRAConfig,
)
from continual_learning.strategies.methods.doc2lora.generated_lora import (
    Adapter,
    Generated,
    GeneratedLinear,
    LowRank,
    concatenated,
)

NetworkConfig = DocumentConfig | TextToLoRAConfig

_NAME = "document"  # name of the adapter in PEFT's layers
_PEFT_WEIGHTS = "adapter_model.safetensors"


def adapter_of(config: NetworkConfig, combined: Generated, row: int, ranks: int) -> Adapter:
    """Return the adapter of one row of generated or combined matrices, without padding: its first ``ranks`` ranks."""
    adapter: Adapter = {}
    for name, matrices in combined.items():
        for number, block in enumerate(config.layers):
            A_RI, B_RO = (matrices[half][row, number, :ranks] for half in ("A", "B"))
            adapter[block, name] = LowRank(A_RI, B_RO * config.multiplier)
    return adapter


def merged(adapters: Sequence[Adapter]) -> Adapter:
    """Return the sum of adapters, which may change different places."""
    places = sorted({place for adapter in adapters for place in adapter})
    return {place: concatenated([a[place] for a in adapters if place in a]) for place in places}


def in_place(parts: Sequence[tuple[Adapter, Adapter]]) -> Adapter:
    """Return what is put into the base for several documents: their own adapters, and what each network adds.

    The latter is included once per network, however many documents it wrote adapters for.
    """
    once: list[Adapter] = []
    for _, common in parts:
        if common and not any(_same(common, other) for other in once):
            once.append(common)
    return merged([*(own for own, _ in parts), *once])


def _same(one: Adapter, other: Adapter) -> bool:
    return one.keys() == other.keys() and all(
        a.shape == b.shape and torch.equal(a, b) for place in one for a, b in zip(one[place], other[place], strict=True)
    )


def adapter_bytes(adapter: Adapter) -> int:
    """Size of all matrices in bytes."""
    return sum(m.numel() * m.element_size() for low_rank in adapter.values() for m in low_rank)


def module_path(base: BaseModel, block: int, name: str) -> str:
    """Return the dotted path, inside the base's model, of a block's target module.

    ``name`` is the end of the path, such as ``down_proj`` or ``mlp.c_proj``. Raises MismatchError if the block has no
    such linear module, or several.
    """
    if not 0 <= block < base.block_count:
        raise MismatchError(
            f"the hypernetwork writes to block {block}; the base {base.name!r} has blocks 0 to "
            f"{base.block_count - 1}: use the base that it was made for"
        )
    linear = linear_modules(base.blocks[block])
    found = [path for path in linear if path == name or path.endswith(f".{name}")]
    if len(found) != 1:
        problem = f"{len(found)} modules {name!r}" if found else f"no module {name!r}"
        raise MismatchError(
            f"a block of the base {base.name!r} has {problem}; expected one of {', '.join(linear)}: use the base that "
            "the hypernetwork was made for"
        )
    return f"{base.block_path(block)}.{found[0]}"


def linear_modules(block: nn.Module) -> list[str]:
    """Return the paths, inside a block, of its linear modules."""
    return [path for path, module in block.named_modules() if isinstance(module, nn.Linear) or is_transposed(module)]


def check_fits(base: BaseModel, config: NetworkConfig) -> tuple[str, ...]:
    """Check that a hypernetwork was made for a base like this one.

    Raises MismatchError if its sizes are not those of this base. Returns a warning if only the name differs.
    """
    if config.context_width != base.hidden_size:
        raise MismatchError(
            f"the hypernetwork was made for {config.base_name!r}, of hidden size {config.context_width}; the base "
            f"{base.name!r} has {base.hidden_size}: use the base that it was made for"
        )
    if isinstance(config, HypernetworkConfig) and config.per_layer:
        layers = config.context_blocks or base.block_count
        if layers != len(config.layers) or layers > base.block_count:
            raise MismatchError(
                f"the hypernetwork was made for {config.base_name!r} and reads {len(config.layers)} layers; the base "
                f"{base.name!r} has {base.block_count}: use the base that it was made for"
            )
    places = [(block, name, sizes) for block in config.layers for name, sizes in config.modules.items()]
    if isinstance(config, LinearHypernetworkConfig):
        places += [
            (block, name, sizes) for block in config.reader_layers for name, sizes in config.reader_modules.items()
        ]
    for block, name, expected in places:
        path = module_path(base, block, name)
        if (found := linear_sizes(base.model.get_submodule(path))) != expected:
            raise MismatchError(
                f"the hypernetwork was made for {config.base_name!r}, with {expected[0]} inputs and {expected[1]} "
                f"outputs of {name!r}; {path} of {base.name!r} has {found[0]} and {found[1]}: use the base that it "
                "was made for"
            )
    if Path(config.base_name).name.lower() != Path(base.name).name.lower():
        return (f"the hypernetwork was made for {config.base_name!r}, which may differ from the base {base.name!r}",)
    return ()


@contextmanager
def installed(base: BaseModel, adapter: Adapter) -> Iterator[None]:
    """Put the adapter into the base as PEFT layers, and take it out again whatever happens.

    Differentiable with respect to the adapter's matrices. If these have a leading axis N, row n of a batch of N uses
    adapter n.
    """
    with base.patched(lora_layers(base, adapter)):
        yield


def lora_layers(base: BaseModel, adapter: Adapter) -> dict[str, nn.Module]:
    """Return, by path in the model, the PEFT layer that replaces each module the adapter changes."""
    if not adapter:
        return {}
    changes = _by_path(base, adapter)
    # PEFT replaces the modules of a model. It gets a holder instead, so that the model itself never changes.
    originals = [base.model.get_submodule(path) for path in changes]
    holder = nn.ModuleDict({str(n): original for n, original in enumerate(originals)})
    ranks = {str(n): low_rank.rank for n, low_rank in enumerate(changes.values())}
    config = _lora_config(r"\d+", ranks, any(is_transposed(m) for m in originals))
    _peft().inject_adapter_in_model(config, holder, adapter_name=_NAME, low_cpu_mem_usage=True)
    for number, (low_rank, original) in enumerate(zip(changes.values(), originals, strict=True)):
        layer: Any = holder[str(number)]
        place: Any = original.weight
        layer.lora_A[_NAME] = GeneratedLinear(low_rank.A_RI.to(place.device))
        layer.lora_B[_NAME] = GeneratedLinear(low_rank.B_RO.mT.to(place.device))
    return {path: holder[str(n)] for n, path in enumerate(changes)}


def export_peft(base: BaseModel, adapter: Adapter, folder: str | Path) -> Path:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``, as ``PeftModel.from_pretrained`` loads them.

    Raises InputError for an empty adapter.
    """
    metadata = adapter_metadata(base.name, base.fingerprint)
    return write_peft_files(metadata, _by_path(base, adapter), transposed(base, adapter), folder)


def write_peft_files(
    metadata: Mapping[str, str], changes: Mapping[str, LowRank], transposed: bool, folder: str | Path
) -> Path:
    """As `export_peft`, for changes by module path and without the base, which `adapter_metadata` describes.

    ``transposed``: the modules are Conv1D.
    """
    if not changes:
        raise InputError("nothing is learned yet; expected at least one document to export: learn one first")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    ranks = {path: low_rank.rank for path, low_rank in changes.items()}
    config = _lora_config(sorted(ranks), ranks, transposed)
    config.base_model_name_or_path = published_name(metadata["base_name"])
    config.inference_mode = True
    config.save_pretrained(target)
    tensors = {}
    for path, (A_RI, B_RO) in changes.items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = A_RI.detach().cpu().contiguous()
        tensors[f"base_model.model.{path}.lora_B.weight"] = B_RO.detach().mT.cpu().contiguous()
    save_file(tensors, target / _PEFT_WEIGHTS, metadata=dict(metadata))
    return target


def transposed(base: BaseModel, adapter: Adapter) -> bool:
    """Return whether any module that the adapter changes stores its weight as [in, out]."""
    return any(is_transposed(base.model.get_submodule(module_path(base, *place))) for place in adapter)


def _by_path(base: BaseModel, adapter: Adapter) -> dict[str, LowRank]:
    """Return the adapter by module path in the model; changes under two names of one module add up."""
    parts: dict[str, list[LowRank]] = {}
    for place, low_rank in adapter.items():
        parts.setdefault(module_path(base, *place), []).append(low_rank)
    return {path: concatenated(several) for path, several in parts.items()}


def _lora_config(targets: str | list[str], ranks: Mapping[str, int], transposed: bool) -> Any:
    """Return PEFT's settings. PEFT multiplies by alpha / r, but B holds the multiplier already, so alpha is r."""
    rank = max(ranks.values())
    others = {name: r for name, r in ranks.items() if r != rank}
    return _peft().LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=rank,
        target_modules=targets,
        rank_pattern=others,
        alpha_pattern=dict(others),
        fan_in_fan_out=transposed,
    )


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise MissingExtraError(
            "Doc-to-LoRA needs PEFT, which is not installed; install it with: pip install 'continual-learning-slm"
            "[baselines]'"
        ) from None
    return peft
