"""The answers of all strategies to one question, side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from continual_learning.evaluation.report.columns import Entry
from continual_learning.evaluation.report.formats import DASH, cell, ratio

# With fewer questions per document than this, grouping questions by document makes no sense.
_FEW, _PART = 1.5, 50


@dataclass
class Given:
    """An answer that one strategy gave, once or with several seeds in the same words."""

    right: bool
    f1: str
    parts: tuple[str, str, str]
    """The text before the gold answer, the gold answer, the text after; the first alone if it is not found."""
    notes: tuple[str, ...]
    runs: int = 1

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.parts)


@dataclass
class Asked:
    """A question with the answers to it, one list per strategy."""

    question: str
    about: str
    """The document's title if it is not the heading already."""
    gold: tuple[str, ...]
    given: list[list[Given]]

    @property
    def differ(self) -> bool:
        """Whether some strategies are right and some wrong, or one is right with only some seeds."""
        return len({answer.right for answers in self.given for answer in answers}) > 1


@dataclass
class Told:
    """A document with the questions about it."""

    title: str
    questions: list[Asked] = field(default_factory=list)

    @property
    def differing(self) -> int:
        """How many of the questions the strategies differ on."""
        return sum(question.differ for question in self.questions)

    def score(self, strategy: int) -> str:
        """Right answers out of those given, over all seeds: ``5/8``."""
        given = [answer for question in self.questions for answer in question.given[strategy]]
        right = sum(answer.runs for answer in given if answer.right)
        return f"{right}/{sum(answer.runs for answer in given)}" if given else DASH


def by_document(entries: Sequence[Entry]) -> list[Told]:
    """Questions in the order in which they were asked, grouped by document.

    If documents have hardly more than one question each, in groups of fifty.
    """
    documents: dict[str, Told] = {}
    asked: dict[tuple[str, str], Asked] = {}
    for place, entry in enumerate(entries):
        for answer in entry.data.get("answers") or ():
            document, question = str(answer.get("document") or ""), str(answer.get("question") or "")
            title = str(answer.get("title") or document) or "All documents"
            told = documents.setdefault(document, Told(title))
            key = (document, question)
            if key not in asked:
                asked[key] = Asked(question, "", _distinct(answer.get("answers") or ()), [[] for _ in entries])
                told.questions.append(asked[key])
            _add(asked[key].given[place], answer)
    found = list(documents.values())
    return found if len(found) < 2 or len(asked) >= _FEW * len(found) else _by_number(found)


def _by_number(documents: Sequence[Told]) -> list[Told]:
    questions = [replace(question, about=told.title) for told in documents for question in told.questions]
    parts = [questions[at : at + _PART] for at in range(0, len(questions), _PART)]
    return [Told(f"Questions {i * _PART + 1} to {i * _PART + len(part)}", part) for i, part in enumerate(parts)]


def _add(given: list[Given], answer: Mapping[str, Any]) -> None:
    right, text = bool(answer.get("right")), str(answer.get("text") or "")
    for other in given:
        if other.right == right and other.text == text:
            other.runs += 1
            return
    parts = _marked(text, answer.get("answers") or ()) if right else (text, "", "")
    notes = tuple(str(note) for note in answer.get("notes") or ())
    given.append(Given(right, cell(answer.get("f1"), ratio), parts, notes))


def _marked(text: str, gold: Sequence[Any]) -> tuple[str, str, str]:
    for answer in sorted(map(str, gold), key=len, reverse=True):
        words = answer.split()
        if words and (found := re.search(_whole(words), text, re.IGNORECASE)):
            return text[: found.start()], found[0], text[found.end() :]
    return text, "", ""


def _whole(words: Sequence[str]) -> str:
    together = r"\s+".join(map(re.escape, words))
    return rf"(?<!\w){together}(?!\w)"


def _distinct(answers: Sequence[Any]) -> tuple[str, ...]:
    return tuple({" ".join(str(answer).casefold().split()): str(answer) for answer in reversed(answers)}.values())[::-1]
