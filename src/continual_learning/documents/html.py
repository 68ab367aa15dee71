"""Web pages: the main text, which trafilatura finds, with all headings, lists and tables in it; books as a whole."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from continual_learning.documents.archive import local_name, named
from continual_learning.documents.blocks import HEADINGS, Block, blocks_of, blocks_text, is_cut, parse_tree
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
# Names of encodings in mails and pages that Python has under another: windows-874, x-sjis, cp-850, iso-8859-8-i (Hebrew
# in the order in which it is read).
_SPELLINGS = (
    (re.compile(r"^(?:x-)+"), ""),
    (re.compile(r"^(?:windows|dos|ibm|cp)-?(?=\d)"), "cp"),
    (re.compile(r"^(iso-8859-[68])-[ie]$"), r"\1"),
)
_SHORT_PAGE = 100  # words: what a page of this length has besides its menus is its text
_LONG = 20  # letters by which a text can be told
_SHARE = 0.2  # of what is sure, that an element has which is taken to be about the text
_MOST_SEARCHED = 200_000  # characters, as every block is looked for in them
_WITH_IT = ("li", "tr", "dt", "dd", "pre", "blockquote")
_PARTS = frozenset("ul ol li dl dt dd table tbody thead tfoot tr td th blockquote figure p pre".split())
_WORTH_NAMING = 8  # words of a block that is left out
_TOO_DEEP = "its elements are nested more than 2,048 deep, and what follows cannot be read"


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
        core = (found.text if found is not None else "") or ""
        kept = _main(blocks, _Core(core, sum(len(block.text) for block in blocks)))
        text = clean_text(blocks_text(kept)).strip()
        title = (found.title if found is not None else "") or (_title(root) if root is not None else "")
        cut = root is not None and is_cut(root)
    if not text and cut:
        raise DocumentError(f"{_TOO_DEEP}; save it from the browser as text")
    if not text:
        raise DocumentError("it has no main text; if the page is made by a script, save it from the browser as text")
    left_out = _left_out(blocks, kept)
    if cut:
        left_out.append(Skipped("the rest", _TOO_DEEP))
    return Parsed(text, clean_text(title), tuple(left_out))


def parse_chapter(data: bytes, charset: str | None = None) -> str:
    """All of the text of a chapter of a book: headings, notes, asides and captions too. Raises DocumentError."""
    with damage("chapter"):
        root = parse_tree(decode_html(data, charset))
        blocks = blocks_of(root, book=True) if root is not None else []
        text = clean_text(blocks_text([block for block in blocks if not block.frame])).strip()
    if not text:
        raise DocumentError("it is a table of contents" if blocks else "it has no text, only pictures or nothing")
    return text


def _main(blocks: Sequence[Block], core: _Core) -> list[Block]:
    """The blocks of the main text. ``core`` is the part of it that trafilatura is sure of.

    trafilatura tells the text of a page from what surrounds it, but loses headings, lists and tables. So its part is
    taken, with the lists and tables among it that are in the same element, and the headings above.
    """
    titled = any(block.kind == "h1" and not block.frame for block in blocks)
    text = [block for block in blocks if not block.frame or (block.kind == "h1" and not titled and not block.is_link)]
    if not any(not block.frame for block in text):
        return list(blocks)  # nothing but a header, say
    if sum(len(block.text.split()) for block in text if not block.is_link) <= _SHORT_PAGE:
        return _without_menus(text, core)
    letters = [_letters(block.text) for block in text]
    sure = [core.has(found) for found in letters]
    if not any(sure):
        return _without_menus(text, core)
    first, last = sure.index(True), len(sure) - 1 - sure[::-1].index(True)
    containers = [_container(block.element) for block in text]
    weight: Counter[Any] = Counter()
    for block, container, known in zip(text, containers, sure, strict=True):
        weight[container] += len(block.text) if known else 0
    homes = {container for container, length in weight.items() if length > _SHARE * weight.total()}
    chosen = list(sure)
    for i, block in enumerate(text):
        near = first < i < last or (i > last and chosen[i - 1])
        with_it = block.kind in _WITH_IT and not block.is_link and containers[i] in homes
        chosen[i] = chosen[i] or (near and (letters[i] in core.lines or with_it))
    for i in range(len(text) - 2, -1, -1):
        chosen[i] = chosen[i] or text[i].kind == "h1" or (text[i].kind in HEADINGS and chosen[i + 1])
    return _without_menus([block for block, taken in zip(text, chosen, strict=True) if taken], core)


class _Core:
    """What trafilatura takes for the main text; ``length`` is that of the whole page."""

    def __init__(self, text: str, length: int):
        self.lines = {_letters(line) for line in text.split("\n")}
        long = [line for line in self.lines if len(line) > _LONG]
        self._starts = {line[:_LONG] for line in long}
        self._long = long if length < _MOST_SEARCHED else []
        self._whole = "\n".join(self._long)

    def has(self, letters: str) -> bool:
        """Whether a block that is long enough to be told is in it, or a line of it in the block."""
        if len(letters) <= _LONG:
            return False
        known = letters[:_LONG] in self._starts or letters in self._whole
        return known or any(line in letters for line in self._long)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text)


def _container(element: Any) -> Any:
    """The element that holds a block: the first around it that is no part of a list, a table or a quotation."""
    for above in element.iterancestors():
        if local_name(above) not in _PARTS:
            return above
    return element


def _without_menus(blocks: Sequence[Block], core: _Core) -> list[Block]:
    """The blocks without runs of links: three and more, of which trafilatura keeps none."""
    kept: list[Block] = []
    run: list[Block] = []
    for block in [*blocks, None]:
        if block is not None and block.is_link:
            run.append(block)
            continue
        if len(run) < 3 or any(_letters(link.text) in core.lines for link in run):
            kept += run
        run = []
        kept += [block] if block is not None else []
    return kept if any(not block.is_link for block in kept) else list(blocks)


def _left_out(blocks: Sequence[Block], kept: Sequence[Block]) -> list[Skipped]:
    """Text that is neither in the menus, header and footer nor in the main text."""
    taken = {id(block) for block in kept}
    rest = [b.text for b in blocks if id(b) not in taken and not b.frame and not b.is_link]
    rest = [text for text in rest if len(text.split()) >= _WORTH_NAMING]
    if not rest:
        return []
    words = sum(len(text.split()) for text in rest)
    return [Skipped("outside the main text", f"{words:,} words, such as: {shortened(rest[0], 80)}")]


def _title(root: Any) -> str:
    return next((one_line(title.text or "") for title in named(root, "title")), "")


def decode_html(data: bytes, charset: str | None = None) -> str:
    """A page as text: what cannot be decoded becomes U+FFFD, as in a browser. Raises DocumentError if it is empty."""
    if not data.strip():
        raise DocumentError(f"it is empty ({len(data)} bytes); expected a web page")
    declared = _DECLARED.search(data[:1024])
    return decode_page(data, charset, (declared[1] or declared[2]).decode("ascii", "replace") if declared else None)


def decode_page(data: bytes, *charsets: str | None) -> str:
    """Text as a server sends it: in the encoding of its byte order mark, or the first known one of ``charsets``."""
    names = [name for mark, name in _MARKS if data.startswith(mark)] + [name for name in charsets if name]
    for name in names:
        try:
            known = _codec(name)
            return data.decode("cp1252" if known in _LATIN else known, "replace")
        except (LookupError, ValueError):
            continue  # an unknown name, or one that is not a text encoding, is ignored
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _codec(name: str) -> str:
    """Python's name of an encoding. Raises LookupError for an unknown one."""
    try:
        return codecs.lookup(name).name
    except LookupError:
        name = name.lower()
        for spelling, usual in _SPELLINGS:
            name = spelling.sub(usual, name)
        return codecs.lookup(name).name
