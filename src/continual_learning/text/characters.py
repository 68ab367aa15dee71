"""Characters: the one normalisation of documents and questions, and what the scripts of the world need from us.

Nothing here changes ASCII text.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache

# Characters that show nothing: controls, zero-width spaces, marks of direction, tags, variation selectors of the
# supplement, fillers. Some hide text from people that a model would read. Joiners are treated below.
_INVISIBLE = (
    (0x80, 0x84), (0x86, 0x9F), (0x34F, 0x34F), (0x61C, 0x61C), (0x180E, 0x180E), (0x200B, 0x200B), (0x200E, 0x200F),
    (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF9, 0xFFFB),
    (0x1D173, 0x1D17A), (0xE0000, 0xE007F), (0xE0100, 0xE01EF),
)  # fmt: skip
_SPACES = (0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x2800, 0x3000)
_LINE_ENDS = {0x85: "\n", 0x2028: "\n", 0x2029: "\n\n"}
# Compatibility forms that are other shapes of the same letters: NFKC is safe for them. It is not for superscripts,
# fractions, units, numerals and circled numbers, nor for the wide punctuation that ends a Chinese sentence.
_SAME_LETTERS = (
    (0x132, 0x133), (0x17F, 0x17F), (0x1C4, 0x1CC), (0x1F1, 0x1F3),  # digraphs, long s
    (0x2F00, 0x2FD5), (0xF900, 0xFAFF),  # Han radicals and compatibility ideographs
    (0xFB00, 0xFB06), (0xFB13, 0xFB17), (0xFB1D, 0xFB28), (0xFB2A, 0xFB4F),  # Latin, Armenian, Hebrew
    (0xFB50, 0xFDC7), (0xFE80, 0xFEFC),  # Arabic
    (0xFF10, 0xFF19), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A), (0xFF66, 0xFF9F),  # full and half width
    (0x1D400, 0x1D7FF),  # mathematical letters and digits
)  # fmt: skip

# A soft hyphen says where a word may be divided; where it was, the line ends after it.
_SOFT_HYPHEN = re.compile("\u00ad(?:[ \t]*\n[ \t]*)?")
_JOINERS = re.compile("[\u200c\u200d]+")

_HAN = "々〆〇\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af"
_HIRAGANA = "\u3041-\u3096\u309d-\u309f"
_KATAKANA = "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
_HANGUL = "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3"
# Thai, Lao, Burmese, Khmer, Tai Le, New Tai Lue, Tai Tham; their digits are left to the other words.
_SOUTH_EAST_ASIAN = "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ec6\u0ec8-\u0ecf\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u109a-\u109f\u1780-\u17d3\u17dc\u17dd\u1950-\u1974\u1980-\u19c9\u1a20-\u1a5e\u1a60-\u1a7c"  # noqa: E501
_GROUPS = {
    "han": _HAN, "hiragana": _HIRAGANA, "katakana": _KATAKANA, "hangul": _HANGUL, "sea": _SOUTH_EAST_ASIAN,
}  # fmt: skip
UNSPACED = re.compile(f"[{''.join(_GROUPS.values())}]")
"""A letter of a script that is written without spaces between words, or in words that are long compounds (Hangul)."""
SCRIPT_RUN = re.compile(
    "|".join(f"(?P<{name}>[{letters}]+)" for name, letters in _GROUPS.items())
    + f"|(?P<spaced>[^{''.join(_GROUPS.values())}]+)"
)
"""A stretch of one script; ``lastgroup`` names it."""

# Points and signs that texts may have or leave out: Arabic vowels and the stretching sign, Hebrew points, a stress
# that has no letter of its own, joiners.
_OPTIONAL = re.compile(
    "[\u0300\u0301\u0640\u064b-\u0652\u0656-\u065f\u0670\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u200c\u200d]"
)
# Marks that are taken off a letter to find it without; those of Indic scripts are vowels and stay.
_ACCENTS = re.compile("[\u0300-\u036f\u0653-\u0655]")
_PLAIN_LETTERS = str.maketrans(
    {"ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i",
     "ٱ": "ا", "ى": "ي", "ة": "ه"}
)  # fmt: skip

_OPENING = frozenset("\"'([“«„‘¿¡「『（《【")


def normalised(text: str) -> str:
    """A text without what does not show, each letter in its one usual form.

    Soft hyphens, zero-width and control characters go; ligatures, presentation and width forms become plain letters;
    every space is a space; letters and their accents are composed (NFC). Superscripts, fractions and units stay.
    """
    if text.isascii():
        return text
    text = _SOFT_HYPHEN.sub("", text).translate(_table())
    return unicodedata.normalize("NFC", _JOINERS.sub(_joiner, text))


def without_points(word: str) -> str:
    """A word without points and signs that a text may leave out, such as Arabic vowels."""
    return word if word.isascii() else _OPTIONAL.sub("", word)


def without_accents(word: str) -> str:
    """A word, in lower case, as one types it who leaves accents out: ``café`` as ``cafe``."""
    if word.isascii():
        return word
    bare = _ACCENTS.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", bare).translate(_PLAIN_LETTERS)


def begins_sentence(character: str) -> bool:
    """Whether a sentence may begin so: a capital, a digit, a letter of a script without capitals, an opening mark."""
    if character.isalpha():
        return not character.islower()
    return character.isdecimal() or character in _OPENING


@cache
def marks() -> str:
    """The marks that stand with a letter, vowel signs among them, as ranges for a character class."""
    codes = (code for code in range(0x300, 0x1F000) if unicodedata.category(chr(code))[0] == "M")
    return "".join(f"{chr(a)}-{chr(b)}" for a, b in _ranges(code for code in codes if not 0xFE00 <= code <= 0xFE0F))


def _ranges(codes: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = -2
    for code in codes:
        if code != last + 1:
            if last >= 0:
                yield first, last
            first = code
        last = code
    if last >= 0:
        yield first, last


@cache
def _table() -> dict[int, str | None]:
    table: dict[int, str | None] = {**dict.fromkeys(_SPACES, " "), **_LINE_ENDS}
    for first, last in _INVISIBLE:
        table |= dict.fromkeys(range(first, last + 1))
    for first, last in _SAME_LETTERS:
        for code in range(first, last + 1):
            plain = unicodedata.normalize("NFKC", chr(code))
            if not plain.startswith(" "):  # a vowel sign by itself, which has no letter
                table.setdefault(code, plain)
    return table


def _joiner(match: re.Match[str]) -> str:
    """One joiner stays between letters or signs whose shape it decides: Arabic and Indic letters, emoji."""
    text, start, end = match.string, match.start(), match.end()
    return match[0][0] if start and end < len(text) and all(map(_joins, (text[start - 1], text[end]))) else ""


def _joins(character: str) -> bool:
    code = ord(character)
    return 0x590 <= code <= sys.maxunicode and not 0x1E00 <= code <= 0x206F and not character.isspace()
