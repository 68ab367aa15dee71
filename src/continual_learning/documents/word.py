"""Word files (.docx): all of their text in its order, and what is left out by name.

A .docx is a ZIP archive of XML (ECMA-376, part 1, section 17). Its text is read as if all tracked changes were
accepted: what was inserted belongs to it, what was deleted does not. Elements are told by their names without
namespace, so that files of the strict variant are read too.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

from continual_learning.documents.archive import attribute, child, local_name, named, open_archive, xml_part
from continual_learning.documents.document import Parsed, Skipped, clean_text, one_line
from continual_learning.documents.extra import damage, library
from continual_learning.documents.limits import Limits
from continual_learning.documents.tables import table_text
from continual_learning.errors import DocumentError
from continual_learning.text.words import several

_WHAT = "Word file (.docx)"
_PAGE_FIELD = re.compile(r"\s*(PAGE|NUMPAGES|SECTIONPAGES)\b", re.IGNORECASE)
_DELETED = ("del", "moveFrom")
_NO_TEXT = tuple("pPr rPr tblPr tblGrid trPr tcPr sdtPr sdtEndPr sectPr instrText delText rt".split())
_LONGEST_REPEATED = 100  # characters of a cell that is merged over several rows
_MOST_COLUMNS = 63  # that Word allows
_MARKS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def parse_docx(data: bytes, limits: Limits) -> Parsed:
    """Header, paragraphs with their text boxes and notes, rows of tables, footer. Raises DocumentError."""
    library("lxml.etree", "a .docx file")
    with open_archive(data, limits, _WHAT) as archive, damage(_WHAT):
        word = _Word(archive)
        text = clean_text("\n\n".join(word.paragraphs()))
        title = clean_text(word.title())
    if not text.strip():
        raise DocumentError("it has no text, only pictures or nothing; expected at least one paragraph")
    return Parsed(text, title, tuple(word.left_out()))


class _Word:
    """The parts of a file, and what was met in them."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        self._main = next(iter(self._related("", "/officeDocument").values()), "word/document.xml")
        self._body = xml_part(archive, self._main, _WHAT)
        self._styles = self._style_names()
        self._notes = {kind: self._notes_by_id(kind) for kind in ("footnote", "endnote")}
        self._deleted: list[str] = []
        self._hidden: list[str] = []
        self._counts: Counter[str] = Counter()
        self._after: list[Any] = []  # text boxes and notes, which follow the paragraph that they are in
        self._joined = ""  # a paragraph whose end was deleted: the next one continues it
        self._fields: list[str] = []  # the codes of the fields that are open, the innermost last
        self._paged = False  # whether a page number was met
        self._heading = ""

    # -- parts of the file

    def _related(self, part: str, kind: str) -> dict[str, str]:
        """The parts that a part refers to, by id, whose type ends with ``kind``; not those that are not there.

        Some programs leave references to ``NULL``, which cost no text.
        """
        folder, name = posixpath.split(part)
        path = posixpath.join(folder, "_rels", f"{name}.rels")
        if path not in self._archive.namelist():
            return {}
        found = [r for r in xml_part(self._archive, path, _WHAT) if attribute(r, "Type").endswith(kind)]
        targets = {
            attribute(r, "Id"): posixpath.normpath(posixpath.join("/", folder, attribute(r, "Target"))).lstrip("/")
            for r in found
            if attribute(r, "TargetMode") != "External"
        }
        there = set(self._archive.namelist())
        return {key: target for key, target in targets.items() if target in there}

    def _style_names(self) -> dict[str, str]:
        names = {}
        for part in self._related(self._main, "/styles").values():
            for style in named(xml_part(self._archive, part, _WHAT), "style"):
                name = next(named(style, "name"), None)
                names[attribute(style, "styleId")] = attribute(name, "val") if name is not None else ""
        return names

    def _notes_by_id(self, kind: str) -> dict[str, Any]:
        roots = [xml_part(self._archive, part, _WHAT) for part in self._related(self._main, f"/{kind}s").values()]
        return {attribute(n, "id"): n for root in roots for n in root if attribute(n, "type") in ("", "normal")}

    def title(self) -> str:
        """The title in the file's properties, else the first heading of the highest rank."""
        for part in self._related("", "/core-properties").values():
            for title in named(xml_part(self._archive, part, _WHAT), "title"):
                if one_line(title.text or ""):
                    return one_line(title.text)
        return self._heading

    def left_out(self) -> Iterator[Skipped]:
        """What of the file is not in the text."""
        for name, texts in (("deleted text", self._deleted), ("hidden text", self._hidden)):
            words = sum(len(text.split()) for text in texts)
            if words:
                yield Skipped(name, several(words, "word"))
        for name, count in sorted(self._counts.items()):
            yield Skipped(name, f"{count:,} of them" if count > 1 else "there is one")

    # -- blocks

    def paragraphs(self) -> Iterator[str]:
        """All paragraphs: headers, the body, footers; a header that several sections share is given once."""
        body = [*self._blocks(self._body), *self._end_joined()]
        yield from self._margins("header")
        yield from body
        yield from self._margins("footer")

    def _margins(self, kind: str) -> Iterator[str]:
        parts = self._related(self._main, f"/{kind}")
        used = dict.fromkeys(attribute(r, "id") for r in named(self._body, f"{kind}Reference"))
        seen: set[str] = set()
        for name in used:
            self._paged = False
            for text in self._blocks(self._part(parts[name])) if name in parts else ():
                number_alone = self._paged and sum(word.isalpha() for word in text.split()) < 3  # Page 3 of 7
                if text not in seen and not number_alone:
                    yield text
                seen.add(text)
                self._paged = False

    def _part(self, name: str) -> Any:
        return xml_part(self._archive, name, _WHAT)

    def _blocks(self, container: Any) -> Iterator[str]:
        for block in container:
            name = local_name(block)
            if name == "p":
                yield from self._paragraph(block)
            elif name == "tbl":
                yield from self._end_joined()
                yield from self._table(block)
            elif name == "AlternateContent":
                yield from self._blocks(_alternative(block))
            elif name in _DELETED:
                self._delete(block)
            elif name == "altChunk":
                self._counts["inserted files"] += 1
            elif name and name not in _NO_TEXT and not _is_prompt(block):  # insertions, content controls, custom XML
                yield from self._blocks(block)

    def _paragraph(self, paragraph: Any) -> Iterator[str]:
        properties = child(paragraph, "pPr")
        style = child(properties, "pStyle")
        style_id = attribute(style, "val") if style is not None else ""
        style_name = self._styles.get(style_id, style_id).lower()
        outer, self._after = self._after, []
        text = self._inline(paragraph)
        after, self._after = self._after, outer
        if re.match(r"toc ?\d", style_name):
            self._counts["entries of the table of contents"] += 1
            return
        if any(child(child(properties, "rPr"), name) is not None for name in _DELETED):
            self._joined += text
        else:
            text, self._joined = (self._joined + text).strip(), ""
            if text:
                yield text
            if style_name in ("title", "heading 1", "heading1"):
                self._heading = self._heading or one_line(text)
        for block in after:
            yield from self._blocks(block)

    def _end_joined(self) -> Iterator[str]:
        text, self._joined = self._joined.strip(), ""
        if text:
            yield text

    def _table(self, table: Any) -> Iterator[str]:
        rows: list[list[str | None]] = []
        headers, last_bold, first_bold = 0, False, False
        elements = [row for row in _inside(table, "tr") if not self._is_deleted(row)]
        if len(elements) < 2 or all(len(list(_inside(row, "tc"))) < 2 for row in elements):  # a table for its looks
            for row in elements:
                for cell in _inside(row, "tc"):
                    yield from self._blocks(cell)
            return
        for number, row in enumerate(elements):
            properties = child(row, "trPr")
            if headers == number and _is_on(child(properties, "tblHeader")):
                headers += 1
            last_bold = _is_bold(row)
            first_bold = first_bold or (number == 0 and last_bold)
            before = child(properties, "gridBefore")
            cells: list[str | None] = [""] * (_number(before, "val") if before is not None else 0)
            for cell in _inside(row, "tc"):
                shape = child(cell, "tcPr")
                merged = child(shape, "vMerge")
                text = " ".join(self._blocks(cell))
                if merged is not None and attribute(merged, "val") != "restart" and not text and rows:
                    above = (rows[-1][len(cells)] or "") if len(cells) < len(rows[-1]) else ""
                    text = above if len(above) <= _LONGEST_REPEATED else ""
                span = child(shape, "gridSpan")
                cells += [text, *[None] * (max(_number(span, "val"), 1) - 1 if span is not None else 0)]
            rows.append(cells)
        if not headers and first_bold and not last_bold:
            headers = 1
        yield from table_text(rows, headers or None)

    def _is_deleted(self, row: Any) -> bool:
        if child(child(row, "trPr"), "del") is None:
            return False
        self._delete(row)
        return True

    def _delete(self, element: Any) -> None:
        if local_name(element) != "moveFrom":  # the text is elsewhere in the file
            self._deleted.append(" ".join(t.text or "" for t in named(element, "t", "delText")))

    # -- within a paragraph

    def _inline(self, element: Any) -> str:
        return "".join(map(self._piece, element))

    def _piece(self, piece: Any) -> str:
        name = local_name(piece)
        if name == "fldChar":
            self._field(attribute(piece, "fldCharType"))
        elif name == "instrText" and self._fields:
            self._fields[-1] += piece.text or ""
        elif name == "fldSimple" and _PAGE_FIELD.match(attribute(piece, "instr")):
            self._paged = True
            return ""
        if name in _DELETED:
            self._delete(piece)
            return ""
        if not name or name in _NO_TEXT or _is_prompt(piece):
            return ""
        if name == "t":
            paged = any(_PAGE_FIELD.match(code) for code in self._fields)
            self._paged = self._paged or paged
            return "" if paged else piece.text or ""
        if name in _MARKS:
            return _MARKS[name]
        if name == "r" and _is_on(child(child(piece, "rPr"), "vanish")):
            self._hidden.append(self._inline(piece))
            return ""
        if name == "AlternateContent":
            return self._inline(_alternative(piece))
        if name == "f" and (over := child(piece, "num")) is not None:  # a fraction
            under = child(piece, "den")
            return f"{self._inline(over)}/{self._inline(under) if under is not None else ''}"
        if name == "sSup" and (base := child(piece, "e")) is not None:
            power = child(piece, "sup")
            return f"{self._inline(base)}^{self._inline(power) if power is not None else ''}"
        self._note(name, piece)
        return "" if name == "txbxContent" else self._inline(piece)

    def _note(self, name: str, element: Any) -> None:
        """What is not text itself but leads to some, or is left out."""
        if name == "txbxContent":
            self._after.append(element)
        elif name in ("footnoteReference", "endnoteReference"):
            note = self._notes[name.removesuffix("Reference")].get(attribute(element, "id"))
            if note is not None:
                self._after.append(note)
        elif name == "commentReference":
            self._counts["comments"] += 1
        elif name == "OLEObject":
            self._counts["embedded files"] += 1
        elif name == "chart":
            self._counts["charts"] += 1
        elif name == "relIds":  # SmartArt: its text is in a part of its own
            part = self._related(self._main, "/diagramData").get(attribute(element, "dm"))
            if part:
                self._after.append(_points(self._part(part)))

    def _field(self, kind: str) -> None:
        """A field has a code (`PAGE`) and, after it, its result: what is seen."""
        if kind == "begin":
            self._fields.append("")
        elif kind == "end" and self._fields:
            self._fields.pop()


