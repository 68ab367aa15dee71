"""The header of a GGUF file, and whether the file is a language model that can be used, before the costly reading.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Nothing here imports PyTorch.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from continual_learning.errors import ModelError

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_VALUES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_SPLIT_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)

# Architectures as GGUF names them, that turn a text into vectors or another text and do not continue it.
_ENCODERS = re.compile(r"(.*-)?(bert|roberta|t5encoder|eurobert|gemma-embedding)(-.*)?|jina-.*|.*encoder")
_ENCODER_DECODERS = {"t5", "umt5", "bart", "whisper"}
_VISION = {"clip", "mmproj", "mllama"}


@dataclass(frozen=True)
class Tensor:
    """Where a tensor is in a GGUF file."""

    name: str
    shape: tuple[int, ...]
    """Fastest-moving axis first, as the file has it."""
    kind: int
    """Its quantisation, by number."""
    offset: int
    """From the beginning of the data."""


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about itself."""

    path: Path
    fields: dict[str, Any]
    tensors: tuple[Tensor, ...]
    data_start: int

    @property
    def architecture(self) -> str:
        """Its architecture, as GGUF names it."""
        return str(self.fields.get("general.architecture", "unknown"))

    @property
    def licence(self) -> str | None:
        """Its licence, if the file names one."""
        name = self.fields.get("general.license")
        return str(name) if name else None

    @property
    def quantisation(self) -> str | None:
        """How most of its weights are rounded, such as ``Q4_K_M``; None if the file does not say."""
        import gguf

        try:
            kind = gguf.LlamaFileType(self.fields.get("general.file_type", -1))
        except ValueError:
            return None
        return kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")

    @property
    def tokens(self) -> list[str]:
        """Its vocabulary; empty if the file has none."""
        found = self.fields.get("tokenizer.ggml.tokens")
        return found if isinstance(found, list) else []

    def get(self, name: str) -> Any:
        """A field of the architecture, such as ``rope.scaling.type``; None if the file has none."""
        return self.fields.get(f"{self.architecture}.{name}")

    def values(self, name: str) -> NDArray[np.float32] | None:
        """The values of a tensor in fp32; None if there is none of this name."""
        tensor = next((t for t in self.tensors if t.name == name), None)
        if tensor is None:
            return None
        if tensor.kind != 0:
            raise ModelError(f"{self.path}: tensor {name} is of type {tensor.kind}; expected F32")
        return np.fromfile(self.path, np.float32, math.prod(tensor.shape), offset=self.data_start + tensor.offset)


def check_is_gguf(path: Path) -> None:
    """Raise ModelError for a file that does not begin as a GGUF file does."""
    try:
        with path.open("rb") as file:
            _check_begin(path, file.read(8))
    except OSError as error:
        raise ModelError(_unreadable(path, error)) from None


