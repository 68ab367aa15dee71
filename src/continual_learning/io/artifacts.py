"""Artifacts: a safetensors file that holds tensors and, in its header, JSON values that describe them.

Readers, starts, calibrations, checkpoints of training runs and learned passages are such files. Nothing in one is
executed. ``format`` and ``base`` (the fingerprint of the base model that an artifact was made for) are plain text in
the header, every other value is JSON.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from continual_learning.errors import CorruptMemoryError, MismatchError
from continual_learning.io.files import make_folder, write_atomic

_TEXT = ("format", "base")
# What a damaged or foreign file can raise, while it is read and while its values are used.
DAMAGED = (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError)


@dataclass(frozen=True)
class Artifact:
    """The content of an artifact."""

    tensors: dict[str, Tensor]
    """By name, mapped from the file and not copied."""
    header: dict[str, Any]

    def by_block(self) -> dict[int, dict[str, Tensor]]:
        """The tensors named ``<block>.<name>``, as block -> name -> tensor."""
        return by_block(self.tensors)


def by_block(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Tensors named ``<block>.<name>``, as block -> name -> tensor, first block first."""
    found: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        block, _, name = key.partition(".")
        found.setdefault(int(block), {})[name] = tensor
    return dict(sorted(found.items()))


def write_artifact(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], *, sync: bool = True) -> None:
    """Write an artifact, wholly or not at all.

    Args:
        path: The file to write; its folder is created if it is missing.
        tensors: No two may share memory.
        header: ``format`` and ``base`` are strings, everything else JSON values.
        sync: Whether it must survive a power cut; what can be computed anew need not.

    Raises:
        OSError: It cannot be written.
    """
    make_folder(path.parent)
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = {name: value if name in _TEXT else json.dumps(value, sort_keys=True) for name, value in header.items()}
    write_atomic(path, save(on_cpu, metadata=text), sync=sync)


def read_artifact(path: Path, *, kind: str | None = None) -> Artifact:
    """Read an artifact.

    Args:
        path: The file.
        kind: The ``format`` that its header must name.

    Raises:
        ValueError: It is of another format, or its header is not JSON.
        OSError, SafetensorError: It cannot be read, or is not a safetensors file.
    """
    with safe_open(str(path), "pt") as file:
        text: dict[str, str] = file.metadata() or {}
        if kind is not None and text.get("format") != kind:
            raise ValueError(f"its format is {text.get('format')!r}, expected {kind!r}")
        header = {name: value if name in _TEXT else json.loads(value) for name, value in text.items()}
        return Artifact({name: file.get_tensor(name) for name in file.keys()}, header)  # noqa: SIM118 - not a dict


@contextlib.contextmanager
def damage_reported(what: str, next_step: str) -> Iterator[None]:
    """Turn whatever a damaged artifact raises into one line about ``what``.

    Raises:
        CorruptMemoryError: Reading failed inside the block.
    """
    try:
        yield
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CorruptMemoryError(f"{what}: cannot be read ({reason}); {next_step}") from None


def check_base(what: str, made_for: str, fingerprint: str, name: str, command: str) -> None:
    """Check that an artifact and a base model belong together.

    Args:
        what: The artifact, as an error names it.
        made_for: The fingerprint of the base model that it was made for.
        fingerprint: The fingerprint of the base model in use.
        name: The name of that base model.
        command: The command that makes such an artifact.

    Raises:
        MismatchError: They do not.
    """
    if made_for != fingerprint:
        raise MismatchError(
            f"{what}: trained for the base {made_for[:12]}, and {name} is {fingerprint[:12]}; train one for it with "
            f"`{command}`"
        )
