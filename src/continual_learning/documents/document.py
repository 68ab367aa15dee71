"""The document, and what every parser returns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from continual_learning.errors import DocumentError
from continual_learning.text.characters import normalised

TITLE_BYTES = 240
"""Longest title, in UTF-8: titles stand before passages and in prompts, and count for as many tokens at most."""


@dataclass(frozen=True)
class Document:
    """A text with its title and where it came from.

    Both are normalised (`text.characters`), and a title is cut to `TITLE_BYTES`. Raises DocumentError when the text is
    empty or holds what no tokenizer can take: NUL characters (a binary file) or half of a surrogate pair.
    """

    text: str
    title: str = ""
    source: str = "text"
    """A path, a URL, ``path:line`` of a JSON lines file, ``-`` for standard input, or ``text``."""

    def __post_init__(self) -> None:
        for field, given in (("text", self.text), ("title", self.title)):
            if not isinstance(given, str):
                raise DocumentError(f"the {field} is of type {type(given).__name__}; expected a str")
        object.__setattr__(self, "text", normalised(self.text))
        object.__setattr__(self, "title", cut_title(normalised(self.title)))
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
    """Something that was not read, and why: a file of a folder, a page of a site, a page of a PDF."""

    source: str
    reason: str


@dataclass(frozen=True)
class Parsed:
    """What a parser found in one file."""

    text: str
    title: str = ""
    """As given in the file; empty if it gives none."""
    left_out: tuple[Skipped, ...] = ()
    """Parts without text, such as a scanned page; the source is the part's name: ``page 3``."""


def one_line(text: str) -> str:
    """``text`` with every run of white space as one space."""
    return " ".join(text.split())


def shortened(text: str, limit: int = 200) -> str:
    """``text`` on one line, cut to ``limit`` characters."""
    text = one_line(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def cut_title(title: str, limit: int = TITLE_BYTES) -> str:
    """A title of at most ``limit`` bytes, cut at a space if there is one near the end."""
    if len(title.encode("utf-8", "replace")) <= limit:
        return title
    kept = title.encode("utf-8", "replace")[: limit - len("…".encode())].decode("utf-8", "ignore")
    head, _, tail = kept.rpartition(" ")
    return f"{head if head and len(tail) < 40 else kept}…"


def printable(name: str | Path) -> str:
    """Printable text: file names that are not UTF-8 hold lone surrogates, which cannot be printed or hashed."""
    return str(name).encode("utf-8", "replace").decode("utf-8")


def clean_text(text: str) -> str:
    """A parser's text with newlines as ``\\n``, and without the characters that no document may hold."""
    return clean_newlines(text).replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def clean_newlines(text: str) -> str:
    """``text`` with every newline as ``\\n``."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
