"""A device to test against on a CPU: what would be on a GPU is marked, and mixing it with other tensors is an error.

The weights are marked to begin with. What is computed from marked tensors is marked. A marked tensor says that it is on
``cpu:0``, so that what is made there or moved there is marked too, and what goes to ``cpu`` is not. Allowed are what
CUDA allows: tensors without dimensions, indices on the CPU, and copies. Seen is all that goes through PyTorch's Python
functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

MARK, DEVICE = "_on_the_device", "cpu:0"
# What may have tensors of both.
FREE = {"copy_", "__setitem__", "__get__", "__set__", "backward"}


class MixedDevicesError(AssertionError):
    """What would be "Expected all tensors to be on the same device" on a GPU."""


def mark(module: nn.Module) -> None:
    """Say that a module's weights are on the device."""
    for tensor in (*module.parameters(), *module.buffers()):
        setattr(tensor, MARK, True)


def on_device(tensor: Tensor) -> bool:
    """Whether a tensor would be on the device."""
    return bool(tensor.__dict__.get(MARK, False))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from tensors_in(one)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | torch.Size):
        for one in value:
            yield from tensors_in(one)


def _here(value: Any) -> Any:
    """An argument as it is on this machine."""
    return torch.device("cpu") if isinstance(value, torch.device | str) and str(value) == DEVICE else value


class DeviceWatch(TorchFunctionMode):
    """Within the block, tensors are followed, and mixing them raises MixedDevicesError."""

    def __enter__(self) -> DeviceWatch:
        plain = self._plain = nn.Parameter.__new__  # it is made in C, past this mode

        def new(cls: Any, data: Tensor | None = None, requires_grad: bool = True) -> Any:
            made = plain(cls, data, requires_grad)
            setattr(made, MARK, data is not None and on_device(data))
            return made

        nn.Parameter.__new__ = staticmethod(new)  # type: ignore[assignment]
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        nn.Parameter.__new__ = self._plain  # type: ignore[method-assign]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        whole = str(resolve_name(func) or getattr(func, "__name__", func))
        name = whole.rpartition(".")[2]
        given = list(tensors_in([args, kwargs]))
        device = any(map(on_device, given))
        if whole.endswith("device.__get__"):
            return torch.device(DEVICE if device else "cpu")
        if name not in FREE:
            self._check(name, args, given, device)
        moved_to = args[1:2] if name == "to" else ()
        places = [a for a in (*moved_to, kwargs.get("device")) if isinstance(a, torch.device | str)]
        if name == "cpu":
            device = False
        elif places:
            device = torch.device(places[0]).index is not None
        elif name == "to" and len(given) > 1:  # to another tensor's device
            device = on_device(given[1])
        result = func(*map(_here, args), **{key: _here(value) for key, value in kwargs.items()})
        if name in {"cpu", "to"} and result is args[0] and device != on_device(result):
            result = result.view_as(result)  # nothing had to be moved here; there it is another tensor
        if name == "__set__" and isinstance(args[1], Tensor):  # of ``.data``
            setattr(args[0], MARK, on_device(args[1]))
        for tensor in tensors_in(result):
            if device != on_device(tensor) and not any(tensor is one for one in given):
                setattr(tensor, MARK, device)
        return result

    @staticmethod
    def _check(name: str, args: tuple[Any, ...], given: list[Tensor], device: bool) -> None:
        if name in {"numpy", "__array__"} and device:
            raise MixedDevicesError(f"{name}() of a tensor on the device")
        if not device or name in {"to", "cpu", "type_as"}:
            return
        others = [tensor for tensor in given if tensor.ndim and not on_device(tensor)]
        if name == "__getitem__" and on_device(args[0]):
            return  # indices may be on the CPU
        if others:
            shapes = [tuple(tensor.shape) for tensor in others]
            raise MixedDevicesError(f"{name} of tensors on the device and tensors on the CPU, of shapes {shapes}")
