"""Which parser reads a file: by its suffix, or by the content type that a server gives."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlsplit

from continual_learning.documents.document import Parsed
from continual_learning.documents.epub import parse_epub
from continual_learning.documents.html import parse_html
from continual_learning.documents.limits import Limits
from continual_learning.documents.markdown import parse_markdown
from continual_learning.documents.pdf import parse_pdf
from continual_learning.documents.plain import parse_text
from continual_learning.documents.word import parse_docx
from continual_learning.errors import DocumentError

JSON_LINES = ".jsonl"
MARKDOWN = (".md", ".markdown")
TEXT = (".txt", ".text", ".rst")
HTML = (".html", ".htm", ".xhtml")
CODE = tuple(
    ".py .pyi .ipy .js .mjs .jsx .ts .tsx .java .kt .kts .scala .groovy .c .h .cc .cpp .cxx .hpp .hh .cs .go .rs .rb "
    ".php .swift .m .mm .r .jl .lua .pl .pm .sh .bash .zsh .fish .ps1 .sql .hs .ml .ex .exs .erl .clj .lisp .el .vim "
    ".dart .zig .nim .f90 .asm .s .css .scss .less .vue .toml .yaml .yml .ini .cfg .tf .proto .graphql .tex".split()
)
PROSE = (*TEXT, *MARKDOWN, JSON_LINES, *HTML, ".pdf", ".docx", ".epub")
SUFFIXES = (*PROSE, *CODE)
KINDS = ".txt, .md, .jsonl, .html, .pdf, .docx, .epub or source code such as .py"
"""`SUFFIXES` in readable form."""

_CONTENT_TYPES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "application/pdf": ".pdf",
    "application/x-pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/epub+zip": ".epub",
    "text/markdown": ".md",
    "application/jsonl": ".jsonl",
    "application/x-ndjson": ".jsonl",
}


def check_suffix(suffix: str) -> None:
    """Raises DocumentError for a suffix, in lower case, that no parser reads."""
    if suffix not in SUFFIXES:
        kind = f"suffix {suffix!r}" if suffix else "a file without a suffix"
        raise DocumentError(f"{kind} is not supported; expected {KINDS}, or - for standard input")


def parse(data: bytes, suffix: str, limits: Limits, charset: str | None = None) -> Parsed:
    """One document out of the bytes of a file or page; ``charset`` is what the server declared.

    Raises DocumentError, one line, and MissingExtraError.
    """
    if suffix in HTML:
        return parse_html(data, charset)
    if suffix == ".pdf":
        return parse_pdf(data, limits)
    if suffix == ".docx":
        return parse_docx(data, limits)
    if suffix == ".epub":
        return parse_epub(data, limits)
    return parse_markdown(data) if suffix in MARKDOWN else parse_text(data)


def page_suffix(content_type: str, url: str) -> str:
    """The suffix whose parser reads a page. The server's content type decides, unless it says nothing useful.

    Raises DocumentError for a kind that no parser reads.
    """
    known = _CONTENT_TYPES.get(content_type)
    if known is not None:
        return known
    suffix = PurePosixPath(urlsplit(url).path).suffix.lower()
    if content_type in ("", "application/octet-stream", "text/plain", "application/zip") and suffix in SUFFIXES:
        return suffix
    if content_type.startswith("text/"):
        return ".txt"
    raise DocumentError(f"the page is of type {content_type or 'unknown'}; expected {KINDS}")
