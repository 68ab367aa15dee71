"""Small states with known content, for the tests of the store."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from continual_learning.memory.state import DocumentRecord, State, StateMeta

ALL_DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.int8,
    torch.bool,
)


def document(number: int) -> DocumentRecord:
    return DocumentRecord(
        id=f"doc-{number:04d}",
        title=f"Document {number} – “ü”",
        source="text",
        sha256=f"{number:064x}",
        tokens=10 + number,
        learned_at="2024-01-01T00:00:00+00:00",
        details={"loss": 0.1 * number, "nested": {"list": [1, None, True]}},
    )


def make_state(numbers: list[int], width: int = 8, extra: dict | None = None) -> State:
    """A state that learned the documents ``numbers``; equal arguments give equal bits."""
    tensors = {}
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        tensors[f"doc-{number:04d}/3.down"] = torch.randn(width, width, generator=generator)
        tensors[f"doc-{number:04d}/3.rows"] = torch.randint(0, 99, (width,), generator=generator)
    documents = tuple(document(n) for n in numbers)
    return State(tensors, StateMeta("ttt", {"steps": 3}, "tiny", "f" * 64, documents, extra or {}))


def assert_same(found: State, expected: State) -> None:
    """Same metadata, names, dtypes, shapes and bytes; NaN counts as itself."""
    assert found.meta == expected.meta
    assert list(found.tensors) == sorted(expected.tensors)
    for name, tensor in expected.tensors.items():
        other = found.tensors[name]
        assert (other.dtype, other.shape) == (tensor.dtype, tensor.shape), name
        assert raw(other) == raw(tensor), name


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    """The message, which must be one line."""
    text = str(error.value)
    assert "\n" not in text
    return text


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")
