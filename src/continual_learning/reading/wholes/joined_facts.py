"""The answers to two questions as one."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from continual_learning.reading.wholes.sentences import with_preposition
from continual_learning.types import Answer

_SENTENCE = re.compile(r"(?:Yes|No)\. ")


def joined_facts(question: str, first: Answer, second: Answer) -> Answer:
    """Two answers in one. Of one that the text does not give, its question is named; two are one refusal."""
    first, second = _apart(first, second)
    confidences = [one.confidence for one in (first, second) if one.confidence is not None]
    confidence = math.prod(confidences) if len(confidences) == 2 else None
    sources = tuple(dict.fromkeys([*first.sources, *second.sources]))
    known = [one for one in (first, second) if one.origin == "memory"]
    if not known:
        return replace(first, question=question, sources=sources, confidence=confidence)
    parts = list(dict.fromkeys(with_preposition(one) for one in known))
    between = "; " if any(", " in part for part in parts) else ", "
    text = (" " if _SENTENCE.match(parts[0]) else between).join(parts)
    for one in (first, second):
        if one.origin == "unknown":
            text += f" (not said: {one.question[0].lower()}{one.question[1:].rstrip('?')})"
    return Answer(question, text, sources, origin="memory", confidence=confidence)


def _apart(first: Answer, second: Answer) -> tuple[Answer, Answer]:
    """The two answers; of the same words twice, the less certain ones give way to the next that are others."""
    if "unknown" in (first.origin, second.origin) or first.text != second.text:
        return first, second
    pairs = []
    for one, other in ((first, second), (second, first)):
        for next_one in one.alternatives:
            if next_one.text not in other.text and other.text not in next_one.text:
                pairs.append((next_one.probability - (one.confidence or 0.0), one, next_one))
                break
    if not pairs:
        return first, second
    _, moved, to = max(pairs, key=lambda pair: pair[0])
    [source, *others] = moved.sources
    confidence = None if moved.confidence is None else min(moved.confidence, to.probability)
    moved_to = replace(moved, text=to.text, confidence=confidence, sources=(replace(source, quote=to.text), *others))
    return (moved_to, second) if moved is first else (first, moved_to)
