"""Hypernetwork files: the published format, read without executing it, and a folder of safetensors + JSON.

The published ``pytorch_model.bin`` is a pickle: tensors by name, and configuration objects of classes that this
package does not have. It is read with PyTorch's restricted unpickler, which calls nothing but the tensor builders and
the empty classes below, registered under the names that the file uses. Anything else in it is refused unread.
Sizes are taken from the tensors; the configuration is used only for what they do not show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from continual_learning.errors import ModelError, ModelNotFoundError, first_line
from continual_learning.io.artifacts import DAMAGED, read_artifact, write_artifact
from continual_learning.io.files import write_atomic
from continual_learning.strategies.methods.doc2lora.config import (
    HypernetworkConfig,
    LinearHypernetworkConfig,
    TextToLoRAConfig,
)
from continual_learning.strategies.methods.doc2lora.hub import PUBLISHED_FILE, published_for
from continual_learning.strategies.methods.doc2lora.hypernetwork import Hypernetwork
from continual_learning.strategies.methods.doc2lora.linear import LinearHypernetwork
from continual_learning.strategies.methods.doc2lora.network import DocumentHypernetwork
from continual_learning.strategies.methods.doc2lora.perceiver import Heads
from continual_learning.strategies.methods.doc2lora.text_to_lora import TextToLoRA

CONFIG_FILE, WEIGHTS_FILE = "hypernetwork.json", "hypernetwork.safetensors"
FORMAT_VERSION = 1

_PREFIX = "_orig_mod."  # prefix of the names if the model was compiled when it was saved
_PUBLISHED_HEAD_WIDTH = 128  # the file shows only the product of heads and width
_STUBBED = (
    "ctx_to_lora.configs.CtxEncoderArguments",
    "ctx_to_lora.modeling.aggregator.AggregatorConfig",
    "ctx_to_lora.modeling.hypernet.HypernetConfig",
    "ctx_to_lora.modeling_utils.HypernetConfig",
    "peft.tuners.lora.config.LoraConfig",
    "peft.tuners.lora.config.LoraRuntimeConfig",
    "peft.utils.peft_types.PeftType",
    "peft.utils.peft_types.TaskType",
)
_UNSAFE = re.compile(r"GLOBAL (\S+)")

NetworkT = TypeVar("NetworkT", Hypernetwork, LinearHypernetwork, TextToLoRA)
_KINDS: dict[str, tuple[Any, Any]] = {
    "Hypernetwork": (Hypernetwork, HypernetworkConfig),
    "LinearHypernetwork": (LinearHypernetwork, LinearHypernetworkConfig),
    "TextToLoRA": (TextToLoRA, TextToLoRAConfig),
}
_DOCUMENT_KINDS, _TEXT_KINDS = ("Hypernetwork", "LinearHypernetwork"), ("TextToLoRA",)


class _Stub:
    """Stand-in for a class named in the file: accepts whatever the pickle sets, and does nothing."""

    def __init__(self, *values: object):
        self.values = values


def load_hypernetwork(folder_or_file: str | Path) -> DocumentHypernetwork:
    """Load a document hypernetwork, on the CPU, in fp32 and in eval mode.

    ``folder_or_file`` is a file in the published format, a folder with one ``pytorch_model.bin`` anywhere in it, or a
    folder that `save_hypernetwork` wrote. Nothing in the file is executed. Raises ModelNotFoundError if there is
    none, ModelError if it is damaged or incomplete, has unexpected shapes, or holds anything but data.
    """
    path = Path(folder_or_file).expanduser()
    if path.is_dir():
        if (path / CONFIG_FILE).is_file():
            found: DocumentHypernetwork = _load_folder(path, _DOCUMENT_KINDS)
            return found
        path = _published_file(path)
    elif not path.is_file():
        raise ModelNotFoundError(f"hypernetwork {str(path)!r} was not found; expected a file or folder: check the path")
    config, tensors = read_published(path)
    return _built(Hypernetwork, config, tensors, path)


def load_text_hypernetwork(folder: str | Path) -> TextToLoRA:
    """As `load_hypernetwork`, for task descriptions, from a folder that `save_hypernetwork` wrote."""
    path = Path(folder).expanduser()
    if not (path / CONFIG_FILE).is_file():
        raise ModelNotFoundError(f"text hypernetwork {str(path)!r} was not found; expected a folder with {CONFIG_FILE}")
    found: TextToLoRA = _load_folder(path, _TEXT_KINDS)
    return found


def save_hypernetwork(network: DocumentHypernetwork | TextToLoRA, folder: str | Path) -> None:
    """Write ``hypernetwork.json`` and ``hypernetwork.safetensors``, in the network's dtype."""
    path = Path(folder)
    write_artifact(path / WEIGHTS_FILE, network.state_dict(), {"format": "pt"})
    content = {"format": FORMAT_VERSION, "kind": type(network).__name__, "config": network.config.to_json()}
    write_atomic(path / CONFIG_FILE, json.dumps(content, indent=1).encode())