def _inside(element: Any, name: str) -> Iterator[Any]:
    """The rows of a table or the cells of a row, also of those in content controls and insertions."""
    for part in element:
        found = local_name(part)
        if found == name:
            yield part
        elif found in ("sdt", "sdtContent", "ins", "moveTo", "customXml"):
            yield from _inside(part, name)


def _alternative(element: Any) -> Any:
    """One of the ways in which a file gives the same thing: the first that has text."""
    ways = [way for way in element if local_name(way) in ("Choice", "Fallback")]
    return next((way for way in ways if any(t.text for t in named(way, "t"))), ways[0] if ways else element)


def _points(diagram: Any) -> Any:
    """The paragraphs of a diagram under one element."""
    root = diagram.makeelement("points")
    root.extend([p for p in named(diagram, "p") if any(named(p, "t"))])
    return root


def _is_prompt(element: Any) -> bool:
    """Whether a content control only says what to enter into it."""
    return _is_on(child(child(element, "sdtPr"), "showingPlcHdr"))


def _is_on(element: Any) -> bool:
    return element is not None and attribute(element, "val") not in ("0", "false", "off")


def _is_bold(row: Any) -> bool:
    runs = [run for run in named(row, "r") if any(t.text for t in named(run, "t"))]
    return bool(runs) and all(_is_on(child(child(run, "rPr"), "b")) for run in runs)


def _number(element: Any, name: str) -> int:
    value = attribute(element, name)
    return min(int(value), _MOST_COLUMNS) if value.isdecimal() and len(value) < 6 else 0
