"""Web pages, by trafilatura: the main text, without menus, advertisements and footers."""

from __future__ import annotations

import codecs
import re

from continual_learning.documents.document import Parsed, clean_text
from continual_learning.documents.extra import damage, library
from continual_learning.errors import DocumentError

# WHATWG, "Determining the character encoding": byte order mark, what the server says, what the page says in its
# first kilobyte, a guess. Latin-1 is read as Windows-1252 there, and so it is here.
_DECLARED = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})|<\?xml[^>]{0,100}encoding=["']([\w.:-]{1,40})""",
    re.IGNORECASE,
)
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_LATIN = {"iso8859-1", "ascii"}


def parse_html(data: bytes, charset: str | None = None, whole: bool = False) -> Parsed:
    """The main text of a page. ``charset`` is what the server declared.

    ``whole``: all of the text matters, as in a book: if the main text is less than half of it, take all of it.
    Raises DocumentError for a page without text, MissingExtraError.
    """
    trafilatura = library("trafilatura", "a web page")
    html = decode_html(data, charset)
    with damage("web page"):
        found = trafilatura.bare_extraction(html, with_metadata=True, include_comments=False, favor_recall=whole)
        text = clean_text((found.text if found is not None else "") or "").strip()
        title = clean_text((found.title if found is not None else "") or "")
        if whole:
            everything = clean_text(trafilatura.html2txt(html)).strip()
            text = everything if len(text) < len(everything) / 2 else text
    if not text:
        raise DocumentError("it has no main text; if the page is made by a script, save it from the browser as text")
    return Parsed(text, title)


def decode_html(data: bytes, charset: str | None = None) -> str:
    """A page as text: what cannot be decoded becomes U+FFFD, as in a browser. Raises DocumentError if it is empty."""
    if not data.strip():
        raise DocumentError(f"it is empty ({len(data)} bytes); expected a web page")
    declared = _DECLARED.search(data[:1024])
    names = [name for mark, name in _MARKS if data.startswith(mark)]
    names += [charset] if charset else []
    names += [(declared[1] or declared[2]).decode("ascii", "replace")] if declared else []
    for name in names:
        try:
            known = codecs.lookup(name).name
            return data.decode("cp1252" if known in _LATIN else known, "replace")
        except (LookupError, ValueError):
            continue  # an unknown name, or one that is not a text encoding, is ignored
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
