"""Text files: UTF-8, with or without a byte order mark."""

from __future__ import annotations

from continual_learning.documents.document import Parsed
from continual_learning.errors import DocumentError


def decode(data: bytes) -> str:
    """UTF-8 as text, newlines as ``\\n``, so that the same text has the same id on every platform."""
    if not data:
        raise DocumentError("it is empty (0 bytes); expected text")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DocumentError("it is UTF-16; expected UTF-8; save it as UTF-8 and try again")
    if b"\0" in data:
        raise DocumentError(f"it is binary (a NUL byte at offset {data.index(0)}); expected text in UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise DocumentError(f"it is not UTF-8 ({found}); save it as UTF-8 and try again") from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def parse_text(data: bytes) -> Parsed:
    """A text file, unchanged."""
    return Parsed(decode(data))
