"""OpenDocument texts (.odt): all of their text in its order, and what is left out by name.

An .odt is a ZIP archive of XML (OASIS OpenDocument 1.3, part 3): content.xml has the text, styles.xml headers and
footers, meta.xml the title.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from continual_learning.documents.archive import attribute, local_name, named, open_archive, xml_part
from continual_learning.documents.document import Parsed, Skipped, clean_text, one_line
from continual_learning.documents.extra import damage, library
from continual_learning.documents.limits import Limits
from continual_learning.documents.tables import table_text
from continual_learning.errors import DocumentError

_WHAT = "OpenDocument text (.odt)"
_MANIFEST = "META-INF/manifest.xml"
_PAGE_FIELDS = ("page-number", "page-count")
_BOX = ("text-box", "note-body")
_NO_TEXT = tuple("note-citation ruby-text object object-ole binary-data desc title math".split())
_MOST_REPEATED = 63  # empty cells that a file may say are the same


def parse_odt(data: bytes, limits: Limits) -> Parsed:
    """Headers, paragraphs with their text boxes and notes, rows of tables, footers. Raises DocumentError."""
    library("lxml.etree", "an .odt file")
    with open_archive(data, limits, _WHAT) as archive, damage(_WHAT):
        names = archive.namelist()
        if _MANIFEST in names and any(named(xml_part(archive, _MANIFEST, _WHAT), "encryption-data")):
            raise DocumentError(
                "it is encrypted; expected a file without a password; save it without one and try again"
            )
        reader = _Reader()
        text = list(reader.blocks(xml_part(archive, "content.xml", _WHAT)))
        styles = xml_part(archive, "styles.xml", _WHAT) if "styles.xml" in names else None
        above, below = (list(reader.margins(styles, kind)) for kind in ("header", "footer"))
        titles = named(xml_part(archive, "meta.xml", _WHAT), "title") if "meta.xml" in names else iter(())
        title = next((one_line(t.text) for t in titles if one_line(t.text or "")), "") or reader.heading
    whole = clean_text("\n\n".join([*above, *text, *below]))
    if not whole.strip():
        raise DocumentError("it has no text, only pictures or nothing; expected at least one paragraph")
    return Parsed(whole, clean_text(title), tuple(reader.left_out()))


class _Reader:
    def __init__(self) -> None:
        self.heading = ""
        self._counts: Counter[str] = Counter()
        self._after: list[Any] = []  # text boxes and notes, which follow the paragraph that they are in
        self._paged = False  # whether a page number was met

    def left_out(self) -> Iterator[Skipped]:
        """What of the file is not in the text."""
        for name, count in sorted(self._counts.items()):
            yield Skipped(name, f"{count:,} of them" if count > 1 else "there is one")

    def margins(self, styles: Any, kind: str) -> Iterator[str]:
        """The text of headers or footers, each once."""
        found = named(styles, kind, f"{kind}-left", f"{kind}-first") if styles is not None else iter(())
        seen: set[str] = set()
        for part in found:
            self._paged = False
            for text in self.blocks(part):
                number_alone = self._paged and sum(word.isalpha() for word in text.split()) < 3  # Page 3 of 7
                if text not in seen and not number_alone:
                    yield text
                seen.add(text)
                self._paged = False

    def blocks(self, container: Any) -> Iterator[str]:
        """The paragraphs in an element."""
        for block in container:
            name = local_name(block)
            if name in ("p", "h"):
                yield from self._paragraph(block, name)
            elif name == "table":
                yield from self._table(block)
            elif name == "tracked-changes":
                self._counts["deleted passages"] += sum(1 for _ in named(block, "deletion"))
            elif name == "table-of-content":
                self._counts["table of contents"] += 1
            elif name in ("scripts", "font-face-decls", "automatic-styles", "annotation"):
                continue
            elif name:
                yield from self.blocks(block)

    def _paragraph(self, paragraph: Any, name: str) -> Iterator[str]:
        outer, self._after = self._after, []
        text = self._inline(paragraph).strip()
        after, self._after = self._after, outer
        if text:
            yield text
        if name == "h" or attribute(paragraph, "style-name") == "Title":
            self.heading = self.heading or one_line(text)
        for block in after:
            yield from self.blocks(block)

    def _inline(self, element: Any) -> str:
        text = element.text or ""
        for piece in element:
            text += self._piece(piece) + (piece.tail or "")
        return text

    def _piece(self, piece: Any) -> str:
        name = local_name(piece)
        if name == "s":
            count = attribute(piece, "c")
            return " " * (min(int(count), 100) if count.isdecimal() and len(count) < 6 else 1)
        if name in ("tab", "line-break"):
            return "\t" if name == "tab" else "\n"
        if name in _PAGE_FIELDS:
            self._paged = True
            return ""
        if name in _BOX:
            self._after.append(piece)
            return ""
        if name == "annotation":
            self._counts["comments"] += 1
            return ""
        if name == "object":
            self._counts["embedded files"] += 1
        if not name or name in _NO_TEXT:
            return ""
        return self._inline(piece)

    def _table(self, table: Any) -> Iterator[str]:
        rows = [row for row in named(table, "table-row") if _table_of(row) is table]
        headers = sum(local_name(row.getparent()) == "table-header-rows" for row in rows)
        cells = [[cell for cell in row if local_name(cell) in ("table-cell", "covered-table-cell")] for row in rows]
        if len(rows) < 2 or max(map(len, cells)) < 2:  # a table for its looks
            for cell in (cell for row in cells for cell in row):
                yield from self.blocks(cell)
            return
        grid: list[list[str | None]] = []
        for row in cells:
            line: list[str | None] = []
            for cell in row:
                text = " ".join(self.blocks(cell))
                covered = local_name(cell) == "covered-table-cell" and bool(line)
                line += [None if covered and not text else text] * _repeated(cell, "number-columns-repeated", text)
            grid.append(line)
        yield from table_text(grid, headers or None)


def _table_of(row: Any) -> Any:
    return next((above for above in row.iterancestors() if local_name(above) == "table"), None)


def _repeated(cell: Any, name: str, text: str) -> int:
    count = attribute(cell, name)
    most = _MOST_REPEATED if not text else 10 if len(text) <= 20 else 1
    return max(min(int(count), most), 1) if count.isdecimal() and len(count) < 6 else 1
