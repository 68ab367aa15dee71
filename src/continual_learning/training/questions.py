"""Study material: what a training loop reads to learn a passage, made from it by rule, without a model.

Next-token loss on a passage teaches it by heart and answers no question: what is missing is the way from
a question's words to the place in the text. So the passage is cut into fragments that fit into
an answer, and each fragment is asked for by many *telegraphic questions*: a question word and some of
the words around a possible answer, the answer's own words left out, drawn anew each time. The model answers with
the fragment. A few copies of the text itself come along.

Every draw comes from the generator that the caller seeds.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from continual_learning.text.chunking import fragments, sentences
from continual_learning.text.words import is_content, words

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_UNIT = "(?:million|billion|thousand|percent|per cent|km|miles|metres|meters|feet|kg|tons?|years?|days?)"
_NAME_LINK = "(?:of|the|and|de|von|van|for|&)"
_CAPITALISED = r"[A-ZÀ-Þ][\w’'-]*"
# Kind of answer, what it looks like, and how likely a reader is to ask for it.
_ANSWER_KINDS: tuple[tuple[str, re.Pattern[str], float], ...] = (
    ("date", re.compile(rf"(?:\d{{1,2}} )?{_MONTH}(?: \d{{1,2}})?(?:,? \d{{4}})?"), 3.0),
    ("date", re.compile(r"\b(?:1\d|20)\d{2}s?\b"), 3.0),
    ("number", re.compile(rf"[$€£]?\d(?:[\d,.]*\d)?(?:%|st|nd|rd|th)?(?: {_UNIT}\b)?"), 2.5),
    (
        "number",
        re.compile(r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|hundreds?|half)\b"),
        2.5,
    ),
    (
        "name",
        re.compile(rf"{_CAPITALISED}(?:\s(?:{_NAME_LINK}\s)?(?:the\s)?{_CAPITALISED})*"),
        3.0,
    ),
)
_PHRASE_WEIGHT = 1.0
_QUESTION_WORDS = {
    "date": ("When", "In what year", "On what date"),
    "number": ("How many", "How much", "What number"),
    "name": ("Who", "What", "Which", "Where", "What is the name"),
    "phrase": ("What", "What", "How", "Which", "Why"),
}
_MAX_ANSWER_WORDS = 6


@dataclass(frozen=True)
class Span:
    """A possible answer: ``text[start:end]``."""

    start: int
    end: int
    kind: str
    weight: float


@dataclass(frozen=True)
class Fragment:
    """A piece of a sentence, and the answer that starts with it."""

    text: str
    sentence: str
    answer: str
    """The fragment and as much of what follows it in the text as an answer has room for."""


@dataclass(frozen=True)
class StudyQuestion:
    """A question, the fragment that is asked for, and the words in it that are."""

    question: str
    fragment: Fragment
    asked_for: str


def answer_spans(text: str) -> list[Span]:
    """Possible answers in a text: dates, numbers, names, and phrases between function words."""
    found: dict[tuple[int, int], Span] = {}
    for kind, pattern, weight in _ANSWER_KINDS:
        for match in pattern.finditer(text):
            start, end = match.span()
            first = text[start:end].split()[0]
            if kind == "name" and not is_content(first):  # "The Normans": a sentence's first word is no name
                start = min(end, start + len(first) + 1)
            if start < end:
                found.setdefault((start, end), Span(start, end, kind, weight))
    for match in re.finditer(r"[^\s,;:()\[\]\"“”–—]+(?:\s[^\s,;:()\[\]\"“”–—]+)*", text):
        for start, end in _content_runs(text, match.start(), match.end()):
            found.setdefault((start, end), Span(start, end, "phrase", _PHRASE_WEIGHT))
    return [span for span in found.values() if len(text[span.start : span.end].split()) <= _MAX_ANSWER_WORDS]


def _content_runs(text: str, start: int, end: int) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    current: tuple[int, int] | None = None
    for match in re.finditer(r"\S+", text[start:end]):
        word = match.group().rstrip(".!?")
        a, b = start + match.start(), start + match.start() + len(word)
        if word and is_content(word):
            current = (current[0] if current else a, b)
        elif current:
            runs.append(current)
            current = None
    return [*runs, current] if current else runs


def make_fragments(text: str, count_tokens: Callable[[str], int], limit: int, answer_limit: int) -> list[Fragment]:
    """The fragments of all sentences of a text, each at most ``limit`` tokens long, in order.

    An answer goes on with the fragments that follow as long as it keeps to ``answer_limit`` tokens: a question
    that finds a neighbour of the right place is then still answered.
    """
    pieces = [(piece, s) for s in sentences(text) for piece in fragments(s, count_tokens, limit)]
    found = []
    for i, (piece, sentence) in enumerate(pieces):
        answer = piece
        for following, _ in pieces[i + 1 :]:
            if count_tokens(f"{answer} {following}") > answer_limit:
                break
            answer = f"{answer} {following}"
        found.append(Fragment(piece, sentence, answer))
    return found


def ask(fragment: Fragment, title: str, rng: random.Random) -> StudyQuestion:
    """One telegraphic question for a fragment.

    A span of the fragment is taken as the answer, and some of the other words are kept: of its own
    fragment most content words, of the rest of the sentence few, of function words a third. Every second one
    has the title in it: many questions name what a text is about, and it must not decide which fragment is meant.
    """
    spans = [s for s in answer_spans(fragment.text) if s.end - s.start < 0.6 * len(fragment.text)]
    if spans:
        span = rng.choices(spans, weights=[s.weight for s in spans])[0]
        before, after = fragment.text[: span.start], fragment.text[span.end :]
        asked_for, kind = fragment.text[span.start : span.end], span.kind
    else:
        before, after, asked_for, kind = fragment.text, "", fragment.text, "phrase"

    def some(text: str, share: float) -> list[str]:
        return [w for w in words(text) if rng.random() < (share if is_content(w) else 0.35)]

    parts = [some(before, 0.8), some(after, 0.8)]
    if rng.random() < 0.3:
        parts.reverse()
    elsewhere = some(fragment.sentence.replace(fragment.text, " "), 0.25)[:6]
    if elsewhere:
        parts.insert(rng.choice((0, len(parts))), elsewhere)
    kept = " ".join(word for part in parts for word in part) or title
    if title and rng.random() < 0.5:
        kept = rng.choice((f"{title}'s {kept}", f"{title} {kept}", f"{kept} in {title}", f"{kept} of {title}"))
    return StudyQuestion(f"{rng.choice(_QUESTION_WORDS[kind])} {kept}?", fragment, asked_for)


def study_questions(fragments_: Sequence[Fragment], title: str, each: int, rng: random.Random) -> list[StudyQuestion]:
    """``each`` questions for every fragment, round by round, so that a cut list is still even."""
    return [ask(fragment, title, rng) for _ in range(each) for fragment in fragments_]
