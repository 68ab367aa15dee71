"""Documents: text with a title and the place it came from, read from files, folders, pages and standard input.

document.py   what a document is
sources.py    from a path, a URL, a folder or standard input to documents: start here
formats.py    which parser reads a file, by its suffix or its content type
plain.py pdf.py word.py html.py epub.py   the parsers: bytes in, `Parsed` out
json_files.py  JSON lines: a document a line
web.py        one page over HTTP, within limits and from public addresses only
sitemap.py    the pages of a site
lists.py      lists of sources, such as the documentation of a product, and their chunks as JSON lines
"""

from continual_learning.documents.document import Document, Skipped
from continual_learning.documents.formats import JSON_LINES, SUFFIXES
from continual_learning.documents.json_files import json_object
from continual_learning.documents.limits import Limits
from continual_learning.documents.sources import (
    STDIN,
    is_url,
    names_source,
    read_documents,
    without_repeats,
    without_secret,
)

__all__ = [
    "JSON_LINES",
    "STDIN",
    "SUFFIXES",
    "Document",
    "Limits",
    "Skipped",
    "is_url",
    "json_object",
    "names_source",
    "read_documents",
    "without_repeats",
    "without_secret",
]
