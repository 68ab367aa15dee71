"""Questions for learning a passage, made from it by rules, without a model.

A model trained with next-token loss on a passage recites it but answers no question: what is missing is the way from
a question's words to the place in the text. So the passage is cut into fragments that fit into
an answer, and each fragment is asked for by many *telegraphic questions*: a question word and some of
the words around a possible answer, without the answer's own words, drawn anew each time. The model answers with
the fragment. The text itself is learned, too.

All sampling uses the generator that the caller seeds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from continual_learning.text.answer_types import answer_spans
from continual_learning.text.chunking import fragments, joined, sentences, spaces_before
from continual_learning.text.words import is_content, words

_QUESTION_WORDS = {
    "date": ("When", "In what year", "On what date"),
    "number": ("How many", "How much", "What number"),
    "name": ("Who", "What", "Which", "Where", "What is the name"),
    "phrase": ("What", "What", "How", "Which", "Why"),
}
_AROUND = 1000
"""Characters around a fragment that questions take words from, in a sentence that is longer than that twice."""


@dataclass(frozen=True)
class Fragment:
    """A piece of a sentence, and the answer that starts with it."""

    text: str
    sentence: str
    answer: str
    """The fragment and as much of the text after it as an answer has room for."""


@dataclass(frozen=True)
class StudyQuestion:
    """A question, the fragment that it asks for, and the words of it that answer."""

    question: str
    fragment: Fragment
    asked_for: str


def make_fragments(text: str, count_tokens: Callable[[str], int], limit: int, answer_limit: int) -> list[Fragment]:
    """The fragments of all sentences of a text, each at most ``limit`` tokens long, in order.

    An answer continues with the fragments that follow, up to ``answer_limit`` tokens, so that a question
    that finds a neighbour of the right place is still answered.
    """
    pieces = [pair for s in sentences(text) for pair in _with_sentence(fragments(s, count_tokens, limit), s)]
    spaced = spaces_before(text, [piece for piece, _ in pieces])
    found = []
    for i, (piece, sentence) in enumerate(pieces):
        answer = piece
        for (following, _), space in zip(pieces[i + 1 :], spaced[i + 1 :], strict=True):
            longer = joined((answer, following), (None, space))
            if count_tokens(longer) > answer_limit:
                break
            answer = longer
        found.append(Fragment(piece, sentence, answer))
    return found


def _with_sentence(pieces: Sequence[str], sentence: str) -> list[tuple[str, str]]:
    """Each piece with its sentence; of a very long one, with what stands around the piece."""
    if len(sentence) <= 2 * _AROUND:
        return [(piece, sentence) for piece in pieces]
    found, at = [], 0
    for piece in pieces:
        at = max(sentence.find(piece, at), 0)
        found.append((piece, sentence[max(0, at - _AROUND) : at + len(piece) + _AROUND]))
    return found


def ask(fragment: Fragment, title: str, rng: random.Random) -> StudyQuestion:
    """One telegraphic question for a fragment.

    A span of the fragment is taken as the answer, and some of the other words are kept: most content words of its own
    fragment, few of the rest of the sentence, and a third of the function words. Every second question
    contains the title: many questions name what a text is about, and that must not decide which fragment is meant.
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
    """``each`` questions for every fragment, round by round, so that a shortened list is still balanced."""
    return [ask(fragment, title, rng) for _ in range(each) for fragment in fragments_]
