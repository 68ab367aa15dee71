"""From a question about a whole document to its answer, or None if it is better read as one for a span."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.answering import does_not_say, nearest_sentence
from continual_learning.reading.wholes.blocks import Blocks, blocks_of
from continual_learning.reading.wholes.found_lists import FoundList
from continual_learning.reading.wholes.joined_facts import joined_facts
from continual_learning.reading.wholes.library import Chosen, Library
from continual_learning.reading.wholes.lists import best_list, count_of, in_words, list_with, says_number
from continual_learning.reading.wholes.names import held
from continual_learning.reading.wholes.questions import (
    QuestionKind,
    about_what,
    may_ask_for_list,
    may_be_answered_by_list,
    question_kind,
)
from continual_learning.reading.wholes.summary import about, ended, summary
from continual_learning.reading.wholes.tables import looked_up
from continual_learning.reading.wholes.two_facts import split_facts
from continual_learning.reading.wholes.yes_no import verdict
from continual_learning.text.words import several
from continual_learning.types import Answer, Source, TokenCallback

_STRICT = 0.75
"""How well a list must be named by a question that may ask for something else."""
_RIGHT = {"yes_no": 0.8, "list": 0.85, "count": 0.9, "table": 0.9}
"""The share of answers by rule that are right, as their confidence: of those about six documents of other kinds, which
the rules were not written for, 15 of 19, 9 of 10, 2 of 2 and 5 of 5; of few, rounded towards one half."""
_TITLES = 5
"""Titles that a refusal names."""
_WORDS_A_TOKEN = 0.65
"""Words of a summary per token, low enough that they fit."""


class Spans(Protocol):
    """A strategy's own way of answering: with a span, or by the base."""

    def __call__(
        self, questions: Sequence[str], on_token: TokenCallback | None, history: Sequence[Message]
    ) -> list[Answer]:
        """Answer every question, in order; ``on_token`` takes a single one."""


_Ask = Callable[[Sequence[str], Sequence[Message]], list[Answer]]
"""Answers to questions of any kind, with what was said before."""
_Said = Callable[[str, str, float | None], Answer]
"""An answer from its text, the words that it rests on, and its confidence."""


def takes(library: Library, question: str, history: Sequence[Message] = ()) -> bool:
    """Whether `answers` has a document for a question to which the strategy itself would find none.

    Two facts are answered by the strategy, from a text that it finds for either.
    """
    return _title_turn(library, question, history) is not None or _whole(library, question, None, history) is not None


def splits(question: str) -> bool:
    """Whether `answers` may answer a question in two."""
    return _kind(question) == "two_facts"


def answers(
    base: BaseModel,
    library: Library,
    questions: Sequence[str],
    spans: Spans,
    max_new_tokens: int,
    on_token: TokenCallback | None = None,
    history: Sequence[Message] = (),
) -> list[Answer]:
    """Answer every question, in order: those about whole documents here, all others by ``spans``."""

    def ask(facts: Sequence[str], history: Sequence[Message]) -> list[Answer]:
        return answers(base, library, facts, spans, max_new_tokens, None, history)

    found: dict[int, Answer] = {}
    for number, question in enumerate(questions):
        started = time.perf_counter()
        answer = _whole(library, question, ask, history, max_new_tokens)
        if answer is not None:
            answer = _within(base, answer, max_new_tokens)
        elif turn := _title_turn(library, question, history):
            [answer] = spans([question], None, [*history, turn])
            answer = _entire(base, library, answer, max_new_tokens)
        if answer is not None:
            found[number] = replace(answer, seconds=time.perf_counter() - started)
    if on_token and found:
        on_token(found[0].text)
    rest = [number for number in range(len(questions)) if number not in found]
    if rest:
        # What may become a list is not streamed before it is one.
        waits = _may_be_part(questions[rest[0]]) and library.choose(questions[rest[0]], history) is not None
        read = spans([questions[n] for n in rest], None if waits else on_token, history)
        if waits or not on_token:
            read = [_entire(base, library, one, max_new_tokens) for one in read]
        if waits and on_token:
            on_token(read[0].text)
        found.update(zip(rest, read, strict=True))
    return [found[number] for number in range(len(questions))]


def _may_be_part(question: str) -> bool:
    """Whether words that are found may be a part of the answer only: several things or people may be asked for."""
    return may_ask_for_list(question) or question.lower().startswith(("who ", "whom "))


def _entire(base: BaseModel, library: Library, answer: Answer, max_new_tokens: int) -> Answer:
    """The answer; the whole list that a span is in, if several things may be asked for, and both names of two."""
    if answer.origin != "memory" or not answer.sources or not _may_be_part(answer.question):
        return answer
    [source, *others] = answer.sources
    if source.quote != answer.text or source.document_id in library.long:
        return answer
    blocks = blocks_of(source.title, library.whole(source.document_id))
    found = list_with(blocks, answer.question, answer.text)
    if found is None or not (may_ask_for_list(answer.question) or found.are_two_names):
        return answer
    text = in_words(found.entries)
    sources = (replace(source, quote=text), *others)
    return _within(base, replace(answer, text=text, sources=sources), max_new_tokens)


def _title_turn(library: Library, question: str, history: Sequence[Message]) -> Message | None:
    """The title of the only document as a turn before a question whose words alone find no text.

    "How high is the barrel?" has too few words to find a text among many. Where there is one text alone, and it has
    what the question is about (`Library.choose`), a strategy finds it with the title's words.
    """
    if library.only is None or library.route(question, history) or library.choose(question, history) is None:
        return None
    turn: Message = {"role": "user", "content": library.titles[library.only.document_id]}
    return turn if library.route(question, [*history, turn]) else None


