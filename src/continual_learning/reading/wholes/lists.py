"""Lists in a text, which of them a question asks for, and how many entries it has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from continual_learning.reading.wholes.blocks import Blocks
from continual_learning.reading.wholes.found_lists import FoundList, lists_of
from continual_learning.reading.wholes.names import held, is_alike, is_in, terms, weight
from continual_learning.text.words import content_stems, stem

_ENOUGH = 0.6
"""Share of the question's content, by rarity, that must name a list."""
_NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty".split()
)
_STATED = (
    r"(?:\d[\d.,]*|" + "|".join([*_NUMBER_WORDS, "dozen", "thirty", "forty", "fifty", "hundred"]) + r"|[a-z]+ty-[a-z]+)"
)
_NAMED = 0.8
"""Score of a list whose name is what is asked for."""
_AROUND, _BESIDE = 0.85, 0.8
_SHORT_NAME = 4
_OTHER_WORDS = 2
"""Words that the name of a list may have in addition to what is counted."""
_PEOPLE = frozenset(stem(word) for word in "people persons guests members".split())
_NEGATED = re.compile(r"\b(?:not|no|without|except|excluded|don't|never)\b", re.IGNORECASE)
_VERBS = (
    "is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|must|may|might|in|on|of|at|for|to|from|by|with"
    "|that|which|who|go|goes|come|comes|take|takes|need|needs|made|make|makes|use|used|belong|belongs|mentioned|named"
)
_THING = re.compile(
    r"\b(?:which|what(?: are| were)?|list|name|enumerate|give|show|tell)\s+(?:me |us )?"
    r"(?:all |every |each |a list |of |the |its |their |his |her |our |my |your |other |different )*"
    rf"(?P<what>(?:[\w'’-]+\s+){{0,3}}?[\w'’-]+?)(?=\s+(?:{_VERBS}|\w{{2,}}ed)\b|\s*[.?!]*$)",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"\b(?:how many|number of|count (?:the|all)(?: the)?)\s+(?P<what>(?:[\w'’-]+\s+){0,3}?[\w'’-]+?)"
    r"(?=\s+(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|in|on|of|at|for|to|from|the|this|there|"
    r"here|mentioned|listed|given|named|that|which|who)\b|\s*\??$)",
    re.IGNORECASE,
)


def best_list(blocks: Blocks, question: str, enough: float = _ENOUGH) -> FoundList | None:
    """The list that a question's words name, or those of its entries that hold the rest of them.

    None if no list is named well enough.
    """
    said = frozenset(content_stems(" ".join([blocks.title, *(unit.text for unit in blocks.units)])))
    said |= content_stems(" ".join(section.heading for section in blocks.sections))
    scored = [(_match(blocks, one, question, said), one) for one in lists_of(blocks)]
    best = max(scored, key=lambda pair: pair[0], default=None)
    return _narrowed(blocks, best[1], question, said) if best is not None and best[0] >= enough else None


def _narrowed(blocks: Blocks, found: FoundList, question: str, said: frozenset[str]) -> FoundList:
    """The entries of a list that hold most of what a question says in addition to the list's name, if only some do."""
    rest = terms(question) & said - content_stems(blocks.title)
    rest -= held(rest, question, f"{found.name} {found.context}")
    shares = [weight(term for term in rest if is_in(term, content_stems(text))) for text in found.members]
    best = max(shares, default=0.0)
    chosen = [number for number, share in enumerate(shares) if share == best]
    if not best or len(chosen) == len(shares):
        return found
    return replace(found, entries=tuple(found.entries[number] for number in chosen))


def list_with(blocks: Blocks, question: str, span: str) -> FoundList | None:
    """The list of which a span is an entry, if the list's name or sentence has something of the question."""
    own, asked = span.strip(" .,;"), terms(question)
    for one in reversed(lists_of(blocks)):  # those in sentences first
        named = held(asked, question, f"{one.name} {one.context}")
        inside = [entry for entry in one.entries if _is_in(entry, own) or (_is_in(own, entry) and _is_most(own, entry))]
        if named and len(inside) == 1 and len(one.entries) > 1:
            return one
    return None


def _is_most(span: str, entry: str) -> bool:
    return 2 * len(span) >= len(entry)


def _is_in(words: str, text: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text))


def counted(question: str) -> str:
    """What is to be counted, as the question names it; "" if that is not clear."""
    match = _COUNTED.search(question)
    return match["what"] if match else ""


def count_of(blocks: Blocks, question: str) -> tuple[int, FoundList] | None:
    """The number of entries of the list whose name is what is counted; None if there is no such list."""
    asked = terms(question) - _PEOPLE
    if not asked or not counted(question):
        return None
    for one in lists_of(blocks):
        named = held(asked, question, one.name)
        own = content_stems(one.name) - content_stems(blocks.title)
        left = {term for term in own if not is_in(term, asked) and not is_alike(question, term)}
        if (
            one.marked
            and named
            and (named >= terms(counted(question)) - _PEOPLE)
            and len(left) <= _OTHER_WORDS
            and all(is_in(term, content_stems(blocks.title)) for term in asked - named)
        ):
            return len(one.entries), one
    return None


def says_number(text: str, question: str) -> bool:
    """Whether a text states a number of what is to be counted: "14 municipalities"."""
    head = counted(question).split()[-1:]
    if not head:
        return True
    root = re.escape(stem(head[0])[:8])
    return bool(re.search(rf"\b{_STATED}\s+(?:[\w'’-]+\s+){{0,2}}{root}\w*", text, re.IGNORECASE))


def in_words(entries: Sequence[str]) -> str:
    """Entries as one line: with commas, or semicolons if an entry has commas."""
    if len(entries) == 1:
        return entries[0]
    between = "; " if any(", " in entry for entry in entries) else ", "
    return between.join(entries)


# -- which is meant --------------------------------------------------------------------------------


def _match(blocks: Blocks, found: FoundList, question: str, said: frozenset[str]) -> float:
    """The share of a question's content that names a list, 0 to about 1.

    What is asked for ("Which toppings …") need not be in the text at all; if it names a list, that is the list.
    """
    thing = _thing(question)
    head = stem(thing.split()[-1]) if thing else ""
    asked = terms(question)
    if head not in said and not is_alike(question, found.name):
        asked -= {head}
    asked = asked - content_stems(blocks.title) or asked
    total = weight(asked)
    if not total:
        return 0.0
    name = content_stems(found.name)
    named = held(asked, question, found.name)
    in_name, in_context = weight(named), weight(held(asked - named, question, found.context))
    # A name that has not what is asked for says no more than a sentence around a list.
    names_it = not head or bool(held({head}, thing, found.name))
    score = ((1.0 if names_it else _BESIDE) * in_name + _AROUND * in_context) / total
    called = is_alike(question, found.name) or (head and names_it)
    if called and found.marked and len(name - content_stems(blocks.title)) <= _SHORT_NAME:
        score = max(score, _NAMED + 0.1 * in_name / total)
    negated = bool(_NEGATED.search(found.name)) != bool(_NEGATED.search(question))
    return score + (0.02 if found.marked and names_it else 0.0) - (0.3 if negated else 0.0)


def _thing(question: str) -> str:
    """What is asked for, as far as the words before the verb name it: "toppings" of "Which toppings go on it?"."""
    match = _THING.search(question)
    return match["what"] if match and content_stems(match["what"]) else ""
