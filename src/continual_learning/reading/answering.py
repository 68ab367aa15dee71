"""Answers that are spans of a text, for strategies that have a text to read: recited from weights, or kept.

The text need not be cut to the length of an answer, and an answer is as long as the span that was asked for. Feedback
shifts the choice: the base's logits processors adjust each answer's log-likelihood (`logits_processors.ChoiceSteer`).

A memory of many documents shares words with many questions about other things. If a question is not `surely_about` what
was read for it, the reading counts only if the reader is sure that the text answers; else the base answers, as it would
without a memory (`answers_from_each`).
"""

from __future__ import annotations

import logging
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from continual_learning.model.base_model import BaseModel, Message
from continual_learning.options import ANY, StrategyConfig
from continual_learning.reading.own_answers import own_answers
from continual_learning.reading.reader.reader import Reader, load_reader, packaged_reader, prepared_reader
from continual_learning.reading.spans import FoundSpan, Reading, Turn
from continual_learning.reading.turns import earlier_turn
from continual_learning.retrieval.relevance import surely_about, text_key
from continual_learning.retrieval.routing import answer_by_route, default_rarity, look_ups, term_hash
from continual_learning.text.chunking import sentence_chunks, sentences
from continual_learning.text.words import document_stems
from continual_learning.types import Alternative, Answer, Source, TokenCallback

log = logging.getLogger(__name__)

PACKAGED = "packaged"
BETWEEN_PASSAGES = "\n\n"
_LEAST = 1e-30
_CONSIDERED = 8  # this many spans are available for feedback to choose from, and as alternatives
_MOST_TITLES = 3  # more are no title of a text
_BELIEVED = 0.2
"""Below this probability of `unknown` a text is believed to answer a question that may share its words by accident. Of
those that are not `surely_about` a passage that they found, it is lower for 5 of 13 that it answers, among them all 3
that are answered right, and for none of 105 on other things."""
_WINDOW_WORDS = 200  # of a text that a question may be about: the whole of a long document holds words of any question
_NEAREST_CHARS = 120  # of the nearest passage, in the sentence that says that a document does not say


class ReaderConfig(StrategyConfig):
    """Settings of strategies that read a text for an answer."""

    reader: str | None = PACKAGED
    """The reader that finds the answer in a text: `packaged` (the one that ships for the base, else the one that `model
    prepare` made; a base without either reads the text in its prompt), a file that `continual-learning train reader`
    wrote, or none (the strategy then answers in its own way)."""

    RETIRED: ClassVar[Mapping[str, object]] = {"most_candidates": ANY, "candidate_mass": ANY}


def chosen_reader(base: BaseModel, config: ReaderConfig) -> Reader | None:
    """The reader that the settings name, or None. Raises ConfigError, CorruptMemoryError or MismatchError."""
    if config.reader is None:
        return None
    if config.reader == PACKAGED:
        made = packaged_reader(base) or prepared_reader(base)
        if made is None:
            _say_once(base)
        return made
    path = Path(config.reader).expanduser()
    found = base.remember(("reader", str(path.absolute())), lambda: load_reader(path))
    found.check(base)
    return found


_said: set[str] = set()


def _say_once(base: BaseModel) -> None:
    """Say, once a process, what a reader would add: a base without one answers all the same."""
    if base.fingerprint in _said:
        return
    _said.add(base.fingerprint)
    log.info(
        "%s has no reader: it reads texts in its prompt, less exactly; `continual-learning model prepare %s` says how "
        "long it takes to make one, and makes it (sooner with --quick)",
        base.name,
        shlex.quote(base.name),
    )


def answers_from(
    base: BaseModel,
    reader: Reader,
    passages: Sequence[Source],
    questions: Sequence[str],
    max_new_tokens: int,
    history: Sequence[Message] = (),
) -> list[Answer]:
    """What passages, read as one text in their order, answer to each question.

    ``passages`` are sources with their ``text``; those of an answer begin with the one that it is a span of. An answer
    is cut to ``max_new_tokens``. A question that refers to the last turn of ``history`` is read after it.
    """
    every = [tuple(passages)] * len(questions)
    return [answer for answer, _ in _read_each(base, reader, every, questions, max_new_tokens, history)]


