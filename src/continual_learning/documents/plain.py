"""Text files: UTF-8, with or without a byte order mark; JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from continual_learning.documents.document import Document, Parsed, one_line, shortened
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


def json_lines(data: bytes, source: str) -> Iterator[Document]:
    """One document per line: ``text``, and ``title`` and ``source`` if they are known."""
    empty = True
    for number, line in enumerate(decode(data).split("\n"), 1):
        if not line.strip():
            continue
        empty = False
        row = json_object(line, number)
        fields = {"text": row.get("text"), "title": row.get("title", "")}
        for field, value in fields.items():
            if not isinstance(value, str):
                found = "is missing" if value is None and field == "text" else f"is {value!r}"
                raise DocumentError(f"line {number}: field {field!r} {shortened(found)}; expected a string")
        body = fields["text"].replace("\r\n", "\n").replace("\r", "\n")
        origin = row.get("source")
        place = one_line(origin) if isinstance(origin, str) and origin.strip() else f"{source}:{number}"
        try:
            yield Document(body, one_line(fields["title"]), place)
        except DocumentError as error:
            raise DocumentError(f"line {number}: {error}") from None
    if empty:
        raise DocumentError('it has no lines; expected JSON lines with the field "text"')


def json_object(line: str, number: int) -> dict[str, Any]:
    """One line of a JSON lines file as an object. Raises DocumentError that names the line."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DocumentError(f"line {number}: not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise DocumentError(f"line {number}: not JSON that can be read (nested too deeply)") from None
    except ValueError as error:  # a number with more digits than Python reads
        raise DocumentError(f"line {number}: not JSON that can be read ({shortened(str(error))})") from None
    if not isinstance(row, dict):
        raise DocumentError(f"line {number}: {shortened(repr(row))} is not a JSON object; expected {{...}}")
    return row
