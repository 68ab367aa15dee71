"""Is an answer right? The three measures of closed-book question answering.

Exact match and F1 are those of SQuAD's official evaluation, script version 2.0 (Rajpurkar et al. 2016, arXiv
1606.05250, section 6.1; Rajpurkar et al. 2018, arXiv 1806.03822): lower case, every character of ASCII punctuation
deleted, the words a, an and the replaced by a space, white space collapsed. So "nine-hole" becomes the one word
"ninehole" there, and a dash beyond ASCII stays. Version 1.1 differs in one case alone: where nothing is left of the
answer or of the gold answer, its F1 is 0, while that of 2.0 is 1 if nothing is left of both.

Containment is this product's own: punctuation is read as a space rather than deleted, so that "nine-hole" holds
"nine", and 4,820 is 4820. In scripts without spaces each character is a word.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

from continual_learning.text.characters import SCRIPT_RUN, UNSPACED

_DELETED = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_ARTICLES = frozenset({"a", "an", "the"})
_WORD = re.compile(r"\d+(?:\.\d+)+|[^\W_]+")  # 3.5 is one word
_DIGIT_GROUPS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")  # 4,820 is 4820


def answer_words(text: str, keep_articles: bool = False) -> list[str]:
    """The words of a text as containment compares them: case-folded, without punctuation and articles."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = _WORD.findall(_DIGIT_GROUPS.sub("", folded))
    if not folded.isascii():
        words = [part for word in words for part in _parts(word)]
    return words if keep_articles else [word for word in words if word not in _ARTICLES]


def contains_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether ``text`` contains one of the accepted answers as whole words, in order."""
    return any(_contains(text, answer) for answer in answers)


def exact_match(text: str, answers: Sequence[str]) -> bool:
    """SQuAD's exact match: whether ``text``, normalised, is one of the gold answers, normalised."""
    found = _normalised(text)
    return any(found == wanted for wanted in _gold(answers))


def token_f1(text: str, answers: Sequence[str]) -> float:
    """SQuAD's F1: harmonic mean of word precision and recall against the nearest gold answer, 0 to 1."""
    found = _normalised(text).split()
    return max(_f1(found, wanted.split()) for wanted in _gold(answers))


def _contains(text: str, answer: str) -> bool:
    # Blood group A: an answer that is nothing but an article is looked for among the articles too.
    keep = not answer_words(answer)
    wanted, found = answer_words(answer, keep), answer_words(text, keep)
    return bool(wanted) and any(found[i : i + len(wanted)] == wanted for i in range(len(found)))


def _parts(word: str) -> list[str]:
    """Where words are not told apart by spaces, every character is one."""
    if not UNSPACED.search(word):
        return [word]
    runs = SCRIPT_RUN.finditer(word)
    return [part for run in runs for part in ([run[0]] if run.lastgroup == "spaced" else run[0])]


def _normalised(text: str) -> str:
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_DELETED)).split())


def _gold(answers: Sequence[str]) -> list[str]:
    """Gold answers, normalised. Those left empty do not count; if none is left, an empty answer is right."""
    return [wanted for answer in answers if (wanted := _normalised(answer))] or [""]


def _f1(found: list[str], wanted: list[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted))
