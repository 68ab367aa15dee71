"""Documents: reading text from files, folders and standard input.

``.txt`` and ``.md`` hold one document each, ``.jsonl`` one a line. Everything is UTF-8, with or without a
byte order mark, and newlines come out as ``\\n``, so that the same text has the same id on every platform.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from continual_learning.errors import DocumentError

SUFFIXES = (".txt", ".md", ".jsonl")
MAX_BYTES = 10_000_000
STDIN = "-"

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$")
_FENCE = re.compile(r"^ {0,3}(```|~~~)")


@dataclass(frozen=True)
class Document:
    """A text with its title and where it came from.

    Raises DocumentError when the text is empty or holds what no tokenizer can take: NUL characters
    (a binary file) or half of a surrogate pair.
    """

    text: str
    title: str = ""
    source: str = "text"
    """A path, ``path:line`` of a JSON lines file, ``-`` for standard input, or ``text``."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise DocumentError("the text is empty; expected at least one word")
        for field, value in (("text", self.text), ("title", self.title)):
            if "\0" in value:
                at = value.index("\0")
                raise DocumentError(f"the {field} has a NUL character at position {at}, as binary files do; give text")
            try:
                value.encode("utf-8")
            except UnicodeEncodeError as error:
                found = f"the {field} has half of a surrogate pair at position {error.start}"
                raise DocumentError(f"{found}; expected whole Unicode characters") from None

    @property
    def sha256(self) -> str:
        """SHA-256 of the title, a NUL and the text, in UTF-8, as 64 hex digits."""
        return hashlib.sha256(f"{self.title}\0{self.text}".encode()).hexdigest()

    @property
    def id(self) -> str:
        """``doc-`` and the first 12 hex digits of `sha256`."""
        return f"doc-{self.sha256[:12]}"


@dataclass(frozen=True)
class Skipped:
    """Something in a folder that was not read, and why."""

    source: str
    reason: str


def read_documents(
    source: str | Path, title: str | None = None, max_bytes: int = MAX_BYTES
) -> tuple[list[Document], list[Skipped]]:
    """Read a file, a folder (with all folders in it, in sorted order) or standard input (``-``).

    ``title`` replaces the title of a single document. ``max_bytes`` is the limit for each file.
    Returns the documents, and what was passed over in a folder with the reason. Raises DocumentError,
    one line, when the file cannot be read, or when a folder holds nothing that can be.
    """
    name = _printable(source)
    if name != STDIN and _URL.match(name):
        raise DocumentError(
            f"{name}: URLs are not read in this version; save the page as .txt or .md and name the file"
        )
    skipped: list[Skipped] = []
    try:
        if name == STDIN:
            documents = [_from_stdin(max_bytes)]
        else:
            path = Path(os.path.expanduser(source))
            if stat.S_ISDIR(_stat(path).st_mode):
                documents = _read_folder(path, max_bytes, skipped)
            else:
                documents = _read_file(path, max_bytes)
    except DocumentError as error:
        raise DocumentError(f"{_shortened(name)}: {error}") from None
    if title is not None:
        if len(documents) != 1:
            found = f"title {title!r} was given, but {name} holds {len(documents)} documents"
            raise DocumentError(f"{found}; a title fits one document, leave it out")
        documents = [Document(documents[0].text, _one_line(title), documents[0].source)]
    return documents, skipped


def _read_folder(folder: Path, max_bytes: int, skipped: list[Skipped]) -> list[Document]:
    documents: list[Document] = []
    seen: dict[str, Path] = {os.path.realpath(folder): folder}
    for path in _walk(folder, seen, skipped):
        try:
            documents += _read_file(path, max_bytes)
        except DocumentError as error:
            skipped.append(Skipped(_printable(path), str(error)))
    if not documents:
        first = "".join(f"; {_printable(Path(s.source).name)}: {s.reason}" for s in skipped[:2])
        more = f"; and {len(skipped) - 2} more" if len(skipped) > 2 else ""
        raise DocumentError(f"the folder holds no readable document ({', '.join(SUFFIXES)}){first}{more}")
    return documents


