r"""Rich text (.rtf, specification 1.9): all of its text in its order, and what is left out by name.

A file is groups in braces, control words (``\par``) and text. A group that begins with the name of a destination
(``\fonttbl``) or with ``\*`` holds no text of the document, unless its name is known here.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from dataclasses import dataclass, replace

from continual_learning.documents.document import Parsed, Skipped, clean_text, one_line
from continual_learning.documents.tables import table_text
from continual_learning.errors import DocumentError

_TOKEN = re.compile(
    r"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\(.)|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.DOTALL
)
_MARKS = {
    "tab": "\t", "line": "\n", "lbr": "\n", "emdash": "—", "endash": "–", "bullet": "•", "lquote": "‘", "rquote": "’",
    "ldblquote": "“", "rdblquote": "”", "emspace": " ", "enspace": " ", "qmspace": " ", "nestcell": " ", "nestrow": " ",
}  # fmt: skip
_SYMBOLS = {"~": "\u00a0", "_": "-", "\\": "\\", "{": "{", "}": "}", "\t": "\t"}
_NO_TEXT = frozenset(
    "fonttbl colortbl stylesheet listtable listoverridetable rsidtbl generator pict objdata objclass themedata "
    "colorschememapping latentstyles datastore xmlnstbl filetbl revtbl pgptbl listtext pntext pntxta pntxtb sp "
    "nonesttables bkmkstart bkmkend tc xe fldinst author operator company doccomm keywords subject category manager "
    "creatim revtim printim buptim mmathPr wgrffmtfilter".split()
)
_KNOWN = frozenset("shpinst shptxt shprslt fldrslt".split())  # destinations after \* that lead to text
_MARGINS = ("header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf")
_PAGE_FIELD = re.compile(r"\s*(PAGE|NUMPAGES|SECTIONPAGES)\b", re.IGNORECASE)
_LONGEST_FIELD = 1000  # characters of the code of a field, of which the first word counts
_CODE_PAGES = {77: "mac_roman", 128: "cp932", 129: "cp949", 134: "gbk", 136: "big5", 161: "cp1253", 162: "cp1254",
               163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250",
               255: "cp437"}  # fmt: skip


def parse_rtf(data: bytes) -> Parsed:
    """Headers, paragraphs, rows of tables, notes, footers. Raises DocumentError."""
    if not data.lstrip()[:5] == b"{\\rtf":
        raise DocumentError("it is no rich text (.rtf), which begins with {\\rtf; save it again")
    reader = _Reader(data.decode("latin-1"))
    text = clean_text("\n\n".join(reader.paragraphs()))
    if not text.strip():
        raise DocumentError("it has no text, only pictures or nothing; expected at least one paragraph")
    return Parsed(text, clean_text(one_line(reader.flows["title"].take())), tuple(reader.left_out()))


@dataclass(frozen=True)
class _State:
    """What a group inherits from the one around it."""

    flow: str = "body"
    """Where its text goes; empty for nowhere."""
    fallback: int = 1
    """Characters that follow one in Unicode, for programs that know none."""
    font: int = -1
    deleted: bool = False
    hidden: bool = False


class _Flow:
    """Text that belongs together: the body, a note, a header."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self.in_table = False
        self.paged = False
        self._cells: list[str] = []
        self._rows: list[list[str]] = []
        self._headers = 0
        self.found: list[str] = []

    def put(self, text: str) -> None:
        self._text.append(text)

    def take(self) -> str:
        """The text since the last end of a paragraph or cell, with surrogates joined: Unicode comes in halves."""
        text, self._text = "".join(self._text).strip(), []
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def paragraph(self) -> None:
        """End a paragraph; within a cell it continues."""
        if self.in_table:
            self.put("\n")
            return
        text = self.take()
        if text:
            self.end_table()
            self.found.append(text)

    def cell(self) -> None:
        self._cells.append(one_line(self.take()))

    def row(self, header: bool) -> None:
        if self._cells:
            self._headers += header and self._headers == len(self._rows)
            self._rows.append(self._cells)
        self._cells = []

    def end_table(self) -> None:
        rows, self._rows = self._rows, []
        if len(rows) == 1 or all(len(row) < 2 for row in rows):  # a table for its looks
            self.found += [cell for row in rows for cell in row if cell]
        else:
            self.found += table_text(rows, self._headers or None)
        self._headers = 0

    def end(self) -> list[str]:
        self.in_table = False
        if self._cells:
            self.row(False)
        self.paragraph()
        self.end_table()
        return self.found


