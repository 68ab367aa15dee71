"""Pages of a PDF without text: whether they are pictures, as a scanner makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from continual_learning.documents.document import Skipped
from continual_learning.documents.extra import damage
from continual_learning.errors import DocumentError

SCANNED = "it is a picture without text, as of a scan; OCR reads it, such as ocrmypdf"


def without_text(page: Any) -> str:
    """Why a page has no text."""
    try:
        with damage("page"):
            objects = page["/Resources"].get("/XObject", {}).values() if "/Resources" in page else ()
            if any(found.get_object().get("/Subtype") == "/Image" for found in objects):
                return SCANNED
    except DocumentError:
        pass  # a damaged page has no text either
    return "there is no text on it"


def all_scanned(pages: Sequence[Skipped]) -> str:
    """The error for a PDF whose pages are all pictures; empty if they are not."""
    if not pages or any(page.reason != SCANNED for page in pages):
        return ""
    what = f"all of its {len(pages)} pages are pictures" if len(pages) > 1 else "its only page is a picture"
    return f"it is scanned: {what} without text; run OCR over it, such as `ocrmypdf IN.pdf OUT.pdf`, and learn that"