def _read_each(
    base: BaseModel,
    reader: Reader,
    passages: Sequence[tuple[Source, ...]],
    questions: Sequence[str],
    max_new_tokens: int,
    history: Sequence[Message],
) -> list[tuple[Answer, Reading]]:
    routes = [(each, earlier_turn(question, history)) for each, question in zip(passages, questions, strict=True)]

    def read(route: tuple[tuple[Source, ...], Turn | None], asked: list[str]) -> list[tuple[Answer, Reading]]:
        return _read(base, reader, route[0], asked, max_new_tokens, route[1])

    return answer_by_route(questions, routes, read)


def _read(
    base: BaseModel,
    reader: Reader,
    passages: Sequence[Source],
    questions: Sequence[str],
    max_new_tokens: int,
    turn: Turn | None,
) -> list[tuple[Answer, Reading]]:
    started = time.perf_counter()
    titles = list(dict.fromkeys(passage.title for passage in passages if passage.title))
    title = "; ".join(titles) if len(titles) <= _MOST_TITLES else ""
    text = BETWEEN_PASSAGES.join(passage.text for passage in passages)
    readings = reader.read(base, title, text, questions, _CONSIDERED, turn)
    answers = [
        answer_of(base, question, reading, passages, max_new_tokens)
        for question, reading in zip(questions, readings, strict=True)
    ]
    share = (time.perf_counter() - started) / max(1, len(questions))
    return [(replace(answer, seconds=share), reading) for answer, reading in zip(answers, readings, strict=True)]


def answers_from_each(
    base: BaseModel,
    reader: Reader,
    passages: Sequence[Sequence[Source]],
    questions: Sequence[str],
    max_new_tokens: int,
    on_token: TokenCallback | None = None,
    history: Sequence[Message] = (),
    much: bool = False,
    doubtful: bool = False,
) -> list[Answer]:
    """As `answers_from`, where each question has its own passages; questions about the same are read together.

    ``much``: whether the memory `holds_much`. Then what is read for a question that is not surely about it counts only
    if the reader is sure that it answers; else the answer is the base's own, after ``history``.
    The same holds for all that is ``doubtful``.
    ``on_token`` needs a single question.
    """
    # The same passages have another score for each question.
    unscored = [tuple(replace(passage, score=0.0) for passage in each) for each in passages]
    found: list[Answer] = []
    left: list[int] = []
    for number, (answer, reading) in enumerate(_read_each(base, reader, unscored, questions, max_new_tokens, history)):
        each = passages[number]
        believed = reading.said and reading.unknown < _BELIEVED
        if not believed and not doubtful:
            believed = not much or _surely_about(questions[number], history, each)
        if not believed:
            left.append(number)
            found.append(answer)
            continue
        scores = {(p.document_id, p.chunk): p.score for p in each}
        first, *others = (replace(s, score=scores[s.document_id, s.chunk]) for s in answer.sources)
        found.append(replace(answer, sources=(first, *sorted(others, key=lambda s: -s.score))))
    if left:
        own = own_answers(base, [questions[number] for number in left], max_new_tokens, on_token, history)
        for number, answer in zip(left, own, strict=True):
            found[number] = replace(answer, seconds=answer.seconds + found[number].seconds)
    elif on_token:
        on_token(found[0].text)
    return found


def _surely_about(question: str, history: Sequence[Message], passages: Sequence[Source]) -> bool:
    return any(
        surely_about(asked, passage.title, key)
        for asked in look_ups(question, history)
        for passage in passages
        for key in _window_keys(passage.title, passage.text)
    )


