"""From a path, a URL, a folder or standard input to documents."""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from continual_learning.documents.document import Document, Skipped, one_line, printable, shortened
from continual_learning.documents.formats import (
    JSON_LINES,
    KINDS,
    PROSE,
    check_suffix,
    content_suffix,
    file_suffix,
    is_text,
    page_suffix,
    parse,
)
from continual_learning.documents.html import decode_page
from continual_learning.documents.json_files import json_documents, json_lines
from continual_learning.documents.limits import Limits
from continual_learning.documents.plain import decode
from continual_learning.documents.sitemap import is_sitemap, read_sitemap
from continual_learning.documents.web import Page, fetch
from continual_learning.errors import DocumentError, MissingExtraError
from continual_learning.types import Progress, ProgressCallback

STDIN = "-"

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_SECRET = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")
_SITEMAP_DEPTH = 3

Found = tuple[list[Document], list[Skipped]]


def read_documents(
    source: str | Path,
    title: str | None = None,
    limits: Limits | None = None,
    progress: ProgressCallback | None = None,
) -> Found:
    """Read a file, a folder (with all folders in it, in sorted order), a page, a sitemap or standard input (``-``).

    ``title`` replaces the title of a single document. Returns the documents, and what was skipped with the
    reason: files of a folder and pages of a sitemap that cannot be read, and parts of a file that are left out. Two
    files with the same text are two documents here (see `without_repeats`). Raises DocumentError, one line, when the
    source cannot be read or holds nothing that can be, and MissingExtraError when it needs a library that is not
    installed.
    """
    if isinstance(source, str) and not source.strip():
        # Path("") is the working folder; `learn "$UNSET"` does not mean all that is in it.
        raise DocumentError(f"the source {source!r} is empty; expected a path, a URL or - (is a variable not set?)")
    limits = limits or Limits()
    name = without_secret(printable(source))
    skipped: list[Skipped] = []
    try:
        if str(source) == STDIN:
            documents = [_from_stdin(limits)]
        elif isinstance(source, str) and is_url(source):
            documents = _read_url(source, limits, skipped, progress)
        else:
            path = Path(os.path.expanduser(source))
            if stat.S_ISDIR(_stat(path).st_mode):
                documents = _read_folder(path, limits, skipped, progress)
            else:
                documents = _read_file(path, limits, skipped)
    except DocumentError as error:
        raise DocumentError(f"{shortened(name)}: {error}") from None
    if title is not None:
        if len(documents) != 1:
            found = f"title {title!r} was given, but {name} holds {len(documents)} documents"
            raise DocumentError(f"{found}; a title fits one document, leave it out")
        documents = [Document(documents[0].text, one_line(title), documents[0].source)]
    return documents, skipped


def is_url(text: str) -> bool:
    """Whether a text is a URL by its form, whatever its scheme."""
    return bool(_URL.match(text)) and not re.search(r"\s", text)


def names_source(text: str) -> bool:
    """Whether a text names a source and is not a text to learn: a URL, an existing file, or a file name by its form."""
    if "\n" in text or len(text) > 1000:
        return False
    if is_url(text):
        return True
    try:
        return Path(text).expanduser().exists() or (text.endswith(PROSE) and " " not in text)
    except (OSError, ValueError):  # not a name that the file system can hold
        return False


def without_secret(source: str) -> str:
    """A source for a message: a URL without its user name and password."""
    return _SECRET.sub(r"\1…@", source)


def without_repeats(documents: Iterable[Document]) -> Found:
    """The documents without those whose text, white space aside, repeats an earlier one."""
    first: dict[str, Document] = {}
    kept, skipped = [], []
    for document in documents:
        earlier = first.setdefault(one_line(document.text), document)
        if earlier is document:
            kept.append(document)
        else:
            skipped.append(Skipped(document.source, f"the same text as {earlier.source}"))
    return kept, skipped


# -- files and folders -----------------------------------------------------------------------------


def _read_folder(
    folder: Path, limits: Limits, skipped: list[Skipped], progress: ProgressCallback | None
) -> list[Document]:
    documents: list[Document] = []
    seen: dict[str, Path] = {os.path.realpath(folder): folder}
    paths = list(_walk(folder, seen, skipped))
    for number, path in enumerate(paths):
        _tell(progress, "read", number, len(paths), path.name)
        try:
            documents += _read_file(path, limits, skipped)
        except (DocumentError, MissingExtraError) as error:
            skipped.append(Skipped(printable(path), str(error)))
    return _some(documents, skipped, f"the folder holds no readable document ({KINDS})")


def _some(documents: list[Document], skipped: list[Skipped], if_none: str) -> list[Document]:
    if not documents:
        first = "".join(f"; {_short_name(s.source)}: {s.reason}" for s in skipped[:2])
        more = f"; and {len(skipped) - 2} more" if len(skipped) > 2 else ""
        raise DocumentError(f"{if_none}{first}{more}")
    return documents


def _short_name(source: str) -> str:
    return source if is_url(source) else printable(Path(source).name)


def _walk(folder: Path, seen: dict[str, Path], skipped: list[Skipped]) -> Iterator[Path]:
    """All visible files below ``folder``, sorted; each real file and folder once, so that loops end."""
    try:
        entries = sorted(folder.iterdir(), key=lambda p: p.name)
    except OSError as error:
        skipped.append(Skipped(printable(folder), f"cannot be opened: {error.strerror}"))
        return
    for path in entries:
        if path.name.startswith("."):
            skipped.append(Skipped(printable(path), "hidden"))
            continue
        try:
            real, is_folder = os.path.realpath(path), path.is_dir()
        except OSError as error:
            skipped.append(Skipped(printable(path), f"cannot be opened: {error.strerror}"))
            continue
        if real in seen:
            skipped.append(Skipped(printable(path), f"the same as {printable(seen[real])}"))
            continue
        seen[real] = path
        if is_folder:
            yield from _walk(path, seen, skipped)
        else:
            yield path


