"""Where a quotation may begin and end: never inside a word, an amount, a command, a path or an address.

A reader that points at spans of a text chooses among these places alone, so that what it quotes is quoted exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from continual_learning.text.characters import UNSPACED, marks

_CURRENCY = "$€£¥₹₽₩₺"
_CODES = "USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|SEK|NOK|DKK|PLN|CZK|US\\$|A\\$|C\\$|NZ\\$|HK\\$"
_NUMBER = r"\d+(?:[.,:]\d+)*"
# Without the number before it, an abbreviated unit says nothing; of the others ("years"), each is a word of its own.
_UNITS = (
    "[kKMGT]i?[bB]|[kKMGT]?bit|[kKMGT]?[bB]ps|[kcmnµμ]?m|[kmµμ]?g|[mcd]?[lL]|[mµμn]?s|[kMG]?Hz|[kMGm]?[WVAJ]|[kMG]?Wh"
    "|k?cal|h|min|sec|hrs?|km/h|m/s|mph|rpm|fps|dpi|px|ppm|lbs?|oz|ft|yd|mi|tsp|tbsp|cups?|[kM]?Pa|hPa|dB|°[CFK]?|K|C|F"
    "|ha|[kcm]?m[²³23]|am|pm|AM|PM|a\\.m\\.|p\\.m\\.|%|‰|[€£¥$]"
)
_MAGNITUDES = "thousand|million|billion|trillion|mn|bn"
# Alternatives in the order in which they are tried at a place; what none of them takes is white space.
_PIECE = re.compile(
    r"(?P<fence>^[ \t]*(?P<mark>```+|~~~+)[^\n]*\n(?P<block>.*?)(?:^[ \t]*(?P=mark)[^\n]*$|\Z))"
    r"|(?P<ticks>`+)(?P<code>[^`\n]+?)(?P=ticks)"
    r"|(?P<address>(?:https?|ftp|file|ssh|git|s3)://[^\s<>\"'`|]+|www\.[^\s<>\"'`|]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)"
    r"|(?P<prompt>^[ \t]*[$>][ \t]+(?=[a-z./~]))(?P<command>[^\n]+)"
    r"|(?P<word>(?:(?!https?://)[^\s`])+)"
    r"|`",
    re.MULTILINE | re.DOTALL,
)
_FIELD = re.compile(r"[ \t]*[\"']?[\w.-]+[\"']?[ \t]*[:=][ \t]+(?P<value>\S[^\n]*)")
_COMMENT = re.compile(r"[ \t]+(?:#|//|--)[ \t]")
# What parts words that stand together without a space: a comma between letters, but not within a number; the notes
# of an encyclopedia, such as [citation needed] and the page after a full stop.
_PARTED = re.compile(
    r"[—–―|]+|--+(?=\w{2})(?<=\w--)|…|(?<=\w)\.{3,}|(?<=\D),(?=\w)|(?<=\w),(?=\D)|;|(?<=\w)[\"“”](?=[\w\[])|\]\(|<[^<>\s]*>"
    r"|(?<=[.!?\"”)]):\d+(?:[–-]\d+)*|(?<=[^\W\d_][.!?,\"”)])\[\d+\]|(?<=[\w.!?,\"”)])\[(?:[a-z]\]|(?:citation|note|not)$)"
)
_WHOLE = re.compile(r"^[(\[\"'“]*(?:~?\.{0,2}/|[A-Za-z]:\\|\w[\w.-]*[/\\]\w)|\w\.[a-z]+/|=|^[(\[\"'“]*--?[a-z]")
_RANGE = re.compile(
    r"(?<![\w.:/-])(?:(?:1\d|20)\d\d(?P<years>-)(?:1\d|20)\d\d"
    r"|\d{1,2}(?::\d\d)?(?:am|pm)?(?P<times>-)\d{1,2}(?::\d\d(?:am|pm)?|am|pm))(?![\w/-]|[.:]\d)"
)
_PARTNER = {")": "(", "]": "[", "}": "{", ">": "<", "”": "“", "»": "«"}
_BEFORE = "\"'“”„‘’‚«»‹›([{<*,;:!?|•·>–—―-…¿¡+=&^\\。、，；：！？「」『』《》【】（）．.#@/~"
_AFTER = "\"'“”„‘’‚«»‹›)]}>*,;:.!?|•·–—―-…([{<&=^\\。、，；：！？「」『』《》【】（）．@~"
# Signs that belong to the word after them.
_BELONGS = re.compile(
    rf"[+\-−±~<>≤≥≈]{{0,2}}[{_CURRENCY}]?[.]?\d|--?[A-Za-z]|[#@]\w|\.{{1,2}}/|~?/[\w.~-]|\.[A-Za-z_]\w|~/|__\w+__"
)
_ABBREVIATED = re.compile(r"(?:\b[^\W\d_]\.){2,}$|\b(?:Jr|Sr|Inc|Ltd|Co|Corp|Bros|etc)\.$")
_POSSESSIVE = re.compile(r"['’][sS]$")
_EMPHASIS = re.compile(r"(?<!\w)(?P<mark>_{1,3})(?=[^\s_])[^_\n]*(?:\w_\w[^_\n]*)*(?<=\S)(?P=mark)(?!\w)")
_DUNDER = re.compile(r"__\w+__")
_QUANTITY = re.compile(
    rf"(?<![\w.,+−±-])(?:(?P<before>[{_CURRENCY}]|\b(?:{_CODES}))(?P<gap> ?))?"
    rf"(?P<number>[+\-−±]?{_NUMBER}(?:[ \u00a0\u202f\u2009]\d{{3}})*)"
    rf"(?:(?P<more>[ \u00a0\u202f]?(?:{_MAGNITUDES})\b)|(?P<unit>[ \u00a0\u202f](?:{_UNITS})(?![\w/°])))*"
)
_GROUPED = re.compile(r"[+\-−±]?\d{1,3}(?:[ \u00a0\u202f\u2009]\d{3})+$")


def span_edges(text: str) -> tuple[list[int], list[int]]:
    """The places where a span of a text may begin, and those where it may end, as sorted character offsets.

    Words begin and end without the punctuation around them; a possessive ``'s`` may be left off, and a range may be
    parted at its dash. Nothing begins or ends within a back-quoted command, an address, a path, an identifier, a
    version or a number. An amount includes its currency, its magnitude (``$5 million``) and a unit that is glued to
    it or is a sign (``10 %``); before a unit that is a word (``5 km``) it may end, but nothing begins with the unit.
    """
    starts: set[int] = set()
    ends: set[int] = set()
    emphasis = {
        place
        for m in _EMPHASIS.finditer(text)
        if not _DUNDER.fullmatch(m[0])
        for edge in (m.start(), m.end() - len(m["mark"]))
        for place in range(edge, edge + len(m["mark"]))
    }
    for start, end in _units(text, emphasis):
        starts.add(start)
        ends.add(end)
        if (possessive := _POSSESSIVE.search(text, start, end)) and possessive.start() > start:
            ends.add(possessive.start())
    _keep_amounts(text, starts, ends)
    return sorted(starts), sorted(ends)


def _units(text: str, emphasis: set[int]) -> Iterator[tuple[int, int]]:
    for piece in _PIECE.finditer(text):
        if piece["fence"] is not None:
            yield from _code_lines(text, *piece.span("block"))
        elif piece["code"] is not None:
            yield from _stripped_space(text, *piece.span("code"))
        elif piece["command"] is not None:
            yield from _stripped_space(text, *piece.span("command"))
        elif piece["address"] is not None:
            yield from _address(text, *piece.span())
        elif piece["word"] is not None:
            yield from _words(text, *piece.span(), emphasis)


def _stripped_space(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    inner = text[start:end]
    if stripped := inner.strip():
        start += len(inner) - len(inner.lstrip())
        yield start, start + len(stripped)


def _code_lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The lines of a block of code, each whole; without its prompt and comment, and the value of a setting alone."""
    for line in re.finditer(r"[^\n]+", text[start:end]):
        first, last = start + line.start(), start + line.end()
        prompt = re.compile(r"[ \t]*[$>][ \t]+").match(text, first, last)
        first = prompt.end() if prompt else first
        yield from _stripped_space(text, first, last)
        if comment := _COMMENT.search(text, first + 1, last):
            yield from _stripped_space(text, first, comment.start())
            last = comment.start()
        if field := _FIELD.fullmatch(text, first, last):
            inner = field["value"].rstrip().rstrip(",;").strip("\"'")
            if inner:
                place = text.index(inner, field.start("value"))
                yield place, place + len(inner)


