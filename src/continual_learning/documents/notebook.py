"""Jupyter notebooks (.ipynb, nbformat 3 and 4): texts, code and what it printed, in their order."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from continual_learning.documents.document import Parsed, Skipped, clean_text
from continual_learning.documents.extra import damage
from continual_learning.documents.plain import decode
from continual_learning.errors import DocumentError

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def parse_notebook(data: bytes, parse_markdown: Callable[[bytes], Parsed]) -> Parsed:
    """The cells of a notebook, titled as ``parse_markdown`` titles its texts. Raises DocumentError."""
    try:
        notebook = json.loads(decode(data))
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"it is damaged, or no notebook (.ipynb) ({error}); save it again") from None
    left_out: Counter[str] = Counter()
    with damage("notebook (.ipynb)"):
        sheets = notebook.get("worksheets") or [notebook]
        cells = [cell for sheet in sheets for cell in sheet["cells"]]
        parts = [(cell["cell_type"], part) for cell in cells for part in _parts(cell, left_out) if part.strip()]
    text = clean_text("\n\n".join(part.strip("\n") for _, part in parts))
    if not text.strip():
        raise DocumentError("none of its cells has text; expected at least one")
    texts = "\n\n".join(part for kind, part in parts if kind == "markdown")
    title = parse_markdown(clean_text(texts).encode()).title if texts else ""
    return Parsed(text, title, tuple(Skipped(kind, f"{count:,} of them") for kind, count in sorted(left_out.items())))


def _parts(cell: dict[str, Any], left_out: Counter[str]) -> Iterator[str]:
    """The text of a cell, and of what it printed."""
    source = _joined(cell.get("source") or cell.get("input"))  # nbformat 3 has the code in `input`
    if cell["cell_type"] == "heading":
        yield f"{'#' * int(cell.get('level', 1))} {source}"
        return
    yield source
    for output in cell.get("outputs") or ():
        kinds = output.get("data") or output  # nbformat 3 has no `data`
        printed = _joined(output.get("text") or kinds.get("text/plain") or kinds.get("text"))
        if output.get("output_type") in ("error", "pyerr"):
            printed = f"{output.get('ename', '')}: {output.get('evalue', '')}"
        images = [kind for kind in kinds if kind.startswith("image/") or kind in ("png", "jpeg", "svg")]
        if images:
            left_out["pictures"] += 1
        elif printed:
            yield _COLOURS.sub("", printed)
        elif kinds is not output and kinds:
            left_out["outputs without text"] += 1


def _joined(lines: Any) -> str:
    return "".join(lines) if isinstance(lines, list) else str(lines or "")
