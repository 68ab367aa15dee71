"""The blocks of a page or a chapter: headings, paragraphs, items of lists, rows of tables, captions, notes."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from continual_learning.documents.archive import local_name
from continual_learning.documents.document import one_line
from continual_learning.documents.extra import library
from continual_learning.documents.tables import table_text

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption figure "
    "footer form header hgroup hr legend li main menu nav ol p pre section summary table tbody td tfoot th thead tr ul "
    "h1 h2 h3 h4 h5 h6".split()
)
_NO_TEXT = frozenset(
    "annotation annotation-xml audio button canvas datalist head iframe input noscript object option rp rt script "
    "select style svg template textarea video".split()
)
_FRAME_ROLES = ("navigation", "banner", "contentinfo", "search", "menu", "menubar")
_FRAME_NAMES = re.compile(
    r"(^|\s)(comments|comment-?list|disqus_thread|cookie-?(banner|bar|consent|notice|popup))(\s|$)", re.IGNORECASE
)
_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)([A-Za-z][A-Za-z0-9]*;)")
_SHORT_ITEM = 60
_LONGEST_REPEATED = 100  # characters of a cell that is merged over several rows
_MOST_CELLS = 500_000  # that merged cells may make: a page that says more is a trap


@dataclass
class Block:
    """A piece of text that stands by itself."""

    text: str
    kind: str
    """The name of its element, such as ``p``, ``h2``, ``li`` or ``tr``."""
    element: Any
    links: int = 0
    """Characters that belong to links."""
    frame: bool = False
    """Whether it is in the menu, the header or the footer of the page, or in a comment of a reader."""

    @property
    def is_link(self) -> bool:
        """Whether most of it is links, as in menus."""
        return self.links > 0.6 * len(self.text)


def parse_tree(text: str) -> Any:
    """A page as a tree: as XML if it is XHTML without an error, else as HTML; None if there is nothing in it."""
    etree = library("lxml.etree", "a web page")
    if re.match(r"\s*<\?xml|[^>]*>?\s*<html[^>]*\sxmlns=", text[:2000]):
        known = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
        try:
            parser = etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True)
            return etree.fromstring(known.encode("utf-8", "replace"), parser)
        except etree.XMLSyntaxError:
            pass  # it only claims to be XML, as many pages do
    return etree.fromstring(
        text.encode("utf-8", "replace"), etree.HTMLParser(encoding="utf-8", no_network=True, huge_tree=True)
    )


def is_cut(root: Any) -> bool:
    """Whether the parser gave up a page of `parse_tree`, which it does below 2,048 elements in one another."""
    return any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in root.getroottree().parser.error_log)


def blocks_of(root: Any, book: bool = False) -> list[Block]:
    """All blocks below an element, in order. In a ``book``, headers and footers belong to the text."""
    return _Reader(book).read(root)


def blocks_text(blocks: Sequence[Block]) -> str:
    """Blocks as text: an empty line between two, and none between short items of a list."""
    text: list[str] = []
    last: Block | None = None
    for block in blocks:
        short = (
            last is not None and last.kind == block.kind == "li" and len(last.text) <= _SHORT_ITEM >= len(block.text)
        )
        text += ["" if last is None else "\n" if short else "\n\n", block.text]
        last = block
    return "".join(text)


class _Reader:
    """Goes through a tree without recursion, as pages may be nested by the thousand."""

    def __init__(self, book: bool):
        self._book = book
        self._blocks: list[Block] = []
        self._text: list[str] = []
        self._links = 0
        self._items: dict[Any, int] = {}  # of numbered lists, the number of the last item
        self._mark = ""  # of the item of a list that begins
        self._term: Block | None = None  # that a definition follows

    def read(self, root: Any) -> list[Block]:
        # element, its children still to come, the elements around it, whether in a link, in a frame, in <pre>
        stack: list[tuple[Any, Iterator[Any], bool, bool, bool]] = []
        self._begin(root, stack, False, False, False)
        while stack:
            element, children, link, frame, pre = stack[-1]
            child = next(children, None)
            if child is None:
                stack.pop()
                if local_name(element) in _BLOCKS:
                    self._flush(element, frame, pre)
                if stack:
                    _, _, link, frame, pre = stack[-1]
                    self._add(element.tail, link, pre)
                continue
            name = local_name(child)
            if not name or name in _NO_TEXT or _is_hidden(child) or self._is_note_mark(child):
                self._add(child.tail, link, pre)
            elif name == "br":
                self._text.append("\n")
                self._add(child.tail, link, pre)
            elif name == "table" and (rows := _table(child)):
                self._flush(element, frame, pre)
                self._blocks += [Block(row, "tr", child, 0, frame) for row in rows]
                self._add(child.tail, link, pre)
            else:
                if name in _BLOCKS:
                    self._flush(element, frame, pre)
                self._begin(child, stack, link, frame, pre)
        self._flush(root, False, False)
        self._end_term()
        return self._blocks

    def _begin(self, element: Any, stack: list[Any], link: bool, frame: bool, pre: bool) -> None:
        name = local_name(element)
        if name == "ol":
            start = element.get("start") or "1"
            self._items[element] = int(start) - 1 if start.isdecimal() and len(start) < 9 else 0
        if name == "li":
            above = stack[-1][0] if stack else None
            self._items[above] = self._items.get(above, 0) + 1
            self._mark = f"{self._items[above]}. " if above is not None and local_name(above) == "ol" else "- "
        link = link or (name == "a" and bool(element.get("href")))
        frame = frame or self._is_frame(element, name, [local_name(above[0]) for above in stack])
        pre = pre or name == "pre"
        stack.append((element, iter(element), link, frame, pre))
        self._add(element.text, link, pre)

    def _add(self, text: str | None, link: bool, pre: bool) -> None:
        if text:
            text = text if pre else re.sub(r"\s+", " ", text)
            self._links += len(text.strip()) if link else 0
            self._text.append(text)

    def _flush(self, element: Any, frame: bool, pre: bool) -> None:
        """End the block that is being read."""
        read, links = "".join(self._text), self._links
        self._text, self._links = [], 0
        lines = read.strip("\n").rstrip() if pre else "\n".join(map(one_line, read.split("\n"))).strip()
        if not lines.strip():
            return
        kind = local_name(element)
        if self._mark:
            lines, self._mark, kind = self._mark + lines, "", "li"
        block = Block(lines, kind, element, links, frame)
        if kind == "dd" and self._term is not None:
            block.text, self._term = f"{self._term.text.rstrip(' :')}: {block.text}", None
        self._end_term()
        if kind == "dt":
            self._term = block
        else:
            self._blocks.append(block)

    def _end_term(self) -> None:
        if self._term is not None:
            self._blocks.append(self._term)
            self._term = None

    def _is_frame(self, element: Any, name: str, above: Sequence[str]) -> bool:
        if name == "nav":
            return True
        if self._book:
            return False
        if name in ("header", "footer"):
            return not any(outer in ("main", "article", "section", "blockquote", "figure") for outer in above)
        names = f"{element.get('id') or ''} {element.get('class') or ''}"
        return element.get("role") in _FRAME_ROLES or bool(name != "body" and _FRAME_NAMES.search(names))

    def _is_note_mark(self, element: Any) -> bool:
        """Whether an element is the raised number of a note, which would become a part of the word before it."""
        name = local_name(element)
        if name == "a":
            kinds = f"{element.get('{http://www.idpf.org/2007/ops}type') or element.get('epub:type') or ''}"
            return "noteref" in kinds.split() or element.get("role") == "doc-noteref"
        if name != "sup":
            return False
        links = [child for child in element.iter() if local_name(child) == "a" and (child.get("href") or "")]
        return bool(links) and all("#" in (link.get("href") or "") for link in links)


def _is_hidden(element: Any) -> bool:
    style = (element.get("style") or "").replace(" ", "").lower()
    return element.get("hidden") is not None or "display:none" in style or element.get("aria-hidden") == "true"


def _table(table: Any) -> list[str]:
    """The rows of a table of data; none for a table that only lays out a page."""
    rows = [row for row in table.iter() if local_name(row) == "tr" and _table_of(row) is table]
    cells = [[cell for cell in row if local_name(cell) in ("td", "th")] for row in rows]
    inside = (found for row in cells for cell in row for found in cell.iter() if found is not cell)
    if any(local_name(found) in ("table", "article", "section", "form", "nav", *HEADINGS) for found in inside):
        return []
    if len(rows) < 2 or max(map(len, cells)) < 2:
        return []
    caption = next((found for found in table if local_name(found) == "caption"), None)
    above = [one_line(_words(caption))] if caption is not None else []
    # the cells that hang into a row from one above, by column: how many rows more, and the text
    hanging: dict[int, tuple[int, str]] = {}
    merged = sum(_span(cell, "rowspan") * _span(cell, "colspan") for row in cells for cell in row) < _MOST_CELLS
    grid: list[list[str | None]] = []
    headers = 0
    for number, row in enumerate(cells):
        if (
            headers == number
            and row
            and (all(local_name(cell) == "th" for cell in row) or local_name(rows[number].getparent()) == "thead")
        ):
            headers += 1
        grid.append(_grid_row(row, hanging if merged else None))
    said = headers if 0 < headers < len(grid) or _names_rows(cells) else None
    return [text for text in above if text] + table_text(grid, said)


def _grid_row(cells: Sequence[Any], hanging: dict[int, tuple[int, str]] | None) -> list[str | None]:
    """A row with the cells that hang into it. Without ``hanging`` no cell is taken to be merged."""
    line: list[str | None] = []
    if hanging is None:
        return [one_line(_words(cell)) for cell in cells]

    def hang() -> None:
        while len(line) in hanging:
            left, text = hanging.pop(len(line))
            if left > 1:
                hanging[len(line)] = (left - 1, text)
            line.append(text)

    for cell in cells:
        hang()
        text, down, across = one_line(_words(cell)), _span(cell, "rowspan"), _span(cell, "colspan")
        if down > 1 and len(text) <= _LONGEST_REPEATED:
            hanging[len(line)] = (down - 1, text)
        line += [text, *[None] * (across - 1)]
    hang()
    return line


def _names_rows(cells: Sequence[Sequence[Any]]) -> bool:
    """Whether each row is a name and a value: ``<th>Founder<td>Agnes Morrow``."""
    return all(len(row) == 2 and local_name(row[0]) == "th" and local_name(row[1]) == "td" for row in cells if row)


def _table_of(row: Any) -> Any:
    return next((above for above in row.iterancestors() if local_name(above) == "table"), None)


def _span(cell: Any, name: str) -> int:
    value = cell.get(name) or "1"
    return min(max(int(value), 1), 1000) if value.isdecimal() and len(value) < 6 else 1


def _words(element: Any) -> str:
    return " ".join(block.text for block in blocks_of(element, book=True))