def read_header(path: Path) -> Header:
    """Read the header of a GGUF file, and check that the file is as long as it says.

    Raises ModelError for a file that cannot be read, is not GGUF, or is truncated.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            begin = file.read(8)
            _check_begin(path, begin)
            header = _Reader(file, size).header(path)
    except OSError as error:
        raise ModelError(_unreadable(path, error)) from None
    except (EOFError, struct.error):
        raise ModelError(f"{path} is truncated: its {size:,} bytes end within the header; fetch it again") from None
    except (ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged: its header cannot be read ({error}); fetch it again") from None
    _check_length(header, size)
    return header


def check_header(header: Header) -> None:
    """Raise ModelError, saying what the file is and what to do, unless it is a whole language model."""
    path, architecture = header.path, header.architecture
    kind = str(header.fields.get("general.type", "model"))
    _check_split(header)
    if kind == "adapter":
        raise ModelError(
            f"{path} is an adapter without its base (general.type = adapter, for architecture {architecture!r}); "
            "expected a whole model: give the GGUF file of the model that it was trained for"
        )
    if kind == "mmproj" or architecture in _VISION or "clip.vision.block_count" in header.fields:
        raise ModelError(
            f"{path} is the part of a vision model that reads images (architecture {architecture!r}); "
            "expected a language model: give the GGUF file of its text part"
        )
    if kind != "model":
        raise ModelError(f"{path} is of type {kind!r} (general.type); expected a language model, of type 'model'")
    if (
        _ENCODERS.fullmatch(architecture)
        or header.get("attention.causal") is False
        or header.get("pooling_type") is not None
    ):
        raise ModelError(
            f"{path} is an encoder (architecture {architecture!r}): it makes vectors and writes no text; expected a "
            "model that continues a text, such as llama or qwen2"
        )
    if architecture in _ENCODER_DECODERS:
        raise ModelError(
            f"{path} is an encoder-decoder (architecture {architecture!r}); expected a model that continues a text, "
            "such as llama or qwen2"
        )
    if "vl" in re.split(r"[\d.-]+", architecture):
        raise ModelError(
            f"{path} is a vision model (architecture {architecture!r}); expected a model of text alone, such as qwen2"
        )
    if not header.tokens:
        raise ModelError(f"{path} holds no tokenizer (tokenizer.ggml.tokens); expected a whole model: convert it again")
    if not header.tensors:
        raise ModelError(f"{path} holds no weights, a vocabulary alone; expected a whole model")


def split_parts(path: Path) -> list[Path]:
    """All parts of a split file, by the name of one of them; empty if the name is not that of a part."""
    match = _SPLIT_NAME.fullmatch(path.name)
    if match is None:
        return []
    count = int(match["count"])
    return [path.with_name(f"{match['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]


def _check_split(header: Header) -> None:
    path, parts = header.path, split_parts(header.path)
    count = int(header.fields.get("split.count", len(parts)))
    if count < 2:
        return
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise ModelError(
            f"{path} is one of {count} parts of a split file, and {len(missing)} of them are missing: "
            f"{', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}; fetch them into the same folder, then join "
            "them with llama.cpp's `llama-gguf-split --merge`"
        )
    first = parts[0] if parts else path
    joined = _SPLIT_NAME.sub(r"\g<stem>.gguf", first.name)
    raise ModelError(
        f"{path} is one of {count} parts of a split file; expected a whole one: join them with llama.cpp's "
        f"`llama-gguf-split --merge {first.name} {joined}` and give the result"
    )


def _check_begin(path: Path, begin: bytes) -> None:
    if begin[:4] != MAGIC:
        pointer = "; this is a Git LFS pointer: fetch the file itself with `git lfs pull`"
        raise ModelError(
            f"{path} is not a GGUF file: it begins with {begin[:4]!r}, expected {MAGIC!r}"
            + (pointer if begin.startswith(b"version ") else "; check the path, or fetch it again")
        )
    if len(begin) < 8:
        raise ModelError(f"{path} is truncated: it has {len(begin)} bytes; fetch it again")
    (version,) = struct.unpack("<I", begin[4:])
    if version not in _VERSIONS:
        raise ModelError(
            f"{path} is GGUF of version {version}; expected 2 or 3, little-endian: convert the model again with "
            "llama.cpp's convert_hf_to_gguf.py"
        )


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path} cannot be read: {error.strerror or error}; check its permissions"


def _check_length(header: Header, size: int) -> None:
    import gguf

    end = header.data_start
    for tensor in header.tensors:
        try:
            values, wide = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(tensor.kind)]
        except (ValueError, KeyError):
            raise ModelError(
                f"{header.path}: tensor {tensor.name} has the quantisation of number {tensor.kind}, which the package "
                "gguf does not know; expected one such as Q4_K or Q8_0: `pip install --upgrade gguf`"
            ) from None
        end = max(end, header.data_start + tensor.offset + math.prod(tensor.shape) // values * wide)
    if size < end:
        raise ModelError(
            f"{header.path} is truncated: it has {size:,} bytes, expected {end:,} by its header; fetch it again"
        )


class _Reader:
    """Reads a header, value by value; lengths are checked against the file's before anything is read."""

    def __init__(self, file: BinaryIO, size: int):
        self._data = file.read(1 << 20)
        self._file, self._size, self._at = file, size, 0

    def header(self, path: Path) -> Header:
        tensor_count, field_count = self._unpack("<QQ")
        fields = {}
        for _ in range(field_count):
            name = self._string()
            fields[name] = self._value(*self._unpack("<I"))
        tensors = []
        for _ in range(tensor_count):
            name = self._string()
            (axes,) = self._unpack("<I")
            if axes > 8:
                raise ValueError(f"tensor {name!r} of {axes} axes")
            shape = self._unpack(f"<{axes}Q")
            kind, offset = self._unpack("<IQ")
            tensors.append(Tensor(name, shape, kind, offset))
        alignment = int(fields.get("general.alignment", 32)) or 32
        read = 8 + self._at  # after the magic and the version
        return Header(path, fields, tuple(tensors), -(-read // alignment) * alignment)

    def _take(self, count: int) -> bytes:
        if count > self._size:
            raise EOFError
        while self._at + count > len(self._data):
            more = self._file.read(max(1 << 22, self._at + count - len(self._data)))
            if not more:
                raise EOFError
            self._data += more
        found = self._data[self._at : self._at + count]
        self._at += count
        return found

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))

    def _string(self) -> str:
        (length,) = self._unpack("<Q")
        return self._take(length).decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            inner, count = self._unpack("<IQ")
            if inner in _VALUES:
                return list(self._unpack(f"<{count}{_VALUES[inner]}") if count <= self._size else self._take(count))
            if count > self._size:
                raise EOFError
            return [self._value(inner) for _ in range(count)]
        (found,) = self._unpack("<" + _VALUES[kind])
        return found