@lru_cache(maxsize=512)
def _window_keys(title: str, text: str) -> tuple[frozenset[int], ...]:
    windows = sentence_chunks(text, lambda part: len(part.split()), _WINDOW_WORDS, 0)
    return tuple(text_key(title, window) for window in windows)


def answer_of(
    base: BaseModel, question: str, reading: Reading, passages: Sequence[Source], max_new_tokens: int
) -> Answer:
    """The answer that a reading of passages comes to: its best span, or that they do not say.

    Under feedback the answer may be another span, or one that no passage holds; its confidence is then its probability.
    """
    spans: dict[str, FoundSpan] = {}
    chances: dict[str, float] = {}
    for span in reading.spans:
        spans.setdefault(span.text, span)
        chances[span.text] = chances.get(span.text, 0.0) + span.probability
    nearest, sentence, silent = 0, "", ""
    if not reading.said or (reading.unknown > 0 and base.steers):
        nearest, sentence = nearest_sentence(question, passages)
        silent = does_not_say(passages[nearest].title, sentence)
        # As likely as the reader finds it, and likelier than any span just if that is what the reader decided.
        top = max(chances.values(), default=0.0)
        chances[silent] = min(reading.unknown, top) if reading.said else max(reading.unknown, top)
    read = reading.spans[0].text if reading.said else silent
    moved = base.weighed({choice: math.log(max(chance, _LEAST)) for choice, chance in chances.items()})
    ranked = sorted(moved, key=lambda choice: (-moved[choice], choice != read))
    best = ranked[0]
    confidence = reading.confidence if best == read else math.exp(moved[best])
    others = tuple(Alternative(choice, math.exp(moved[choice])) for choice in ranked[1:_CONSIDERED] if choice != silent)
    if best == silent:
        sources = _begun_with(passages, nearest, sentence)
        return Answer(question, silent, sources, len(base.encode(silent)), 0.0, (), "unknown", confidence, others)
    ids = base.encode(best)[:max_new_tokens]
    said = base.decode(ids).rstrip("\ufffd").strip()
    if best in spans:
        sources = _begun_with(passages, _passage_at(passages, spans[best].start), said)
    else:  # a correction
        sources = _begun_with(passages, nearest_sentence(question, passages)[0], "")
    return Answer(question, said, sources, len(ids), 0.0, (), "memory", confidence, others)


def nearest_sentence(question: str, passages: Sequence[Source]) -> tuple[int, str]:
    """The sentence that holds most of what the question asks about, and the number of its passage; of ties, the first.

    There must be a passage.
    """
    places = [(number, one) for number, passage in enumerate(passages) for one in sentences(passage.text)]
    if not places:
        return 0, passages[0].text.strip()
    keys = [frozenset(map(term_hash, document_stems(one))) for _, one in places]
    shared = default_rarity().match(question, keys)
    return places[max(range(len(places)), key=lambda i: (shared[i], -i))]


def does_not_say(title: str, sentence: str, what: str = "") -> str:
    """The answer to what a document does not say: a sentence that names its nearest sentence.

    ``what``: the form of the answer that was asked for, as in "does not say yes or no".
    """
    named = f'"{title}" does not say' if title else "The document does not say"
    named += f" {what}" if what else ""
    words = " ".join(sentence.split()).lstrip("#-*•>| ")
    if len(words) > _NEAREST_CHARS:
        words = words[:_NEAREST_CHARS].rsplit(" ", 1)[0] + "…"
    return f'{named}. The nearest passage: "{words}"' if words else f"{named}."


def _begun_with(passages: Sequence[Source], number: int, quote: str) -> tuple[Source, ...]:
    return (replace(passages[number], quote=quote), *(p for i, p in enumerate(passages) if i != number))


def _passage_at(passages: Sequence[Source], start: int) -> int:
    """The number of the passage in which a character of their joined text is."""
    end = 0
    for number, passage in enumerate(passages):
        end += len(passage.text) + len(BETWEEN_PASSAGES)
        if start < end:
            return number
    return len(passages) - 1
