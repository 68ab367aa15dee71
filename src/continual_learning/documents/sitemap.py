"""Sitemaps (sitemaps.org, protocol 0.9): the pages of a site, or further sitemaps."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Any
from urllib.parse import urlsplit

from continual_learning.documents.extra import damage, library
from continual_learning.documents.formats import root_element
from continual_learning.documents.limits import Limits
from continual_learning.documents.web import Page
from continual_learning.errors import DocumentError

_PAGES = ("text/html", "application/xhtml+xml")
_XML = ("application/xml", "text/xml")


def is_sitemap(page: Page) -> bool:
    """Whether a page is XML that can only be a sitemap: by what the server says, or by its name. XHTML is a page."""
    if root_element(page.data) == b"html":
        return False
    named = urlsplit(page.url).path.lower().endswith((".xml", ".xml.gz"))
    return page.content_type in _XML or (named and page.content_type not in _PAGES)


def read_sitemap(page: Page, limits: Limits) -> tuple[list[str], list[str]]:
    """The pages and the further sitemaps that a sitemap lists, in its order. Raises DocumentError."""
    data = _unpacked(page.data, limits)
    etree: Any = library("lxml.etree", "a sitemap")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    with damage("sitemap"):
        root = etree.fromstring(data, parser)
        if root is None:
            raise DocumentError("it is not XML; expected a sitemap (urlset, sitemapindex)")
        kind = etree.QName(root).localname
        places = [str(place).strip() for place in root.xpath("./*/*[local-name()='loc']/text()")]
    if kind not in ("urlset", "sitemapindex"):
        raise DocumentError(f"it is XML with the root {kind!r}; expected a page, or a sitemap (urlset, sitemapindex)")
    places = [place for place in dict.fromkeys(places) if place]
    if not places:
        raise DocumentError("the sitemap lists no page; expected at least one <loc>")
    return ([], places) if kind == "sitemapindex" else (places, [])


def _unpacked(data: bytes, limits: Limits) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            found = file.read(limits.max_unpacked + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DocumentError(f"the sitemap is damaged ({error})") from None
    if len(found) > limits.max_unpacked:
        raise DocumentError(f"the sitemap unpacks to more than {limits.max_unpacked:,} bytes")
    return found
