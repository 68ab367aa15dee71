"""Books (.epub): the chapters in reading order, with their headings, notes, asides and captions.

An EPUB is a ZIP archive (EPUB 3.3, sections 4 and 5): META-INF/container.xml names the package file, whose spine
lists the chapters in order.
"""

from __future__ import annotations

import posixpath
import zipfile
from typing import Any
from urllib.parse import unquote, urlsplit

from continual_learning.documents.archive import open_archive, xml_part
from continual_learning.documents.document import Parsed, Skipped, clean_text
from continual_learning.documents.extra import damage, library
from continual_learning.documents.html import parse_chapter
from continual_learning.documents.limits import Limits
from continual_learning.errors import DocumentError

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_WHAT = "book (.epub)"


def parse_epub(data: bytes, limits: Limits) -> Parsed:
    """All chapters, an empty line between two, titled as the book is. Raises DocumentError, MissingExtraError."""
    library("lxml.etree", "an .epub file")
    with open_archive(data, limits, _WHAT) as archive, damage(_WHAT):
        container = xml_part(archive, _CONTAINER, _WHAT, recover=True)
        package_path = str(container.xpath("string(//*[local-name()='rootfile']/@full-path)"))
        package = xml_part(archive, package_path, _WHAT, recover=True)
        title = clean_text(package.xpath("string(//*[local-name()='metadata']/*[local-name()='title'])"))
        items = {i.get("id"): i for i in package.xpath("//*[local-name()='manifest']/*")}
        spine = [i.get("idref") for i in package.xpath("//*[local-name()='spine']/*[local-name()='itemref']")]
        folder = posixpath.dirname(package_path)
        locked = _encrypted(archive)
        texts, left_out = [], []
        for number, item in enumerate(dict.fromkeys(spine), 1):
            href = items[item].get("href", "") if item in items else ""
            name = posixpath.normpath(posixpath.join(folder, unquote(urlsplit(href).path)))
            try:
                if name in locked:
                    raise DocumentError("it is encrypted (DRM)")
                with damage("chapter"):
                    texts.append(parse_chapter(archive.read(name)))
            except DocumentError as error:
                left_out.append(Skipped(f"chapter {number}", str(error).partition(";")[0]))
    if not texts:
        why = f"; {left_out[0].source}: {left_out[0].reason}" if left_out else ""
        raise DocumentError(f"none of its {len(left_out)} chapters has text that can be read{why}")
    left_out += [Skipped(i.get("href", ""), "it is not in the reading order") for i in _unlisted(items, spine)]
    return Parsed("\n\n".join(texts), title, tuple(left_out))


def _unlisted(items: dict[str, Any], spine: list[str]) -> list[Any]:
    """The chapters that the reading order does not name, the table of contents aside."""
    chapters = [i for name, i in items.items() if name not in spine and i.get("media-type") == "application/xhtml+xml"]
    return [i for i in chapters if "nav" not in i.get("properties", "").split()]


def _encrypted(archive: zipfile.ZipFile) -> set[str]:
    if _ENCRYPTION not in archive.namelist():
        return set()
    root = xml_part(archive, _ENCRYPTION, _WHAT, recover=True)
    return {unquote(uri) for uri in root.xpath("//*[local-name()='CipherReference']/@URI")}
