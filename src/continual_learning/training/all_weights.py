"""All weights of a base as the trained parameters: fp32 copies in place of its own, of which the change is kept.

The base's own tensors are never written to: while the copies are in place the modules merely refer to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from continual_learning.errors import ConfigError
from continual_learning.model.base_model import BaseModel

# Changes are kept, not weights: half precision is finest near zero, where the changes are.
STORED_TYPE = torch.float16


class AllWeights:
    """Every parameter of the base (`gradient_descent.Trainable`). The change of each is kept in fp16, by name."""

    @contextmanager
    def installed(
        self, base: BaseModel, kept: Mapping[str, Tensor], seed: str = ""
    ) -> Iterator[dict[str, nn.Parameter]]:
        """The base with changed weights in place of its own. Nothing here is random: ``seed`` is not used.

        Raises ConfigError for a base whose weights are held in 8 or 4 bits.
        """
        require_full(base)
        weights: dict[str, nn.Parameter] = {}
        for name, parameter in base.model.named_parameters():
            copy = parameter.detach().to(torch.float32, copy=True)
            if kept:
                copy += kept[name].to(copy.device, torch.float32)
            weights[name] = nn.Parameter(copy)
        with parameters_in_place(base.model, weights):
            yield weights

    def kept(self, base: BaseModel, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """The change of each weight. The base must have its own weights back in place."""
        own = dict(base.model.named_parameters())
        return {
            name: (weight.detach() - own[name].detach().float()).to("cpu", STORED_TYPE)
            for name, weight in weights.items()
        }

    def count(self, base: BaseModel) -> int:
        """Number of all parameters; tied ones count once."""
        return sum(parameter.numel() for parameter in base.model.parameters())


def require_full(base: BaseModel) -> None:
    """Raise ConfigError if the base's weights are held in 8 or 4 bits, and so cannot be trained themselves."""
    if base.frozen_weights != "full":
        raise ConfigError(
            f"{base.name} was loaded with frozen_weights = {base.frozen_weights!r}, and all its weights were to be "
            "trained; expected full: set model.frozen_weights to full, or choose a strategy that adds weights, such as "
            "ttt or lora"
        )


@contextmanager
def parameters_in_place(model: nn.Module, weights: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Replace a model's own parameters by name, wherever each is used; its own are restored on exit."""
    own = dict(model.named_parameters())
    new = {id(own[name]): weight for name, weight in weights.items()}  # tied parameters stay tied
    places = [
        (module, name, parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and id(parameter) in new
    ]
    try:
        for module, name, parameter in places:
            module._parameters[name] = new[id(parameter)]
        yield
    finally:
        for module, name, parameter in places:
            module._parameters[name] = parameter
