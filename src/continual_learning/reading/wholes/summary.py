"""Summaries: a text's own title, headings and most central sentences, in their order. Nothing is invented."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from continual_learning.reading.wholes.blocks import Blocks, Unit
from continual_learning.reading.wholes.enumerations import labelled
from continual_learning.retrieval.routing import default_rarity, term_hash
from continual_learning.text.words import STOP_WORDS, content_stems

_SENTENCES = 3
_SHARE = 0.3
"""A summary has at most this share of the text's words."""
_LEAST_WORDS, _MOST_WORDS = 32, 90
_LONGEST = 40
"""Words of the longest sentence that is taken."""
_TOPICS = 8
_FEWEST_TOPICS = 3
_BEGINNING = 6
"""Units among which the sentence is that says what a text is."""
_HALF = 0.5
# Headings that number a series, and name no subject.
_SERIES = ("version", "day", "week", "phase", "stage", "unit", "lesson")
_REPEATED = 0.6
"""A sentence with this share of its content in one that is taken adds little."""
_LEAD, _TITLE, _DETAIL = 1.35, 0.4, 0.75
_WEAK = re.compile(
    r"[?]$|^(?:hello|hi|thanks|thank you|sorry|see|for more|click|please|questions?|note|last updated)\b|@|https?://|\.{3}$|\s--\w",
    re.IGNORECASE,
)
_REFERS = re.compile(
    r"^(?:this|that|these|those|it|they|he|she|its|their|and|but|so|also|however|then|i|we|you)\b", re.IGNORECASE
)
_FORMAL = re.compile(
    r"^(?:date|time|place|present|chair|next meeting|last \w+|status|version|author|from|to|cc|subject|desk|phone|tel"
    r"|e-?mail|address|contact|maintainer|licen[cs]e|copyright|not included|there)\b[^.]{0,30}:",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|will|can|may|must|should|do|does|did|\w+(?:ed|es|s|ing))\b", re.IGNORECASE
)


def about(blocks: Blocks) -> str:
    """What a text is about, as one sentence: its title, how it begins, and what its parts are called."""
    title = _title(blocks)
    lead = _lead(blocks)
    topics = topics_of(blocks)
    said = [part for part in (title, lead.rstrip(". ") if lead else "") if part]
    if len(topics) >= _FEWEST_TOPICS:
        named = f"{', '.join(topics[:-1])} and {topics[-1]}"
        said.append(f"it covers {named}" if said else named)
    if len(said) < 2:
        best = _central(blocks, 1, _LONGEST)
        said += [unit.text.rstrip(". ") for unit in best]
    first, *rest = said
    return ended(f"{first}: {'; '.join(rest)}" if rest else first)


def summary(blocks: Blocks, most_words: int = _MOST_WORDS) -> str:
    """A summary in a few sentences: what the text is about, and its most central sentences.

    It has at most ``most_words``, and less of a short text.
    """
    words = sum(len(unit.text.split()) for unit in blocks.units)
    room = min(most_words, _MOST_WORDS, max(_LEAST_WORDS, int(_SHARE * words)))
    title = _title(blocks)
    said = [ended(title)] if title else []
    topics = topics_of(blocks)
    left = room - len(title.split())
    if len(topics) > _FEWEST_TOPICS and sum(len(topic.split()) for topic in topics) < left // 3:
        said.append(f"It covers {', '.join(topics[:-1])} and {topics[-1]}.")
        left -= len(said[-1].split())
    chosen = _central(blocks, _SENTENCES, left)
    return " ".join([*said, *(ended(unit.text) for unit in chosen)])


def topics_of(blocks: Blocks) -> list[str]:
    """What the parts of a text are called: by its headings, or else by the labels of its entries."""
    headings = [_tidy(section.heading) for section in blocks.sections if section.label not in _SERIES]
    own = content_stems(blocks.title)
    topics = [one for one in headings if one and not _mostly(content_stems(one), own)]
    if len(topics) < _FEWEST_TOPICS:
        labels = [found[0] for unit in blocks.units if unit.kind == "item" and (found := labelled(unit.text))]
        topics = [_tidy(label) for label in labels if len(label.split()) <= 3]
    topics = list(
        dict.fromkeys(topic for topic in topics if len(topic.split()) <= 6 and re.search(r"[^\W\d]{3}", topic))
    )
    return topics[:_TOPICS]


