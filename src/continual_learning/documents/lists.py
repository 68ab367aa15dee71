"""Lists of sources, such as the documentation of a product, and their chunks as JSON lines to learn from."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml

from continual_learning.documents.document import TITLE_BYTES, Document, Skipped, cut_title, shortened
from continual_learning.documents.limits import Limits
from continual_learning.documents.sources import Found, is_url, read_documents, without_repeats, without_secret
from continual_learning.errors import ContinualLearningError, DocumentError, UnknownNameError
from continual_learning.io.files import output_file, storage_errors
from continual_learning.text.chunking import passages
from continual_learning.types import Progress, ProgressCallback

_SHIPPED = "data/documentation"
_WORD_BYTES = 24


@dataclass(frozen=True)
class SourceList:
    """Sources that belong together."""

    name: str
    title: str
    sources: tuple[str, ...]
    """URLs, sitemaps, files or folders."""


def shipped_lists() -> list[str]:
    """Names of the lists that come with the package."""
    folder = files("continual_learning") / _SHIPPED
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_list(name: str | Path) -> SourceList:
    """A list by the name of one that ships, or from a YAML file: ``title``, and ``sources``, a list of strings.

    Raises UnknownNameError, and DocumentError for a file that is no such list.
    """
    path = Path(name)
    if str(name) in shipped_lists():
        text = (files("continual_learning") / _SHIPPED / f"{name}.yaml").read_text("utf-8")
    elif path.suffix in (".yaml", ".yml"):
        try:
            text = path.read_text("utf-8-sig")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise DocumentError(f"{path}: cannot be read: {reason}; check the name") from None
    else:
        known = ", ".join(shipped_lists())
        raise UnknownNameError(f"no list {str(name)!r}; expected {known}, or a YAML file with `sources:`")
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date without a 13th month, a thousand brackets
        raise DocumentError(f"{name}: not YAML ({shortened(str(error))}); expected `sources:` and a list") from None
    sources = data.get("sources") if isinstance(data, dict) else None
    if not isinstance(sources, list) or not sources or not all(isinstance(s, str) and s.strip() for s in sources):
        raise DocumentError(f"{name}: expected `sources:` with a list of URLs or paths, one a line after a dash")
    return SourceList(path.stem, str(data.get("title", path.stem)), tuple(s.strip() for s in sources))


def gather(sources: Sequence[str], limits: Limits | None = None, progress: ProgressCallback | None = None) -> Found:
    """Read many sources; one that cannot be read is skipped with its reason, and so is a repeated text."""
    limits = limits or Limits()
    documents: list[Document] = []
    skipped = [Skipped(s, f"beyond the limit of {limits.max_pages} pages") for s in sources[limits.max_pages :]]
    for number, source in enumerate(sources[: limits.max_pages]):
        if progress:
            progress(Progress("read", number, min(len(sources), limits.max_pages), source))
        if number and is_url(source):
            time.sleep(limits.pause)
        try:
            found, left_out = read_documents(source, limits=limits)
        except ContinualLearningError as error:
            name = without_secret(source)
            skipped.append(Skipped(name, str(error).removeprefix(f"{name}: ")))
            continue
        documents += found
        skipped += left_out
    kept, repeats = without_repeats(documents)
    return kept, skipped + repeats


def chunk(document: Document, words: int) -> list[Document]:
    """The document in chunks of whole sentences, of similar length and at most ``words`` words each.

    Each is titled with its number, ``Transactions (2/5)``, and keeps the document's source.
    """
    pieces = passages(document.text, _word_count, words)
    if len(pieces) == 1:
        return [Document(pieces[0], document.title, document.source)]
    numbered = len(f" ({len(pieces)}/{len(pieces)})")
    title = cut_title(document.title, TITLE_BYTES - numbered)
    return [
        Document(piece, f"{title} ({number}/{len(pieces)})".strip(), document.source)
        for number, piece in enumerate(pieces, 1)
    ]


def _word_count(text: str) -> int:
    """Words by their spaces; a stretch longer than words are counts as several."""
    return sum(-(-len(word.encode()) // _WORD_BYTES) if len(word) > _WORD_BYTES else 1 for word in text.split())


def save_json_lines(documents: Iterable[Document], path: Path) -> int:
    """Write title, text, source and sha256 of each document as a line, all or nothing; returns the number of lines."""
    count = 0
    with storage_errors(f"the folder of {str(path)!r}"):
        path.parent.mkdir(parents=True, exist_ok=True)
    with output_file(path) as file:
        for line in _lines(documents):
            file.write(f"{line}\n".encode())
            count += 1
    return count


def _lines(documents: Iterable[Document]) -> Iterator[str]:
    for d in documents:
        row = {"title": d.title, "text": d.text, "source": d.source, "sha256": d.sha256}
        yield json.dumps(row, ensure_ascii=False)
