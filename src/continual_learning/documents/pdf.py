"""PDF files, by pypdf: the text of each page, its tables row by row, and a note about pages that have none."""

from __future__ import annotations

import io
import re
from typing import Any

from continual_learning.documents.document import Parsed, Skipped, clean_text, one_line
from continual_learning.documents.extra import damage, library
from continual_learning.documents.limits import Limits
from continual_learning.documents.pages import join_pages
from continual_learning.documents.pdf_tables import is_spread, may_have_table, may_lay_out, with_tables
from continual_learning.documents.scans import all_scanned, without_text
from continual_learning.errors import DocumentError

# What programs write where nobody gave a title.
_NO_TITLE = re.compile(
    r"(?:untitled|ohne titel|sans titre|sin título|unbenannt)[\s\d().-]*"
    r"|(?:(?:new )?document|dokument|(?:powerpoint )?presentation|slide|diapositive|folie|title|unknown)\s?\d*"
    r"|microsoft (?:office )?(?:word|powerpoint|excel|publisher|visio)\b.*"
    r"|(?:[a-z]:|\\\\|/|file:).*"
    r"|.*\.(?:docx?|odt|rtf|pptx?|xlsx?|indd|qxp|qxd|tex|dvi|ps|eps|pdf|html?|txt|wpd|cdr)",
    re.IGNORECASE,
)
_LONGEST_TITLE = 500


def parse_pdf(data: bytes, limits: Limits) -> Parsed:
    """The text of all pages, as `pages` joins them. Raises DocumentError, MissingExtraError."""
    pypdf = library("pypdf", "a .pdf file")
    with damage("PDF file"):
        reader = pypdf.PdfReader(io.BytesIO(data))
        _unlock(pypdf, reader)
        total = len(reader.pages)
        texts, left_out, length, laid_out = [], [], 0, True
        for number in range(total):
            text = _page_text(reader, number)
            if isinstance(text, Skipped):
                left_out.append(text)
                continue
            if laid_out and may_have_table(text):
                layout = _layout(reader.pages[number])
                laid_out = not is_spread(layout)
                text = with_tables(text, layout) if laid_out else text
            length += len(text)
            if length > limits.max_unpacked:
                raise DocumentError(f"its text has more than {limits.max_unpacked:,} characters; split it")
            texts.append(text)
        title = _title(reader)
    if not texts and (scanned := all_scanned(left_out)):
        raise DocumentError(scanned)
    if not texts:
        pages = f"none of its {total} pages has" if total != 1 else "its only page has no"
        found = f"{pages} text that can be read ({left_out[0].reason})" if left_out else "it has no pages"
        raise DocumentError(f"{found}; if it is scanned, run OCR over it, such as ocrmypdf, and try again")
    return Parsed(join_pages(texts), title, tuple(left_out))


def _unlock(pypdf: Any, reader: Any) -> None:
    if not reader.is_encrypted:
        return
    try:
        opened = reader.decrypt("")  # many files are encrypted with no password, to forbid printing
    except pypdf.errors.DependencyError:
        raise DocumentError(
            "it is encrypted with AES, which pypdf reads only with the package cryptography; "
            "install it with: pip install cryptography"
        ) from None
    if not opened:
        raise DocumentError("it is encrypted; expected a file without a password; save it without one and try again")


def _page_text(reader: Any, number: int) -> str | Skipped:
    """The text of a page; a damaged page loses only its own text."""
    name = f"page {number + 1}"
    try:
        with damage("page"):
            text = clean_text(reader.pages[number].extract_text()).strip()
    except DocumentError as error:
        return Skipped(name, str(error).partition(";")[0])
    return text or Skipped(name, without_text(reader.pages[number]))


def _layout(page: Any) -> str:
    """The text of a page with each word in its place; "" if that takes long, or is more than pypdf can do."""
    try:
        with damage("page"):
            content = page.get_contents()
            if content is None or not may_lay_out(content.get_data()):
                return ""
            return str(page.extract_text(extraction_mode="layout"))
    except DocumentError:
        return ""  # the text of the page is there; only its tables are not told


def _title(reader: Any) -> str:
    try:
        with damage("title"):
            title = one_line(clean_text(str((reader.metadata or {}).get("/Title") or "")))
    except DocumentError:
        return ""  # a broken title must not lose the text; the file's name will do
    return "" if _NO_TITLE.fullmatch(title[:_LONGEST_TITLE]) else title