def _address(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end > start and (text[end - 1] in ".,;:!?*_'’”»" or _unbalanced(text, start, end)):
        end -= 1
    if end > start:
        yield start, end


def _unbalanced(text: str, start: int, end: int) -> bool:
    """Whether the last character closes a bracket that was opened before the piece."""
    last = text[end - 1]
    return last in _PARTNER and text.count(_PARTNER[last], start, end) < text.count(last, start, end)


def _words(text: str, start: int, end: int, emphasis: set[int]) -> Iterator[tuple[int, int]]:
    token = text[start:end]
    if token.isalnum() and token.isascii():
        yield start, end
        return
    cuts = [start, end]
    if not _WHOLE.search(token):
        for match in _PARTED.finditer(token):
            cuts[-1:] = [start + match.start(), start + match.end(), end]
        for match in _RANGE.finditer(token):
            place = start + max(match.start("years"), match.start("times"))
            cuts = sorted([*cuts, place, place + 1])
    for first, last in zip(cuts[::2], cuts[1::2], strict=True):
        if UNSPACED.search(text, first, last):
            yield from _unspaced(text, first, last)
        else:
            yield from _stripped(text, first, last, emphasis)


def _stripped(text: str, start: int, end: int, emphasis: set[int]) -> Iterator[tuple[int, int]]:
    """A word without the punctuation around it; nothing if it is punctuation alone."""
    whole = end
    while start < end and (start in emphasis or (text[start] in _BEFORE and not _BELONGS.match(text, start, end))):
        start += 1
    while end > start:
        last = text[end - 1]
        abbreviated = last == "." and _ABBREVIATED.search(text, start, end)
        paired = last in ")]}>" and not _unbalanced(text, start, end)
        if end - 1 not in emphasis and (last not in _AFTER or abbreviated or paired):
            break
        end -= 1
    if any(character.isalnum() for character in text[start:end]):
        yield start, end
    elif whole - start == 1 and text[start] in "%§∞":
        yield start, whole


@cache
def _letters() -> re.Pattern[str]:
    return re.compile(f"{UNSPACED.pattern}[{marks()}\u200c\u200d]*")


def _unspaced(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Every letter of a script without spaces, and what else stands among them as words."""
    place = start
    for letter in _letters().finditer(text, start, end):
        if letter.start() > place:
            yield from _stripped(text, place, letter.start(), set())
        yield letter.span()
        place = letter.end()
    if place < end:
        yield from _stripped(text, place, end, set())


def _keep_amounts(text: str, starts: set[int], ends: set[int]) -> None:
    """Take away the places that would cut an amount from its currency, magnitude or unit."""
    for match in _QUANTITY.finditer(text):
        number_start, number_end = match.span("number")
        if match.start() not in starts and number_start not in starts:
            continue  # inside something whole
        if number_end not in ends and not (match["more"] or match["unit"] or match["before"]):
            continue
        first, last = match.span()
        if " " in match["number"] or "\u00a0" in match["number"] or "\u202f" in match["number"]:
            groups = _GROUPED.fullmatch(match["number"])
            if groups and (match["before"] or match["more"] or match["unit"] or len(match["number"]) > 7):
                for place in range(number_start + 1, number_end):
                    starts.discard(place)
                    ends.discard(place)
            elif groups is None or not match["before"]:
                continue  # numbers that happen to stand together
        if match["before"]:
            for place in range(first + 1, number_start + 1):
                starts.discard(place)
            for place in range(first + 1, number_start):
                ends.discard(place)
            starts.add(first)
        if match["more"]:
            starts.discard(match.end("more") - len(match["more"].lstrip()))
            ends.discard(number_end)
        if match["unit"]:
            unit = match["unit"].lstrip()
            starts.discard(match.end("unit") - len(unit))
            if not unit[0].isalpha():
                ends.discard(match.end("unit") - len(match["unit"]))
            ends.add(last)