def read_published(path: Path) -> tuple[HypernetworkConfig, dict[str, Tensor]]:
    """Return the configuration and tensors of a file in the published format. Raises ModelError."""
    content = _unpickled(path)
    tensors = {k.removeprefix(_PREFIX): v for k, v in content.items() if isinstance(v, Tensor)}
    made = {k.removeprefix(_PREFIX): v for k, v in content.items() if not isinstance(v, Tensor)}
    settings, encoder = _fields(made, "hypernet_config", path), _fields(made, "ctx_encoder_args", path)
    _refuse_variants(settings, path)
    config = _config(_Sizes(tensors, path), settings, encoder, str(made.get("base_model_name_or_path", "unnamed")))
    head = tensors.get("head.weight")
    if head is not None and head.ndim == 3:  # the file leaves out the axis of a single module
        tensors["head.weight"] = head.unsqueeze(1)
    return config, tensors


def _unpickled(path: Path) -> dict[str, Any]:
    named = [(type(name.rpartition(".")[2], (_Stub,), {}), name) for name in _STUBBED]
    try:
        with torch.serialization.safe_globals([*named, set]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a broken file can make the unpickler raise anything
        if unsafe := _UNSAFE.search(str(error)):
            raise ModelError(
                f"{path}: refused, it names {unsafe[1]}, which could run code, and nothing of it was run; expected "
                "only tensors and settings of a Doc-to-LoRA checkpoint: get it again from its makers"
            ) from None
        raise ModelError(
            f"{path}: damaged or no Doc-to-LoRA checkpoint ({type(error).__name__}: {_reason(error)}); expected a "
            "whole pytorch_model.bin: fetch it again"
        ) from None
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise ModelError(f"{path}: holds a {type(content).__name__}; expected a Doc-to-LoRA checkpoint, a dict by name")
    return dict(content)


class _Sizes:
    """Shapes of a file's tensors, with errors that name the missing or odd tensor."""

    def __init__(self, tensors: Mapping[str, Tensor], path: Path):
        self.names, self.path, self._tensors = tuple(tensors), path, tensors

    def shape(self, name: str, axes: int) -> tuple[int, ...]:
        """Return the shape of a tensor, which must have this many axes."""
        if name not in self._tensors:
            raise ModelError(f"{self.path}: no tensor {name!r}; expected a complete Doc-to-LoRA checkpoint")
        shape = tuple(self._tensors[name].shape)
        if len(shape) != axes:
            raise ModelError(f"{self.path}: {name!r} has shape {list(shape)}; expected {axes} axes")
        return shape

    def numbered(self, prefix: str) -> int:
        """Return how many ``<prefix><n>.`` there are."""
        found = {int(m[1]) for name in self.names if (m := re.match(rf"{re.escape(prefix)}(\d+)\.", name))}
        return max(found, default=-1) + 1

    def after(self, prefix: str) -> list[str]:
        """Return the rest of every name that starts with the prefix, sorted."""
        return sorted(name.removeprefix(prefix) for name in self.names if name.startswith(prefix))

    def heads(self, name: str) -> int:
        """Return the number of heads that the rows of a projection make up."""
        rows = self.shape(name, 2)[0]
        if rows % _PUBLISHED_HEAD_WIDTH or not rows:
            raise ModelError(
                f"{self.path}: {name!r} has {rows} rows; expected heads of {_PUBLISHED_HEAD_WIDTH} rows each"
            )
        return rows // _PUBLISHED_HEAD_WIDTH


def _config(
    sizes: _Sizes, settings: Mapping[str, Any], encoder: Mapping[str, Any], base_name: str
) -> HypernetworkConfig:
    perceiver = "aggregator.perceiver"
    modules: dict[str, tuple[int, int]] = {}
    count = rank = 0
    for name in sizes.after("bias_A."):
        count, rank, inputs = sizes.shape(f"bias_A.{name}", 3)
        modules[name] = (inputs, sizes.shape(f"bias_B.{name}", 3)[2])
    if not modules:
        raise ModelError(f"{sizes.path}: no tensor 'bias_A.…'; expected one for each target module")
    width = sizes.shape(f"{perceiver}.encoder.latents_q", 2)[1]
    # A block is one cross-attention layer and this many self-attention layers; the decoder has none of the latter.
    among = _fields(settings, "aggregator_config", sizes.path).get("num_self_attn_per_block", 0)
    if not isinstance(among, int) or among < 0:
        raise ModelError(f"{sizes.path}: num_self_attn_per_block is {among!r}; expected a number of layers")
    cross = {
        part: tuple(i % (1 + alone) == 0 for i in range(sizes.numbered(f"{perceiver}.{part}.layers.")))
        for part, alone in (("encoder", among), ("decoder", 0))
    }
    if not all(cross.values()):
        raise ModelError(f"{sizes.path}: no tensor '{perceiver}.….layers.0.…'; expected a layer or more in each part")
    first = f"{perceiver}.encoder.layers.0.self_attn"
    queries, keys = sizes.heads(f"{first}.q_proj.weight"), sizes.heads(f"{first}.k_proj.weight")
    lora = _fields(settings, "lora_config", sizes.path)
    kind = str(encoder.get("ctx_encoder_type"))
    if kind not in ("per_layer_activations", "early_exit", "embed_only"):
        raise ModelError(f"{sizes.path}: ctx_encoder_type is {kind!r}; expected per_layer_activations or early_exit")
    published = published_for(base_name)
    depth = encoder.get("layer_idx" if kind == "early_exit" else "ctx_encoder_last_layer")
    try:
        return HypernetworkConfig(
            base_name=base_name,
            context_width=sizes.shape(f"{perceiver}.modality_projection.gate_proj.weight", 2)[1],
            modules=modules,
            layers=_layer_indices(settings, count, sizes.path),
            rank=rank,
            multiplier=float(lora["lora_alpha"]),
            latent_width=width,
            latents=sizes.shape(f"{perceiver}.encoder.latents_q", 2)[0],
            encoder=cross["encoder"],
            decoder=cross["decoder"],
            heads=Heads(queries, keys, _PUBLISHED_HEAD_WIDTH),
            head_blocks=sizes.numbered("layers."),
            head_blocks_per_layer=not sizes.after("layers.0.mlp."),
            use_bias=settings.get("use_bias") is not False,
            context_encoder=kind,  # type: ignore[arg-type]  # one of the three, as was checked
            context_blocks=None if depth is None else int(depth),
            affixes=published.affixes if published else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{sizes.path}: its settings cannot be used ({type(error).__name__}: {_reason(error)}); expected those "
            "of a Doc-to-LoRA checkpoint"
        ) from None


def _layer_indices(settings: Mapping[str, Any], count: int, path: Path) -> tuple[int, ...]:
    found = settings.get("layer_indices")
    layers = tuple(range(count)) if found is None else tuple(int(i) for i in found)
    if len(layers) != count:
        raise ModelError(f"{path}: layer_indices names {len(layers)} layers; expected {count}, as its tensors have")
    return layers


def _refuse_variants(settings: Mapping[str, Any], path: Path) -> None:
    """Refuse options of the reference that change the computation and that no published checkpoint uses."""
    aggregator = _fields(settings, "aggregator_config", path)
    odd = {
        "per_rank_gen": (settings.get("per_rank_gen", True), True),
        "extra_modules": (settings.get("extra_modules") or None, None),
        "aggregator_type": (aggregator.get("aggregator_type", "perceiver"), "perceiver"),
    }
    for name, (value, expected) in odd.items():
        if value != expected:
            raise ModelError(f"{path}: {name} is {value!r}; expected {expected!r}, as in the published checkpoints")


def _fields(holder: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    found = holder.get(name)
    if not isinstance(found, _Stub):
        raise ModelError(f"{path}: no {name!r} in it; expected the settings of a Doc-to-LoRA checkpoint")
    return vars(found)


def _published_file(folder: Path) -> Path:
    direct = folder / PUBLISHED_FILE
    if direct.is_file():
        return direct
    found = sorted(folder.rglob(PUBLISHED_FILE))
    if len(found) == 1:
        return found[0]
    several = f"several ({', '.join(str(f.relative_to(folder)) for f in found)})" if found else "none"
    raise ModelNotFoundError(
        f"folder {str(folder)!r} holds {several}; expected one {PUBLISHED_FILE} or {CONFIG_FILE}: name the file itself"
    )


def _load_folder(folder: Path, kinds: tuple[str, ...]) -> Any:
    path = folder / CONFIG_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        form, kind, fields = content["format"], content["kind"], content["config"]
        if form != FORMAT_VERSION or kind not in kinds:
            raise ModelError(
                f"{path}: a {kind} of format {form}; expected a {' or '.join(kinds)} of format {FORMAT_VERSION}"
            )
        network, config_class = _KINDS[kind]
        config = config_class.from_json(fields)
        tensors = read_artifact(folder / WEIGHTS_FILE).tensors
    except DAMAGED as error:
        raise ModelError(
            f"{folder}: cannot be read as a hypernetwork ({type(error).__name__}: {_reason(error)}); expected "
            f"{CONFIG_FILE} and {WEIGHTS_FILE} as they were saved"
        ) from None
    return _built(network, config, tensors, folder)


def _built(network: type[NetworkT], config: Any, tensors: Mapping[str, Tensor], path: Path) -> NetworkT:
    """Return the network with these weights in fp32. Raises ModelError naming the first tensor that does not fit."""
    try:
        with torch.device("meta"):
            made = network(config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path}: its sizes cannot be used ({type(error).__name__}: {_reason(error)}); expected a hypernetwork "
            "as it was saved"
        ) from None
    expected = {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()}
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"holds {unknown[0]!r}, which nothing here reads"
        others = len(missing) + len(unknown) - 1
        more = f" (and {others} more tensors do not match)" if others else ""
        raise ModelError(f"{path}: {what}{more}; expected a complete hypernetwork: fetch it again")
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            found = list(tensors[name].shape)
            raise ModelError(f"{path}: {name!r} has shape {found}; expected {list(shape)}, to fit the other tensors")
    made.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    nn.Module.train(made, False)
    return made


def _reason(error: BaseException) -> str:
    # PyTorch puts advice both before and after the error itself.
    return first_line(str(error).partition("WeightsUnpickler error:")[2] or error)