def _read_file(path: Path, limits: Limits, skipped: list[Skipped]) -> list[Document]:
    suffix = file_suffix(path)
    check_suffix(suffix)
    status = _stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise DocumentError("it is not a regular file; expected a text file, or - for standard input")
    if status.st_size > limits.max_bytes:
        raise DocumentError(_too_large(f"{status.st_size:,}", limits))
    try:
        with path.open("rb") as file:
            data = _read_at_most(file, limits)
    except OSError as error:
        raise DocumentError(f"it cannot be read: {error.strerror}; check its permissions") from None
    suffix = suffix or content_suffix(data) or ".txt"  # which says that it is binary
    name = path.stem if file_suffix(path) else path.name
    return _documents(data, suffix, printable(name), printable(path), limits, skipped)


def _documents(
    data: bytes, suffix: str, name: str, source: str, limits: Limits, skipped: list[Skipped], charset: str | None = None
) -> list[Document]:
    """The documents of the bytes of a file or page: one, or of JSON as many as it has rows with a text."""
    if suffix in JSON_LINES:
        return json_lines(data, source, skipped)
    if suffix == ".json" and (documents := json_documents(data, source, skipped)) is not None:
        return documents
    parsed = parse(data, suffix, limits, charset)
    document = Document(parsed.text, one_line(parsed.title) or one_line(name), source)
    skipped += [Skipped(f"{source}, {part.source}", part.reason) for part in parsed.left_out]
    return [document]


def _from_stdin(limits: Limits) -> Document:
    if sys.stdin is None:  # started without one, as services are
        raise DocumentError("standard input is closed; give a file or pipe text in")
    return Document(decode(_read_at_most(sys.stdin.buffer, limits)), "", STDIN)


def _read_at_most(file: IO[bytes], limits: Limits) -> bytes:
    data = file.read(limits.max_bytes + 1)
    if len(data) > limits.max_bytes:
        raise DocumentError(_too_large(f"more than {limits.max_bytes:,}", limits))
    return data


def _too_large(found: str, limits: Limits) -> str:
    return f"it has {found} bytes; expected at most {limits.max_bytes:,}; split it into smaller files"


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        raise DocumentError("no such file or folder; check the spelling, or give - to read standard input") from None
    except ValueError:
        raise DocumentError("it holds a character that no path can; give the name of a file") from None
    except OSError as error:
        raise DocumentError(f"it cannot be opened: {error.strerror}; check the path and its permissions") from None


# -- pages and sites -------------------------------------------------------------------------------


def _read_url(url: str, limits: Limits, skipped: list[Skipped], progress: ProgressCallback | None) -> list[Document]:
    _tell(progress, "fetch", 0, 1, url)
    page = fetch(url, limits)
    if not is_sitemap(page):
        return _read_page(page, limits, skipped)
    documents: list[Document] = []
    for number, (place, total) in enumerate(_site(page, limits, skipped)):
        _tell(progress, "fetch", number, total, place)
        if number:
            time.sleep(limits.pause)
        try:
            documents += _read_page(fetch(place, limits), limits, skipped)
        except (DocumentError, MissingExtraError) as error:
            skipped.append(Skipped(place, str(error)))
    return _some(documents, skipped, "none of the pages of the sitemap can be read")


def _site(page: Page, limits: Limits, skipped: list[Skipped]) -> list[tuple[str, int]]:
    """The pages of a sitemap and of the sitemaps that it lists, on its own host, with how many there are."""
    host = urlsplit(page.url).netloc
    pages: dict[str, None] = {}
    waiting = [(page, 1)]
    asked = {page.url}
    while waiting:
        page, depth = waiting.pop(0)
        try:
            found, further = read_sitemap(page, limits)
        except DocumentError as error:
            if depth == 1:
                raise
            skipped.append(Skipped(page.url, str(error)))
            continue
        for place in found + further:
            try:
                named = urlsplit(place).netloc
            except ValueError as error:
                skipped.append(Skipped(place, f"not a URL ({error})"))
                continue
            if named != host:
                skipped.append(Skipped(place, f"not on {host}, the host of the sitemap"))
            elif place in found:
                pages[place] = None
            elif depth == _SITEMAP_DEPTH or len(asked) > limits.max_pages:
                skipped.append(Skipped(place, "a sitemap too deep in others"))
            elif place not in asked:
                asked.add(place)
                try:
                    waiting.append((fetch(place, limits), depth + 1))
                except DocumentError as error:
                    skipped.append(Skipped(place, str(error)))
    places = list(pages)
    beyond = f"beyond the limit of {limits.max_pages} pages (documents.max_pages)"
    skipped += [Skipped(place, beyond) for place in places[limits.max_pages :]]
    chosen = places[: limits.max_pages]
    return [(place, len(chosen)) for place in chosen]


def _read_page(page: Page, limits: Limits, skipped: list[Skipped]) -> list[Document]:
    suffix = page_suffix(page.content_type, page.url, page.data)
    name = unquote(PurePosixPath(urlsplit(page.url).path).stem) or urlsplit(page.url).netloc
    data = decode_page(page.data, page.charset).encode() if is_text(suffix) and page.data else page.data
    return _documents(data, suffix, printable(name), page.url, limits, skipped, page.charset)


def _tell(progress: ProgressCallback | None, stage: str, done: int, total: int, message: str) -> None:
    if progress:
        progress(Progress(stage, done, total, message))
