"""LoRA in parallel with the linear layers of a base, with PEFT's own layers.

    out = linear(x) + alpha / rank * B A x,

with A random and B zero at the start, so that the output is exactly the base's (Hu et al. 2021, arXiv 2106.09685,
section 4.1). PEFT wraps its layers around the base's linear layers in a separate container, and `BaseModel.patched`
puts them in place: the model itself is never passed to PEFT, which would change it permanently.

Shapes: R = rank, D = inputs, F = outputs of a linear layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from continual_learning.errors import ConfigError, MissingExtraError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import is_transposed, linear_sizes
from continual_learning.model.published_names import published_name
from continual_learning.text.words import hash_63

ALL_LINEAR = "all-linear"
# Adapters are kept in half precision, which keeps memories small; tests show that nothing is lost.
STORED_TYPE = torch.float16

_ADAPTER = "default"


@dataclass(frozen=True)
class LoRA:
    """A LoRA adapter as the trained parameters (`gradient_descent.Trainable`).

    It keeps ``<path of the linear layer>.lora_A`` [R, D] and ``….lora_B`` [F, R].
    """

    rank: int
    alpha: float
    target_modules: str | tuple[str, ...] = ALL_LINEAR
    """Names of linear layers, or of the ends of their paths; ``all-linear``: all but the vocabulary head."""

    @contextmanager
    def installed(self, base: BaseModel, kept: Mapping[str, Tensor], seed: str) -> Iterator[dict[str, nn.Parameter]]:
        """The base with the adapter in place.

        Raises ConfigError for a name that matches no linear layer, MissingExtraError without PEFT.
        """
        layers = self._layers(base, seed)
        weights: dict[str, nn.Parameter] = {}
        for path, layer in layers.items():
            weights[f"{path}.lora_A"] = layer.lora_A[_ADAPTER].weight
            weights[f"{path}.lora_B"] = layer.lora_B[_ADAPTER].weight
        if kept:
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.copy_(kept[name])
        with base.patched(layers):
            yield weights

    def kept(self, base: BaseModel, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """The adapter's matrices in half precision."""
        return {name: weight.detach().to("cpu", STORED_TYPE).contiguous() for name, weight in weights.items()}

    def count(self, base: BaseModel) -> int:
        """Number of parameters in all A and B."""
        sizes = (linear_sizes(module) for module in self.targets(base).values())
        return sum(self.rank * (inputs + outputs) for inputs, outputs in sizes)

    def targets(self, base: BaseModel) -> dict[str, nn.Module]:
        """The linear layers that get an adapter, by path. Raises ConfigError for a name that matches none."""
        head = base.model.get_output_embeddings()
        linears: dict[str, nn.Module] = {
            path: module
            for path, module in base.model.named_modules()
            if (isinstance(module, nn.Linear) or is_transposed(module)) and module is not head
        }
        if self.target_modules == ALL_LINEAR:
            return linears
        wanted = (self.target_modules,) if isinstance(self.target_modules, str) else self.target_modules
        found = {name: [p for p in linears if p == name or p.endswith(f".{name}")] for name in wanted}
        for name, paths in found.items():
            if not paths:
                known = ", ".join(sorted({path.rpartition(".")[2] for path in linears}))
                raise ConfigError(
                    f"target_modules: {base.name} has no linear layer {name!r}; expected all-linear, {known}"
                )
        chosen = {path for paths in found.values() for path in paths}
        return {path: module for path, module in linears.items() if path in chosen}

    def transposed(self, base: BaseModel) -> bool:
        """Whether a layer with an adapter keeps its weight as [in, out]."""
        return any(is_transposed(module) for module in self.targets(base).values())

    def peft_config(self, names: list[str], transposed: bool, base_name: str) -> Any:
        """PEFT's own configuration of this adapter, a `peft.LoraConfig` for the layers with these paths.

        It gives the base the name by which other programs load it.
        Raises MissingExtraError without PEFT.
        """
        return _peft().LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=names,
            fan_in_fan_out=transposed,
            task_type="CAUSAL_LM",
            base_model_name_or_path=published_name(base_name),
        )

    def _layers(self, base: BaseModel, seed: str) -> dict[str, Any]:
        targets = self.targets(base)
        # A module's name may not contain a dot.
        names = {path: path.replace(".", "/") for path in targets}
        holder = nn.ModuleDict({names[path]: module for path, module in targets.items()})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash_63(seed))
            config = self.peft_config(list(names.values()), self.transposed(base), base.name)
            _peft().inject_adapter_in_model(config, holder, _ADAPTER)
        layers: dict[str, Any] = {path: holder[name] for path, name in names.items()}
        for layer in layers.values():  # PEFT makes them in the base's type, in which small steps are rounded away
            layer.lora_A.float()
            layer.lora_B.float()
        return layers


def adapter_paths(kept: Mapping[str, Tensor]) -> list[str]:
    """Paths of the layers that an adapter covers, sorted."""
    return sorted({name.rpartition(".")[0] for name in kept})


def peft_state_dict(kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The adapter under PEFT's names for its tensors in ``adapter_model.safetensors``, in fp32."""
    return {f"base_model.model.{name}.weight": tensor.float() for name, tensor in kept.items()}


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise MissingExtraError(
            "LoRA needs PEFT, which is not installed; install it with: pip install 'continual-learning-slm[baselines]'"
        ) from None
    return peft
