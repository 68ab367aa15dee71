"""Books (.epub): the chapters in reading order, each through the extraction of web pages.

An EPUB is a ZIP archive (EPUB 3.3, sections 4 and 5): META-INF/container.xml names the package file, whose spine
lists the chapters in order.
"""

from __future__ import annotations

import posixpath
import zipfile
from urllib.parse import unquote, urlsplit

from continual_learning.documents.archive import open_archive, xml_part
from continual_learning.documents.document import Parsed, Skipped, clean_text
from continual_learning.documents.extra import damage, library
from continual_learning.documents.html import parse_html
from continual_learning.documents.limits import Limits
from continual_learning.errors import DocumentError

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_WHAT = "book (.epub)"


def parse_epub(data: bytes, limits: Limits) -> Parsed:
    """All chapters, an empty line between two, titled as the book is. Raises DocumentError, MissingExtraError."""
    library("trafilatura", "an .epub file")
    with open_archive(data, limits, "book (.epub)") as archive, damage("book (.epub)"):
        package_path = xml_part(archive, _CONTAINER, _WHAT, recover=True).xpath(
            "string(//*[local-name()='rootfile']/@full-path)"
        )
        package = xml_part(archive, str(package_path), _WHAT, recover=True)
        title = clean_text(package.xpath("string(//*[local-name()='metadata']/*[local-name()='title'])"))
        items = {i.get("id"): i.get("href", "") for i in package.xpath("//*[local-name()='manifest']/*")}
        spine = [i.get("idref") for i in package.xpath("//*[local-name()='spine']/*[local-name()='itemref']")]
        folder = posixpath.dirname(str(package_path))
        locked = _encrypted(archive)
        texts, left_out = [], []
        for number, item in enumerate(dict.fromkeys(spine), 1):
            name = posixpath.normpath(posixpath.join(folder, unquote(urlsplit(items.get(item, "")).path)))
            try:
                if name in locked:
                    raise DocumentError("it is encrypted (DRM)")
                with damage("chapter"):
                    texts.append(parse_html(archive.read(name), whole=True).text)
            except DocumentError as error:
                left_out.append(Skipped(f"chapter {number}", str(error).partition(";")[0]))
    if not texts:
        why = f"; {left_out[0].source}: {left_out[0].reason}" if left_out else ""
        raise DocumentError(f"none of its {len(left_out)} chapters has text that can be read{why}")
    return Parsed("\n\n".join(texts), title, tuple(left_out))


def _encrypted(archive: zipfile.ZipFile) -> set[str]:
    if _ENCRYPTION not in archive.namelist():
        return set()
    root = xml_part(archive, _ENCRYPTION, _WHAT, recover=True)
    return {unquote(uri) for uri in root.xpath("//*[local-name()='CipherReference']/@URI")}