class _Reader:
    def __init__(self, source: str):
        self.flows: dict[str, _Flow] = {"body": _Flow(), "title": _Flow()}
        self._source = source
        self._state = _State()
        self._stack: list[_State] = []
        self._bytes = bytearray()
        self._skip = 0  # fallback characters still to be passed over
        self._code_page = "cp1252"
        self._fonts: dict[int, str] = {}
        self._field = ""  # the code of the last field
        self._header_row = False
        self._counts: Counter[str] = Counter()
        self._notes: list[str] = []  # flows of notes that follow the paragraph that they are in
        self._words: dict[str, list[str]] = {"deleted text": [], "hidden text": []}
        self._read()

    def paragraphs(self) -> list[str]:
        """The text of the file, a header that several sections share once."""
        margins: dict[str, list[str]] = {"header": [], "footer": []}
        for name, flow in self.flows.items():
            kind = name.partition(" ")[0]
            if kind in _MARGINS:
                alone = [flow.paged and sum(word.isalpha() for word in text.split()) < 3 for text in flow.end()]
                margins[kind[:6]] += [text for text, number in zip(flow.found, alone, strict=True) if not number]
        body = self.flows["body"].end() + [text for note in self._notes for text in self.flows[note].end()]
        return [*dict.fromkeys(margins["header"]), *body, *dict.fromkeys(margins["footer"])]

    def left_out(self) -> list[Skipped]:
        """What of the file is not in the text."""
        words = {name: len("".join(texts).split()) for name, texts in self._words.items()}
        found = [Skipped(name, f"{count:,} words" if count > 1 else "1 word") for name, count in words.items() if count]
        return found + [
            Skipped(name, f"{n:,} of them" if n > 1 else "there is one") for name, n in self._counts.items()
        ]

    def _read(self) -> None:
        at, begins, starred = 0, False, False
        while token := _TOKEN.match(self._source, at):
            at = token.end()
            word, number, code, symbol, brace, text = token.groups()
            if brace == "{":
                self._decode()
                self._stack.append(self._state)
                begins, starred, self._skip = True, False, 0
                continue
            if brace == "}":
                self._decode()
                self._close()
                self._skip = 0
            elif symbol == "*" and begins:
                starred = True
                continue
            elif word:
                if word == "bin":
                    at += max(int(number or 0), 0)
                elif begins and (starred or word in _NO_TEXT) and word not in _KNOWN:
                    self._destination(word)
                else:
                    self._word(word, int(number) if number else None)
            elif symbol:
                self._symbol(symbol)
            elif code:
                self._put_bytes(bytes.fromhex(code))
            elif text:
                self._put_bytes(text.encode("latin-1"))
            begins = starred = False
        self._decode()
        if self._stack or at < len(self._source.rstrip("\0\r\n ")):
            self._counts["end of the file, where it is cut off"] += 1

    def _close(self) -> None:
        closed = self._state
        if self._stack:
            self._state = self._stack.pop()
        if closed.flow != self._state.flow and closed.flow.startswith("note ") and self._state.flow:
            self._notes.append(closed.flow)

    def _destination(self, word: str) -> None:
        """A group without text of the document."""
        kinds = {"annotation": "comments", "pict": "", "objdata": "embedded files"}
        if kinds.get(word):
            self._counts[kinds[word]] += 1
        flow = {"fonttbl": "fonts", "fldinst": "field"}.get(word, "")
        self._state = replace(self._state, flow=flow)
        if word == "fldinst":
            self._field = ""

    def _word(self, word: str, number: int | None) -> None:
        state = self._state
        is_on = number != 0
        if word == "u" and number is not None:
            self._decode()
            self._put(chr(number % 65536))
            self._skip = state.fallback
        elif word in _MARKS:
            self._decode()
            self._put(_MARKS[word])
        elif word in ("par", "sect", "page", "cell", "row"):
            self._decode()
            self._end(word)
        elif word in ("f", "fcharset", "ansicpg", "mac", "pc", "pca"):
            self._decode()
            self._set_code_page(word, number or 0)
        elif word == "uc":
            self._state = replace(state, fallback=max(number or 0, 0))
        elif word in ("deleted", "v", "plain"):
            self._decode()
            deleted = is_on if word == "deleted" else state.deleted
            hidden = is_on if word == "v" else state.hidden
            self._state = replace(state, deleted=deleted and word != "plain", hidden=hidden and word != "plain")
        elif word in ("intbl", "pard", "trowd", "trhdr"):
            if flow := self.flows.get(state.flow):
                flow.in_table = word == "intbl" or (flow.in_table and word != "pard")
            self._header_row = word == "trhdr" or (self._header_row and word != "trowd")
        elif word in ("footnote", *_MARGINS) and state.flow:
            self._begin_flow(word)
        elif word == "info" or (word == "title" and state.flow == "info"):
            self._state = replace(state, flow=word)
        elif word == "fldrslt" and _PAGE_FIELD.match(self._field):
            if flow := self.flows.get(state.flow):
                flow.paged = True
            self._state = replace(state, flow="")
        elif word == "shptxt" and state.flow:
            self._begin_flow("note")

    def _begin_flow(self, word: str) -> None:
        name = f"{'note' if word == 'footnote' else word} {len(self.flows)}"
        self.flows[name] = _Flow()
        self._state = replace(self._state, flow=name, deleted=False, hidden=False)

    def _set_code_page(self, word: str, number: int) -> None:
        if word == "f":
            self._state = replace(self._state, font=number)
        elif word == "fcharset":
            if number in _CODE_PAGES:
                self._fonts[self._state.font] = _CODE_PAGES[number]
        else:
            name = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}.get(word, f"cp{number}")
            try:
                self._code_page = codecs.lookup(name).name
            except LookupError:
                self._code_page = "cp1252"

    def _end(self, word: str) -> None:
        flow = self.flows.get(self._state.flow)
        if flow is None:
            return
        if word == "cell":
            flow.cell()
        elif word == "row":
            flow.row(self._header_row)
        else:
            flow.paragraph()
        if not flow.in_table and word != "cell":
            notes, self._notes = self._notes, []
            for note in notes:
                flow.found += self.flows[note].end()

    def _symbol(self, symbol: str) -> None:
        self._decode()
        if symbol in "\r\n":
            self._end("par")
        elif symbol in _SYMBOLS:
            self._put(_SYMBOLS[symbol])

    def _put_bytes(self, found: bytes) -> None:
        passed = min(self._skip, len(found))
        self._skip -= passed
        self._bytes += found[passed:]

    def _decode(self) -> None:
        """Characters of several bytes come byte by byte."""
        if self._bytes:
            found, self._bytes = bytes(self._bytes), bytearray()
            self._put(found.decode(self._fonts.get(self._state.font, self._code_page), "replace"))

    def _put(self, text: str) -> None:
        state = self._state
        if state.flow == "field":
            self._field += text if len(self._field) < _LONGEST_FIELD else ""
        elif state.flow in self.flows and (state.deleted or state.hidden):
            self._words["deleted text" if state.deleted else "hidden text"].append(text)
        elif state.flow in self.flows:
            self.flows[state.flow].put(text)
