"""The kinds of files that are read, in one table, and how a file or a page is told to be of one of them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from continual_learning.documents.document import Parsed
from continual_learning.documents.epub import parse_epub
from continual_learning.documents.html import parse_html
from continual_learning.documents.json_files import parse_json
from continual_learning.documents.limits import Limits
from continual_learning.documents.mail import parse_mail
from continual_learning.documents.markdown import parse_markdown
from continual_learning.documents.notebook import parse_notebook
from continual_learning.documents.odt import parse_odt
from continual_learning.documents.pdf import parse_pdf
from continual_learning.documents.plain import parse_text
from continual_learning.documents.rtf import parse_rtf
from continual_learning.documents.tables import parse_csv
from continual_learning.documents.word import parse_docx
from continual_learning.errors import DocumentError

Parser = Callable[[bytes, Limits], Parsed]


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    suffixes: tuple[str, ...]
    """In lower case; the first one names the kind."""
    parse: Parser
    content_types: tuple[str, ...] = ()
    """What servers call it."""
    is_text: bool = True
    """Whether its bytes are characters, which a server may send in another encoding than UTF-8."""


def _text(data: bytes, limits: Limits) -> Parsed:
    return parse_text(data)


CODE = tuple(
    ".py .pyi .ipy .js .mjs .jsx .ts .tsx .java .kt .kts .scala .groovy .c .h .cc .cpp .cxx .hpp .hh .cs .go .rs .rb "
    ".php .swift .m .mm .r .jl .lua .pl .pm .sh .bash .zsh .fish .ps1 .sql .hs .ml .ex .exs .erl .clj .lisp .el .vim "
    ".dart .zig .nim .f90 .asm .s .css .scss .less .vue .toml .yaml .yml .ini .cfg .tf .proto .graphql .tex".split()
)
JSON_LINES = (".jsonl", ".ndjson")
_ODT = "application/vnd.oasis.opendocument.text"
_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_DOCM = "application/vnd.ms-word.document.macroenabled.12"
_CODE_TYPES = tuple(
    f"application/{name}" for name in "javascript x-javascript typescript yaml x-yaml toml sql x-sh".split()
)

TABLE = (
    Kind((".txt", ".text", ".rst", ".adoc", ".asciidoc", ".org", ".log"), _text),
    Kind((".md", ".markdown"), lambda data, _: parse_markdown(data), ("text/markdown", "text/x-markdown")),
    Kind((".html", ".htm", ".xhtml"), lambda data, _: parse_html(data), ("text/html", "application/xhtml+xml"), False),
    Kind((".pdf",), parse_pdf, ("application/pdf", "application/x-pdf"), False),
    Kind((".docx", ".docm"), parse_docx, (_DOCX, _DOCM), False),
    Kind((".odt", ".ott"), parse_odt, (_ODT, f"{_ODT}-template"), False),
    Kind((".rtf",), lambda data, _: parse_rtf(data), ("application/rtf", "text/rtf", "application/x-rtf"), False),
    Kind((".epub",), parse_epub, ("application/epub+zip",), False),
    Kind((".eml",), lambda data, _: parse_mail(data), ("message/rfc822",), False),
    Kind((".csv",), lambda data, _: parse_csv(data), ("text/csv", "application/csv")),
    Kind((".tsv", ".tab"), lambda data, _: parse_csv(data, "\t"), ("text/tab-separated-values",)),
    Kind((".json",), lambda data, _: parse_json(data), ("application/json", "text/json")),
    Kind(JSON_LINES, _text, ("application/jsonl", "application/x-ndjson", "application/x-jsonlines")),
    Kind((".ipynb",), lambda data, _: parse_notebook(data, parse_markdown), ("application/x-ipynb+json",)),
    Kind(CODE, _text, _CODE_TYPES),
)
"""Every kind. Each row of .jsonl, and of .json if it has rows with a text, is a document of its own: `json_files`."""

_BY_SUFFIX = {suffix: kind for kind in TABLE for suffix in kind.suffixes}
_BY_TYPE = {name: kind for kind in TABLE for name in kind.content_types}
PROSE = tuple(suffix for kind in TABLE for suffix in kind.suffixes if kind.suffixes != CODE)
SUFFIXES = (*PROSE, *CODE)
KINDS = f"{', '.join(kind.suffixes[0] for kind in TABLE[:-1])} or source code such as {CODE[0]}"
"""The table in readable form."""

_UNTOLD = tuple(
    "application/octet-stream application/download application/x-download application/force-download "
    "application/unknown application/zip application/x-zip-compressed binary/octet-stream".split()
)
_XML = re.compile(r"(?:application|text)/(?:xml|[\w.-]+\+xml)")
_PAGE_TAGS = (b"html", b"head", b"body")


def file_suffix(path: Path) -> str:
    """The suffix of a file in lower case. A name without one, such as README, or with one of words, has none."""
    suffix = path.suffix.lower()
    return "" if re.search(r"\s", suffix) else suffix


def check_suffix(suffix: str) -> None:
    """Raises DocumentError for a suffix, in lower case, that no parser reads. A file without one may be any kind."""
    if suffix and suffix not in _BY_SUFFIX:
        raise DocumentError(f"suffix {suffix!r} is not supported; expected {KINDS}, or - for standard input")


def parse(data: bytes, suffix: str, limits: Limits, charset: str | None = None) -> Parsed:
    """One document out of the bytes of a file or page; ``charset`` is what the server declared for HTML.

    Raises DocumentError, one line, and MissingExtraError.
    """
    kind = _BY_SUFFIX[suffix]
    return parse_html(data, charset) if kind.suffixes[0] == ".html" else kind.parse(data, limits)


def is_text(suffix: str) -> bool:
    """Whether files with this suffix are characters; HTML says itself in which encoding."""
    return _BY_SUFFIX[suffix].is_text


def page_suffix(content_type: str, url: str, data: bytes) -> str:
    """The suffix whose parser reads a page. The server's content type decides, unless it says nothing useful.

    Then it is the content, and for what is text the name. Raises DocumentError for a kind that no parser reads.
    """
    if content_type in _BY_TYPE:
        return _BY_TYPE[content_type].suffixes[0]
    named = PurePosixPath(urlsplit(url).path).suffix.lower()
    found = content_suffix(data)
    if content_type == "text/plain":  # what servers call anything that they do not know
        if found not in ("", ".txt", ".html"):
            return found
        kind = _BY_SUFFIX.get(named)
        return named if kind and (kind.is_text or kind.suffixes[0] in (".html", ".eml")) else ".txt"
    if content_type in ("", *_UNTOLD) and found:
        return named if found == ".txt" and named in _BY_SUFFIX else found
    if _XML.fullmatch(content_type) and found == ".html":
        return found
    if content_type.endswith("+json"):
        return ".json"
    if content_type.startswith("text/"):
        return ".txt"
    raise DocumentError(f"the page is of type {content_type or 'unknown'}; expected {KINDS}")


def content_suffix(data: bytes) -> str:
    """The suffix that a file would have by its content; empty for what no parser reads."""
    if b"%PDF-" in data[:1024]:
        return ".pdf"
    if data.startswith(b"{\\rtf"):
        return ".rtf"
    if data.startswith(b"PK\x03\x04"):
        return _archive_suffix(data)
    if root_element(data) in _PAGE_TAGS:
        return ".html"
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return "" if b"\0" in data and not marked else ".txt"


def _archive_suffix(data: bytes) -> str:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = archive.namelist()
            if "word/document.xml" in names:
                return ".docx"
            if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
                kind = _BY_TYPE.get(archive.read("mimetype").decode("latin-1").strip())
                return kind.suffixes[0] if kind else ""
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, RuntimeError, EOFError):
        return ""  # the parser of the kind that its name tells reports the damage
    return ""


def root_element(data: bytes) -> bytes:
    """The name of the first element of a page in lower case, without its namespace; ``html`` for its doctype too."""
    rest = data[:20_000].removeprefix(b"\xef\xbb\xbf").lstrip()
    while rest.startswith((b"<?", b"<!")):
        if rest[:14].lower() == b"<!doctype html":
            return b"html"
        end = b"-->" if rest.startswith(b"<!--") else b">"
        rest = rest.partition(end)[2].lstrip()
    name = re.match(rb"<(?:[\w.-]{1,50}:)?([\w.-]{1,50})[\s/>]", rest)
    return name[1].lower() if name else b""
