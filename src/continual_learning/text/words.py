"""Words of a text: which carry content, and their stems. For questions made by rule, retrieval and routing.

ASCII text is split as it ever was: memories keep hashes of what it was split into. Every other text is normalised
before (`characters`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cache

from continual_learning.text.characters import SCRIPT_RUN, UNSPACED, marks, normalised, without_accents, without_points
from continual_learning.text.stop_words import OTHER_STOP_WORDS, PARTICLES, SEPARATORS

STOP_WORDS = frozenset(
    """a an the of in on at to for from by with and or but as is are was were be been being has have had do does did
    it its this that these those which who whom whose what when where why how not no nor so than then there their
    they them he his him she her we us our you your i me my into onto over under after before between during through
    about against also both each such other more most some any all can could may might will would shall should must
    if while because although though however only just very well up out off one once s t""".split()
)

WORD = re.compile(r"[^\W_][\w’'.,%-]*[^\W_]%?|[^\W_]%?")
_PARTS = re.compile(r"[-.]")
_SUFFIXES = tuple("ations ation ingly edly ments ment ness ings ing ies ied ers er ed es s ly e".split())
# Letters of one term, in scripts without spaces. A word of Chinese or Korean has about two characters; two letters of
# the alphabet of Thai are in half of all texts.
_GRAM = {"han": 2, "hiragana": 2, "katakana": 2, "hangul": 2, "sea": 3}


def words(text: str) -> list[str]:
    """The words of a text in order, without the punctuation around them.

    Of scripts without spaces: stretches of one script, parted where a particle stands.
    """
    if text.isascii():
        return WORD.findall(text)
    found: list[str] = []
    for word in _marked_word().findall(normalised(text)):
        if UNSPACED.search(word):
            found += [piece for _, piece in _pieces(word)]
        else:
            found.append(word)
    return found


def is_content(word: str) -> bool:
    """Whether a word says what a text is about."""
    word = word.lower()
    return word not in STOP_WORDS and (word.isascii() or without_points(word) not in OTHER_STOP_WORDS)


def stem(word: str) -> str:
    """A word without case, possessive and inflection; crude and fast, the same in text and question."""
    word = without_points(word.lower()).replace("’", "'").removesuffix("'s").rstrip("'.,-")
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 4:
            return word[: -len(suffix)]
    return word


def term_forms(text: str) -> list[tuple[str, ...]]:
    """The terms of a text, each with the other forms under which a question may ask for it.

    The first form is the term itself (`terms`). The others are the word without accents, and in Chinese the single
    characters of a pair.
    """
    found: list[tuple[str, ...]] = []
    if text.isascii():
        return [(stemmed,) for stemmed in _stems(WORD.findall(text))]
    for word in _marked_word().findall(normalised(text)):
        if word.isascii():
            found += [(stemmed,) for stemmed in _stems([word])]
            continue
        if not UNSPACED.search(word):
            found += _accented(word)
            continue
        for script, piece in _pieces(word):
            found += _accented(piece) if script == "spaced" else _grams(script, piece)
    return found


def terms(text: str) -> list[str]:
    """What a question asks for: the stems of the content words of a text, in order, with repeats.

    Hyphenated words count whole and in parts; scripts without spaces in pairs of characters.
    """
    return [forms[0] for forms in term_forms(text)]


def document_terms(text: str) -> list[str]:
    """What a text is found by: its `terms` and their other forms. In ASCII text there are no others."""
    return [form for forms in term_forms(text) for form in forms]


@cache
def _marked_word() -> re.Pattern[str]:
    """`WORD` with the marks that belong to letters: without them, words of Hindi fall apart at every vowel."""
    letter, mark = r"[^\W_]", f"[{marks()}\u200c\u200d]"
    inside = rf"[\w’'.,%\-{marks()}\u200c\u200d]"
    return re.compile(rf"{letter}{inside}*(?:{letter}|{mark})%?|{letter}%?")


def _pieces(word: str) -> list[tuple[str, str]]:
    """Script and text of the words in a stretch without spaces."""
    found: list[tuple[str, str]] = []
    for run in SCRIPT_RUN.finditer(word):
        script = run.lastgroup or "spaced"
        if script == "spaced":
            found += [(script, piece) for piece in _marked_word().findall(run[0])]
            continue
        text = run[0]
        if script == "hiragana":  # a particle or an ending stands after the word that it belongs to
            text = text[run.start() > 0 and text[0] in PARTICLES :]
            text = text[: len(text) - (text[-1:] in PARTICLES)] if len(text) > 1 else ""
        parted = SEPARATORS[script].split(text) if script in SEPARATORS else [text]
        found += [(script, piece) for piece in parted if piece and (script != "hiragana" or len(piece) > 1)]
    return found


def _stems(found: Iterable[str]) -> list[str]:
    stems: list[str] = []
    for word in found:
        parts = [word, *(_PARTS.split(word) if _PARTS.search(word) else ())]
        stems += [stemmed for part in parts if part and is_content(part) and (stemmed := stem(part))]
    return stems


def _accented(word: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for part in [word, *_PARTS.split(word)] if _PARTS.search(word) else [word]:
        if part and is_content(part) and (stemmed := stem(part)):
            # Suffixes are taken off after the accents, as they are in a question without accents.
            bare = stemmed if part.isascii() else stem(without_accents(part.lower()))
            found.append((stemmed,) if bare == stemmed else (stemmed, bare))
    return found


def _grams(script: str, piece: str) -> list[tuple[str, ...]]:
    if not is_content(piece):
        return []
    size = _GRAM[script]
    units = _clusters(piece) if script == "sea" else list(piece)
    if len(units) < size:
        return [(piece,)]
    grams = ["".join(units[at : at + size]) for at in range(len(units) - size + 1)]
    if script != "han":
        return [(gram,) for gram in grams]
    found: list[tuple[str, ...]] = [(gram, gram[0]) for gram in grams]
    found[-1:] = [(grams[-1], *grams[-1])]
    return found


def _clusters(text: str) -> list[str]:
    """Letters with the marks on them."""
    return re.findall(f".[{marks()}]*", text, re.DOTALL)


def content_stems(text: str) -> set[str]:
    """The distinct `terms` of a text."""
    return set(terms(text))


def document_stems(text: str) -> set[str]:
    """The distinct `document_terms` of a text."""
    return set(document_terms(text))


def hash_63(text: str) -> int:
    """63 bits of SHA-256: the same number for the same text in every process, on every platform."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def several(amount: float, one: str, many: str = "") -> str:
    """``1 document``, ``2,512 documents``."""
    return f"{amount:,.0f} {one if amount == 1 else many or one + 's'}"
