"""Word files (.docx), by python-docx: paragraphs and tables in their order."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from continual_learning.documents.archive import open_archive
from continual_learning.documents.document import Parsed, clean_text
from continual_learning.documents.extra import damage, library
from continual_learning.documents.limits import Limits
from continual_learning.errors import DocumentError


def parse_docx(data: bytes, limits: Limits) -> Parsed:
    """Paragraphs separated by empty lines, and rows of tables. Raises DocumentError."""
    docx = library("docx", "a .docx file")
    open_archive(data, limits, "Word file (.docx)").close()
    with damage("Word file (.docx)"):
        document = docx.Document(io.BytesIO(data))
        text = clean_text("\n\n".join(_blocks(document)))
        title = clean_text(document.core_properties.title or "") or _heading(document)
    if not text.strip():
        raise DocumentError("it has no text, only pictures or nothing; expected at least one paragraph")
    return Parsed(text, title)


def _blocks(container: Any) -> Iterator[str]:
    for block in container.iter_inner_content():
        if hasattr(block, "rows"):
            yield from filter(None, (_row(row) for row in block.rows))
        elif block.text.strip():
            yield block.text.strip()


def _row(row: Any) -> str:
    cells: list[Any] = []
    for cell in row.cells:  # a merged cell is given once for each column that it covers
        if not cells or cell._tc is not cells[-1]._tc:
            cells.append(cell)
    return " | ".join(" ".join(" ".join(_blocks(cell)).split()) for cell in cells).strip(" |")


def _heading(document: Any) -> str:
    for paragraph in document.paragraphs:
        style = paragraph.style.name if paragraph.style is not None else ""
        if style in ("Title", "Heading 1") and paragraph.text.strip():
            return clean_text(paragraph.text)
    return ""
