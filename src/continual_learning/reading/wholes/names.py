"""Whether the words of a question name a heading, a label or a column: in the same words, or in those that people use.

"Who attended?" asks for what stands under "Present", and "What do I need?" for the "Ingredients".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from continual_learning.reading.wholes.questions import TEXT_NOUNS
from continual_learning.retrieval.routing import default_rarity, term_hash
from continual_learning.text.words import content_stems, stem

# Words of a question for a list that say nothing about which.
GENERIC = frozenset(
    stem(word)
    for word in """list lists name names named all every each item items entry entries give show tell enumerate
    which what many number count total different various kind kinds type types sort sorts following mentioned listed
    document text page notes note please available included contain contains mention there here one ones thing things
    exist full complete find go goes get""".split()
)
_TEXT_WORDS = frozenset(stem(word) for word in re.findall(r"[a-zé]{4,}", TEXT_NOUNS)) - {stem("presentation")}
# What questions and headings call the same.
_ALIKE = tuple(
    re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for words in (
        "attend(?:ed|s|ees?|ing)?|present|participa(?:nts?|ted)|took part|taking part",
        "absent|apologies|excused|missing|sent apologies",
        "needs?|needed|require(?:d|s|ments?)?|ingredients?|materials?|equipment|prerequisites|bring|supplies|utensils",
        "steps?|instructions?|directions?|method|procedure|preparation",
        "in the box|contents?|included|include[sd]?|comes? with|package|supplied",
        "tasks?|actions?|action items|to[- ]?dos?|next steps",
        "topics?|agenda|discussed|talked about",
        "jobs?|employment|work experience|experience|positions?|career|worked",
        "education|degrees?|studied|study|qualifications?",
        "software|programs?|computer|tools?|it skills",
        "hobby|hobbies|interests?|free time|spare time",
        "prices?|costs?|fees?|fares?|charges?|rates?",
        "features?|highlights?|functions?",
        "colou?rs?",
        "dates?|deadlines?|due",
        "responsible|owner|in charge",
    )
)
_LEAST_SHARED = 4


def terms(text: str) -> set[str]:
    """The content of a question or a name, without words that say nothing about which list is meant."""
    found = {term for term in content_stems(text) if term not in GENERIC}
    return found - _TEXT_WORDS or found


def weight(some: Iterable[str]) -> float:
    """How much terms say, by their rarity."""
    return sum(default_rarity().idf(term_hash(term)) for term in some)


def held(asked: Iterable[str], question: str, name: str) -> set[str]:
    """Those terms of a question that a name has: the word, another form of it, or what is called the same."""
    own = content_stems(name)
    groups = [group for group in _ALIKE if group.search(name)]
    alike = {stem(word) for group in groups for match in group.findall(question) for word in match.split()}
    return {term for term in asked if term in alike or is_in(term, own)}


def is_alike(question: str, name: str) -> bool:
    """Whether a question asks in other words for what has this name."""
    return any(group.search(question) and group.search(name) for group in _ALIKE)


def is_in(term: str, own: set[str]) -> bool:
    """Whether a text has a word: also another form of it, that the stems do not join."""
    return not own.isdisjoint((term, f"{term}s", term.removesuffix("s"))) or (
        len(term) >= _LEAST_SHARED
        and any(len(one) >= _LEAST_SHARED and (one.startswith(term) or term.startswith(one)) for one in own)
    )
