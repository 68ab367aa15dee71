"""Documents: text with a title and the place it came from, read from files, folders, pages and standard input.

document.py   what a document is
sources.py    from a path, a URL, a folder or standard input to documents: start here
formats.py    the table of kinds: which parser reads a file, by its suffix, its content type or its content
plain.py markdown.py pdf.py word.py odt.py rtf.py html.py epub.py mail.py notebook.py
              the parsers: bytes in, `Parsed` out
json_files.py a document a row of JSON lines; other JSON as text
tables.py     rows with the names of their columns; CSV
pages.py      the pages of a PDF as one text
scans.py      pages of a PDF that are pictures
blocks.py     headings, paragraphs, lists and tables of a page or a chapter
archive.py    packed XML, within limits
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