def _kind(question: str) -> QuestionKind:
    """The kind of question; "What is X about?" counts as `about` here, whatever X is."""
    kind = question_kind(question)
    return "about" if kind == "span" and about_what(question) else kind


def _needs_a_document(question: str) -> bool:
    return question_kind(question) in ("summary", "about")


def _whole(
    library: Library, question: str, ask: _Ask | None, history: Sequence[Message], max_new_tokens: int = 64
) -> Answer | None:
    kind = _kind(question)
    if not library.titles:
        return None
    if kind == "two_facts":
        return _two_facts(library, question, ask, history) if ask else None
    chosen = library.choose(question, history)
    if chosen is None:
        if _needs_a_document(question):
            return _which(library, question)
        chosen = library.only
        if chosen is None or kind in ("yes_no", "about") or chosen.document_id in library.long:
            return None
    if kind == "about" and not _needs_a_document(question) and not chosen.certain:
        return None
    if kind == "span" and chosen.document_id in library.long and not may_ask_for_list(question):
        return None
    if chosen.document_id in library.longest and not _needs_a_document(question):
        return None
    title, text = library.titles[chosen.document_id], library.whole(chosen.document_id)
    blocks = blocks_of(title, text)

    def said(answer: str, quote: str = "", confidence: float | None = None) -> Answer:
        source = Source(chosen.document_id, title, 1.0, quote, None, text, library.recited)
        return Answer(question, answer, (source,), origin="memory", confidence=confidence)

    if kind in ("summary", "about"):
        whole = about(blocks) if kind == "about" else summary(blocks, int(max_new_tokens * _WORDS_A_TOKEN))
        return said(whole, whole) if whole else None
    if kind == "yes_no":
        return _yes_no(question, chosen, blocks, text, said)
    if kind == "count":
        counted = None if says_number(text, question) else count_of(blocks, question)
        if counted and not _fits(library, chosen, question, counted[1].name):
            return None
        return said(str(counted[0]), in_words(counted[1].entries), _RIGHT["count"]) if counted else None
    if (cells := looked_up(blocks, question)) and _fits(library, chosen, question, ""):
        return said(in_words(cells), in_words(cells), _RIGHT["table"])
    listed = _list(question, kind == "list", chosen, blocks)
    if listed is None or not _fits(library, chosen, question, listed.name):
        return None
    entries = in_words(listed.entries)
    return said(entries, entries if listed.marked else listed.unit.text, _RIGHT["list"])


def _fits(library: Library, chosen: Chosen, question: str, name: str) -> bool:
    """Whether nothing that a question asks about is missing from the document, or is called otherwise there."""
    missing = library.missing(chosen, question)
    return missing <= held(missing, question, name)


def _list(question: str, asks: bool, chosen: Chosen, blocks: Blocks) -> FoundList | None:
    """The list that a question names; if it may ask for something else, one with a form of its own and that name."""
    if not asks and not may_ask_for_list(question) and not may_be_answered_by_list(question):
        return None
    sure = asks and chosen.certain
    listed = best_list(blocks, question) if sure else best_list(blocks, question, _STRICT)
    return listed if listed is not None and (sure or listed.marked) else None


def _yes_no(question: str, chosen: Chosen, blocks: Blocks, text: str, said: _Said) -> Answer | None:
    """Yes or no with the sentence that it rests on; a refusal if the text is the one asked about and is not clear."""
    found = verdict(blocks, question)
    if found is not None:
        return said(_with_reason(found.yes, found.sentence), found.sentence, _RIGHT["yes_no"])
    if not chosen.certain:
        return None
    return _unsure(question, chosen, blocks.title, text, said)


def _with_reason(yes: bool, sentence: str) -> str:
    return f"{'Yes' if yes else 'No'}. {ended(sentence)}"


def _unsure(question: str, chosen: Chosen, title: str, text: str, said: _Said) -> Answer:
    nearest = nearest_sentence(question, [Source("", title, 0.0, text=text)])[1]
    answer = said(does_not_say(title, nearest, "yes or no"), nearest, None)
    return replace(answer, origin="unknown")


def _which(library: Library, question: str) -> Answer:
    """A refusal that says which documents can be asked about."""
    titles = [f'"{title}"' if title else f"document {document_id}" for document_id, title in library.titles.items()]
    named = ", ".join(titles[:_TITLES])
    more = len(titles) - _TITLES
    also = f" and {several(more, 'other')}" if more > 0 else ""
    return Answer(question, f"Which document? This memory can be asked about {named}{also}.", origin="unknown")


def _two_facts(library: Library, question: str, ask: _Ask, history: Sequence[Message]) -> Answer | None:
    """Both answers in one, each to a question on its own; None if the memory has no part in either.

    The whole question precedes each as an earlier turn: what finds the text of one finds that of the other.
    """
    facts = split_facts(question)
    assert facts is not None, question
    title = _title_turn(library, question, history)
    asked: Message = {"role": "user", "content": f"{title['content']} {question}" if title else question}
    first, second = ask(facts, [*history, asked])
    return None if "model" in (first.origin, second.origin) else joined_facts(question, first, second)


def _within(base: BaseModel, answer: Answer, max_new_tokens: int) -> Answer:
    """An answer cut to whole sentences or entries within ``max_new_tokens``; the first stays whatever its length."""
    text = answer.text
    tokens = len(base.encode(text))
    while tokens > max_new_tokens:
        cut = max(text.rfind(mark, 0, len(text) - 1) for mark in (". ", "; "))
        if cut < 0:
            break
        text = text[: cut + 1].rstrip(";")
        tokens = len(base.encode(text))
    return replace(answer, text=text, tokens=tokens)
