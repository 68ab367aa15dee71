"""Words of English text: which carry content, and their stems. For questions made by rule, retrieval and routing."""

from __future__ import annotations

import hashlib
import re

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


def words(text: str) -> list[str]:
    """The words of a text in order, without the punctuation around them."""
    return WORD.findall(text)


def is_content(word: str) -> bool:
    """Whether a word says what a text is about."""
    return word.lower() not in STOP_WORDS


def stem(word: str) -> str:
    """A word without case, possessive and inflection; crude and fast, the same in text and question."""
    word = word.lower().replace("’", "'").removesuffix("'s").rstrip("'.,-")
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 4:
            return word[: -len(suffix)]
    return word


def terms(text: str) -> list[str]:
    """Stems of the content words of a text, in order, with repeats. Hyphenated words count whole and in parts."""
    found: list[str] = []
    for word in words(text):
        parts = [word, *(_PARTS.split(word) if _PARTS.search(word) else ())]
        found += [stemmed for part in parts if part and is_content(part) and (stemmed := stem(part))]
    return found


def content_stems(text: str) -> set[str]:
    """The distinct `terms` of a text."""
    return set(terms(text))


def hash_63(text: str) -> int:
    """63 bits of SHA-256: the same number for the same text in every process, on every platform."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def several(amount: float, one: str, many: str = "") -> str:
    """``1 document``, ``2,512 documents``."""
    return f"{amount:,.0f} {one if amount == 1 else many or one + 's'}"