def _walk(folder: Path, seen: dict[str, Path], skipped: list[Skipped]) -> Iterator[Path]:
    """All visible files below ``folder``, sorted; each real file and folder once, so that loops end."""
    try:
        entries = sorted(folder.iterdir(), key=lambda p: p.name)
    except OSError as error:
        skipped.append(Skipped(_printable(folder), f"cannot be opened: {error.strerror}"))
        return
    for path in entries:
        if path.name.startswith("."):
            skipped.append(Skipped(_printable(path), "hidden"))
            continue
        real = os.path.realpath(path)
        if real in seen:
            skipped.append(Skipped(_printable(path), f"the same as {_printable(seen[real])}"))
            continue
        seen[real] = path
        if path.is_dir():
            yield from _walk(path, seen, skipped)
        else:
            yield path


def _read_file(path: Path, max_bytes: int) -> list[Document]:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        kind = f"suffix {suffix!r}" if suffix else "a file without a suffix"
        raise DocumentError(f"{kind} is not supported; expected one of {', '.join(SUFFIXES)}, or - for standard input")
    status = _stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise DocumentError("it is not a regular file; expected a text file, or - for standard input")
    if status.st_size > max_bytes:
        raise DocumentError(_too_large(f"{status.st_size:,}", max_bytes))
    try:
        with path.open("rb") as file:
            text = _decode(_read_at_most(file, max_bytes))
    except OSError as error:
        raise DocumentError(f"it cannot be read: {error.strerror}; check its permissions") from None
    source, stem = _printable(path), _printable(path.stem)
    if suffix == ".jsonl":
        return list(_json_lines(text, source))
    title = (_first_heading(text) if suffix == ".md" else None) or stem
    return [Document(text, _one_line(title), source)]


def _from_stdin(max_bytes: int) -> Document:
    if sys.stdin is None:  # started without one, as services are
        raise DocumentError("standard input is closed; give a file or pipe text in")
    return Document(_decode(_read_at_most(sys.stdin.buffer, max_bytes)), "", STDIN)


def _read_at_most(file: IO[bytes], max_bytes: int) -> bytes:
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise DocumentError(_too_large(f"more than {max_bytes:,}", max_bytes))
    return data


def _too_large(found: str, max_bytes: int) -> str:
    return f"it has {found} bytes; expected at most {max_bytes:,}; split it into smaller files"


def _decode(data: bytes) -> str:
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


def _first_heading(text: str) -> str | None:
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark:  # a # in a block of code is a comment, not a heading
            fence = "" if fence == mark[1] else fence or mark[1]
        elif not fence and (heading := _HEADING.match(line)):
            return heading[1]
    return None


def _json_lines(text: str, source: str) -> Iterator[Document]:
    empty = True
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        empty = False
        row = json_object(line, number)
        fields = {"text": row.get("text"), "title": row.get("title", "")}
        for field, value in fields.items():
            if not isinstance(value, str):
                found = "is missing" if value is None and field == "text" else f"is {value!r}"
                raise DocumentError(f"line {number}: field {field!r} {_shortened(found)}; expected a string")
        body = fields["text"].replace("\r\n", "\n").replace("\r", "\n")
        try:
            yield Document(body, _one_line(fields["title"]), f"{source}:{number}")
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
    if not isinstance(row, dict):
        raise DocumentError(f"line {number}: {_shortened(repr(row))} is not a JSON object; expected {{...}}")
    return row


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        raise DocumentError("no such file or folder; check the spelling, or give - to read standard input") from None
    except ValueError:
        raise DocumentError("it holds a character that no path can; give the name of a file") from None
    except OSError as error:
        raise DocumentError(f"it cannot be opened: {error.strerror}; check the path and its permissions") from None


def _one_line(title: str) -> str:
    return " ".join(title.split())


def _printable(name: str | Path) -> str:
    """File names that are not UTF-8 come from the system as lone surrogates, which cannot be printed or hashed."""
    return str(name).encode("utf-8", "replace").decode("utf-8")


def _shortened(text: str, limit: int = 200) -> str:
    text = _one_line(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
