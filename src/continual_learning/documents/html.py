"""Web pages: the main text, which trafilatura finds, with all headings, lists and tables in it; books as a whole."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Any

from continual_learning.documents.archive import local_name, named
from continual_learning.documents.blocks import HEADINGS, Block, blocks_of, blocks_text, parse_tree
from continual_learning.documents.document import Parsed, Skipped, clean_text, one_line, shortened
from continual_learning.documents.extra import damage, library
from continual_learning.errors import DocumentError

# WHATWG, "Determining the character encoding": byte order mark, what the server says, what the page says in its
# first kilobyte, a guess. Latin-1 is read as Windows-1252 there, and so it is here.
_DECLARED = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})|<\?xml[^>]{0,100}encoding=["']([\w.:-]{1,40})""",
    re.IGNORECASE,
)
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_LATIN = {"iso8859-1", "ascii"}
_SHORT_PAGE = 300  # words: what a page of this length has besides its menus is its text
_WORTH_NAMING = 8  # words of a block that is left out


def parse_html(data: bytes, charset: str | None = None) -> Parsed:
    """The main text of a page. ``charset`` is what the server declared.

    Menus, the header and the footer of the page and comments of readers are no part of it; other text that is left
    out is named. Raises DocumentError for a page without text, MissingExtraError.
    """
    trafilatura = library("trafilatura", "a web page")
    html = decode_html(data, charset)
    with damage("web page"):
        found = trafilatura.bare_extraction(html, with_metadata=True, include_comments=False)
        root = parse_tree(html)
        blocks = blocks_of(root) if root is not None else []
        kept = _main(blocks, (found.text if found is not None else "") or "")
        text = clean_text(blocks_text(kept)).strip()
        title = (found.title if found is not None else "") or (_title(root) if root is not None else "")
    if not text:
        raise DocumentError("it has no main text; if the page is made by a script, save it from the browser as text")
    return Parsed(text, clean_text(title), tuple(_left_out(blocks, kept)))


def parse_chapter(data: bytes) -> str:
    """All of the text of a chapter of a book: headings, notes, asides and captions too. Raises DocumentError."""
    with damage("chapter"):
        root = parse_tree(decode_html(data))
        blocks = blocks_of(root, book=True) if root is not None else []
        text = clean_text(blocks_text([block for block in blocks if not block.frame])).strip()
    if not text:
        raise DocumentError("it is a table of contents" if blocks else "it has no text, only pictures or nothing")
    return text


def _main(blocks: Sequence[Block], core: str) -> list[Block]:
    """The blocks of the main text. ``core`` is the part of it that trafilatura is sure of.

    trafilatura tells the text of a page from what surrounds it, but of short pages it loses headings and lists. So its
    part says where the main text is: in the element around all of it, and from its first to its last block.
    """
    text = [block for block in blocks if not block.frame]
    if not text:
        return list(blocks)  # nothing but a header, say
    if sum(len(block.text.split()) for block in text if not block.is_link) <= _SHORT_PAGE:
        return _without_menus(text, core)
    core = one_line(core)
    sure = [i for i, block in enumerate(text) if len(block.text) > 20 and one_line(block.text) in core]
    if not sure:
        return _without_menus(text, core)
    first, last = sure[0], sure[-1]
    around = _common([text[i].element for i in sure])
    whole = around is not None and local_name(around) not in ("body", "html")
    inside = {id(element) for element in around.iter()} if whole else set()
    while first > 0 and text[first - 1].kind in HEADINGS:
        first -= 1
    while last + 1 < len(text) and text[last + 1].kind in ("li", "tr") and not text[last + 1].is_link:
        last += 1
    chosen = [
        block for i, block in enumerate(text) if first <= i <= last or id(block.element) in inside or block.kind == "h1"
    ]
    return _without_menus(chosen, core)


def _without_menus(blocks: Sequence[Block], core: str) -> list[Block]:
    """The blocks without runs of links: three and more, of which trafilatura keeps none."""
    kept: list[Block] = []
    run: list[Block] = []
    for block in [*blocks, None]:
        if block is not None and block.is_link:
            run.append(block)
            continue
        if len(run) < 3 or any(link.text.lstrip("- ") in core for link in run):
            kept += run
        run = []
        kept += [block] if block is not None else []
    return kept if any(not block.is_link for block in kept) else list(blocks)


def _common(elements: Sequence[Any]) -> Any:
    """The innermost element around all of the elements; one that is itself around the others counts."""
    first, *rest = ([*reversed(list(e.iterancestors())), e] for e in elements)
    common = first
    for path in rest:
        length = next((i for i, (a, b) in enumerate(zip(common, path, strict=False)) if a is not b), None)
        common = common[: length if length is not None else min(len(common), len(path))]
    return common[-1] if common else None


def _left_out(blocks: Sequence[Block], kept: Sequence[Block]) -> list[Skipped]:
    """Text that is neither in the menus, header and footer nor in the main text."""
    taken = {id(block) for block in kept}
    rest = [b.text for b in blocks if id(b) not in taken and not b.frame and not b.is_link]
    rest = [text for text in rest if len(text.split()) >= _WORTH_NAMING]
    if not rest:
        return []
    words = sum(len(text.split()) for text in rest)
    return [Skipped("beside the main text", f"{words:,} words, such as: {shortened(rest[0], 80)}")]


def _title(root: Any) -> str:
    return next((one_line(title.text or "") for title in named(root, "title")), "")


def decode_html(data: bytes, charset: str | None = None) -> str:
    """A page as text: what cannot be decoded becomes U+FFFD, as in a browser. Raises DocumentError if it is empty."""
    if not data.strip():
        raise DocumentError(f"it is empty ({len(data)} bytes); expected a web page")
    declared = _DECLARED.search(data[:1024])
    names = [name for mark, name in _MARKS if data.startswith(mark)]
    names += [charset] if charset else []
    names += [(declared[1] or declared[2]).decode("ascii", "replace")] if declared else []
    for name in names:
        try:
            known = codecs.lookup(name).name
            return data.decode("cp1252" if known in _LATIN else known, "replace")
        except (LookupError, ValueError):
            continue  # an unknown name, or one that is not a text encoding, is ignored
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
