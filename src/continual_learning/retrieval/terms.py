"""The terms that texts and queries are compared by: stems of content words."""

from __future__ import annotations

import re

from continual_learning.text.words import is_content, stem, words

_PARTS = re.compile(r"[-.]")


def terms(text: str) -> list[str]:
    """Stems of the content words of a text, in order, with repeats. Hyphenated words count whole and in parts."""
    found: list[str] = []
    for word in words(text):
        parts = [word, *(_PARTS.split(word) if _PARTS.search(word) else ())]
        found += [stemmed for part in parts if part and is_content(part) and (stemmed := stem(part))]
    return found
