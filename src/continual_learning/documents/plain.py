"""Text files: UTF-8, or UTF-16 and UTF-32 with a byte order mark, as Windows programs write them."""

from __future__ import annotations

import codecs

from continual_learning.documents.document import Parsed
from continual_learning.errors import DocumentError

# The mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def as_utf8(data: bytes) -> bytes:
    """Text in UTF-16 or UTF-32 that says so by its byte order mark as UTF-8; other bytes unchanged.

    Excel's "Unicode Text", Notepad's "Unicode" and the ``>`` of PowerShell write it. Raises DocumentError for half a
    character, as a file that was cut off has.
    """
    name = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if name is None:
        return data
    try:
        return data.decode(name).encode()
    except UnicodeError as error:
        at = getattr(error, "start", len(data))
        raise DocumentError(f"it is no whole {name} text (at byte {at}); save it as UTF-8 and try again") from None


def decode(data: bytes) -> str:
    """Bytes as text, newlines as ``\\n``, so that the same text has the same id on every platform."""
    if not data:
        raise DocumentError("it is empty (0 bytes); expected text")
    data = as_utf8(data)
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
