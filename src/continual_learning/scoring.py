"""Is an answer right? The two measures of closed-book question answering.

Both are SQuAD's (Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1), which looks past case, punctuation
and articles. Punctuation is read as a space rather than deleted, so that "nine-hole" holds "nine".
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

_ARTICLES = frozenset({"a", "an", "the"})
_WORD = re.compile(r"\d+(?:\.\d+)+|[^\W_]+")  # 3.5 is one word
_DIGIT_GROUPS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")  # 4,820 is 4820


def answer_words(text: str, keep_articles: bool = False) -> list[str]:
    """The words of a text as answers are compared: case-folded, without punctuation and articles."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = _WORD.findall(_DIGIT_GROUPS.sub("", folded))
    return words if keep_articles else [word for word in words if word not in _ARTICLES]


def contains_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether one of the accepted answers stands in ``text`` as whole words, in order."""
    return any(_contains(text, answer) for answer in answers)


def token_f1(text: str, answers: Sequence[str]) -> float:
    """Harmonic mean of word precision and recall against the nearest accepted answer, 0 to 1."""
    return max((_f1(answer_words(text), answer_words(answer)) for answer in answers), default=0.0)


def _contains(text: str, answer: str) -> bool:
    # Blood group A: an answer that is nothing but an article is looked for among the articles too.
    keep = not answer_words(answer)
    wanted, found = answer_words(answer, keep), answer_words(text, keep)
    return bool(wanted) and any(found[i : i + len(wanted)] == wanted for i in range(len(found)))


def _f1(found: list[str], wanted: list[str]) -> float:
    common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted)) if common else 0.0
