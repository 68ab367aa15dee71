"""States to bytes and back: one safetensors file for each part, JSON for the rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from continual_learning.errors import MismatchError
from continual_learning.memory.store.manifest import DamagedFile, StoredPart

# torch and safetensors.torch are imported inside the functions: `memory list` and `memory history`
# need neither, and importing torch takes seconds.
if TYPE_CHECKING:
    import torch

    from continual_learning.memory.state import State

Migration = Callable[[dict[str, Any], dict[str, "torch.Tensor"]], tuple[dict[str, Any], dict[str, "torch.Tensor"]]]

MIGRATIONS: dict[int, Migration] = {}
"""From state format n, (metadata, tensors) to those of format n + 1. Applied on load; the files stay."""


def encode_meta(state: State) -> dict[str, Any]:
    """The JSON half of a state. Raises ValueError for what JSON cannot hold exactly, such as NaN."""
    meta = state.meta.to_json()
    try:
        text = json.dumps(meta, allow_nan=False)
        same = bool(state.meta.from_json(json.loads(text)) == state.meta)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the state's metadata must be JSON values only: {error}") from error
    if not same:
        raise ValueError("the state's metadata must be JSON values only: tuples and keys that are no text do not last")
    return dict(json.loads(text))


def encode_parts(state: State) -> Iterator[tuple[str, StoredPart, bytes]]:
    """Name, address and bytes of every part, one at a time. Equal tensors give equal bytes.

    Raises ValueError for a tensor name that is not ``<part>/<name>``.
    """
    from safetensors.torch import save

    bad = next((n for n in state.tensors if not all(n.partition("/"))), None)
    if bad is not None:
        raise ValueError(f"tensor name {bad!r} must be '<part>/<name>'")
    for part, tensors in state.parts.items():
        # clone: safetensors refuses views that share memory, and they must not be stored whole either
        named = {f"{part}/{name}": t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
        data = save(named)
        yield part, StoredPart(hashlib.sha256(data).hexdigest(), len(data)), data


def check_object(data: bytes, stored: StoredPart, file: str) -> None:
    """Raise DamagedFile unless ``data`` is what was stored."""
    if len(data) != stored.bytes:
        kind = "truncated" if len(data) < stored.bytes else "too long"
        raise DamagedFile(f"{file} is {kind}: {len(data)} bytes, expected {stored.bytes}")
    if hashlib.sha256(data).hexdigest() != stored.sha256:
        raise DamagedFile(f"{file} was edited: its SHA-256 does not match its name")


def decode_state(
    meta: dict[str, Any], parts: Mapping[str, StoredPart], read: Callable[[StoredPart], bytes], file: str
) -> State:
    """Inverse of the two above. ``read`` fetches and checks an object.

    Raises DamagedFile, or MismatchError for a state format that this version does not read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from continual_learning.memory.state import FORMAT_VERSION, State, StateMeta

    found = meta.get("format_version")
    if not isinstance(found, int):
        raise DamagedFile(f"{file} has format version {found!r}, expected a number")
    if found > FORMAT_VERSION:
        raise MismatchError(
            f"{file} has state format {found}, expected at most {FORMAT_VERSION}; "
            f"a newer version wrote it: upgrade with 'pip install --upgrade continual-learning-slm'"
        )
    missing = next((n for n in range(found, FORMAT_VERSION) if n not in MIGRATIONS), None)
    if missing is not None:
        raise MismatchError(
            f"{file} has state format {found}, expected {FORMAT_VERSION}, and format {missing} cannot be converted; "
            f"open it with the version of continual-learning-slm that wrote it"
        )
    tensors: dict[str, torch.Tensor] = {}
    for part, stored in parts.items():
        try:
            loaded = load(read(stored))
        except SafetensorError as error:
            raise DamagedFile(f"object {stored.sha256} is not a safetensors file: {error}") from None
        if any(name.partition("/")[0] != part for name in loaded):
            raise DamagedFile(f"{file}: object {stored.sha256} holds tensors of another part than {part!r}")
        tensors.update(loaded)
    for number in range(found, FORMAT_VERSION):
        meta, tensors = MIGRATIONS[number](dict(meta), tensors)
    try:
        return State(dict(sorted(tensors.items())), StateMeta.from_json(meta))
    except (KeyError, TypeError) as error:
        raise DamagedFile(f"{file} does not hold a state's metadata: {error}") from None