def _mostly(stems: set[str], own: set[str]) -> bool:
    """Whether most of some words are in others."""
    return bool(stems) and len(stems & own) > _HALF * len(stems)


def _tidy(heading: str) -> str:
    return re.sub(r"^\d+(?:\.\d+)*[.)]?\s+", "", heading).strip(" .:-–—*_#`")


def _title(blocks: Blocks) -> str:
    """The title, or the text's own first heading."""
    first = next((section.heading for section in blocks.sections if section.heading), "")
    return _tidy(blocks.title or first)


def ended(text: str) -> str:
    """The text with a full stop, unless it ends as a sentence does."""
    return text if text.rstrip("\"”')").endswith((".", "!", "?")) else f"{text.rstrip(',;: ')}."


def _lead(blocks: Blocks) -> str:
    """The first sentence that says what the text is: long enough, and no heading, label or row."""
    own = content_stems(blocks.title)
    for unit in blocks.units[:_BEGINNING]:
        words = unit.text.split()
        stems = content_stems(unit.text)
        if unit.kind == "sentence" and len(words) > 5 and _is_sayable(unit, own) and len(stems - own) > 2:
            return unit.text
    return ""


def _central(blocks: Blocks, most: int, room: int) -> list[Unit]:
    """The most central sentences that fit into ``room`` words and do not repeat one another, in their order."""
    stems = {place: content_stems(unit.text) for place, unit in enumerate(blocks.units)}
    frequency = Counter(term for own in stems.values() for term in own)
    title = content_stems(f"{blocks.title} {' '.join(section.heading for section in blocks.sections)}")
    ranked = sorted(
        (place for place, unit in enumerate(blocks.units) if _is_sayable(unit, content_stems(blocks.title))),
        key=lambda place: -_worth(blocks, place, stems[place], frequency, title),
    )
    taken: list[int] = []
    sections: set[int] = set()
    left = room
    for place in ranked:
        size = len(blocks.units[place].text.split())
        repeats = any(len(stems[place] & stems[one]) > _REPEATED * len(stems[place]) for one in taken)
        # One of each part, if there are many.
        same = len(blocks.sections) > _SENTENCES + 1 and blocks.units[place].section in sections
        if len(taken) < most and size <= left and not repeats and not same:
            sections.add(blocks.units[place].section)
            taken.append(place)
            left -= size
    return [blocks.units[place] for place in sorted(taken)]


def _is_sayable(unit: Unit, title: set[str]) -> bool:
    """Whether a unit says something by itself: words of a sentence, not of the title, and no code."""
    words = unit.text.split()
    return (
        unit.kind in ("sentence", "item")
        and 5 <= len(words) <= _LONGEST
        and any(word.lower().strip(".,;:") in STOP_WORDS for word in words)
        and not _WEAK.search(unit.text)
        and not _mostly(content_stems(unit.text), title)
        and unit.text[0] not in "`|($"
        and not unit.text.endswith(":")
    )


def _worth(
    blocks: Blocks, place: int, stems: Sequence[str] | set[str], frequency: Counter[str], title: set[str]
) -> float:
    """How central a sentence is: the weight of its words by rarity and by how often the text has them."""
    if not stems:
        return 0.0
    unit = blocks.units[place]
    rarity = default_rarity()
    weight = math.fsum(
        rarity.idf(term_hash(term)) * math.log1p(frequency[term]) * (1 + _TITLE * (term in title))
        for term in sorted(stems)
    )
    score = weight / math.sqrt(len(unit.text.split()) + 6)
    first = place == 0 or blocks.units[place - 1].section != unit.section or blocks.units[place - 1].group != unit.group
    if first:
        score *= _LEAD
    if _FORMAL.match(unit.text):
        score *= _DETAIL
    if _REFERS.match(unit.text):
        score *= _DETAIL
    if not _VERB.search(unit.text):
        score *= _DETAIL
    return score / (1 + 0.02 * place)
