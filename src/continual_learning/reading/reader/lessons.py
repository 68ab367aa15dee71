"""What a reader is trained on: texts with questions that they answer, and questions that they do not answer.

Of the latter, some belong to another text with many of the same words, and some are a text's own with a year or a name
changed to one that is not in it: questions about the very subject that look answerable (as in SQuAD 2.0, Rajpurkar et
al. 2018, arXiv 1806.03822, section 4, where people wrote them).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from continual_learning.documents import json_object
from continual_learning.documents.qa_files import COMPRESSED, question_answer, read_text, short_repr
from continual_learning.errors import DocumentError, InputError
from continual_learning.text.words import content_stems
from continual_learning.types import QuestionAnswer

_NEAREST = 12  # questions of other texts to choose from
_MOST_COMMON = 400  # a word in more questions than this says nothing about what a question is about
_YEAR = re.compile(r"\b(?:1\d{3}|20\d{2})\b")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")
_YEARS_APART = (-30, -13, -7, -4, 5, 9, 12, 40)
_TRIES = 5


@dataclass(frozen=True)
class Lesson:
    """A text with questions."""

    title: str
    text: str
    questions: tuple[QuestionAnswer, ...]
    """Those that it answers."""
    elsewhere: tuple[str, ...] = ()
    """Questions of other texts that are nearest to this one, and that it does not answer."""


def read_lessons(path: Path) -> list[Lesson]:
    """Lessons of a file: JSON lines with ``title``, ``context`` and ``questions`` (``question``, ``answers``).

    It may be compressed: ``.jsonl.xz``, ``.jsonl.gz``.

    Questions without an answer are left out. Raises InputError, one line with the line of the file and the field.
    """
    lessons = []
    for number, line in enumerate(read_text(path, (".jsonl", *COMPRESSED)).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json_object(line, number)
        except DocumentError as error:
            raise InputError(f"{path}, {error}") from None
        at = f"{path}, line {number}"
        title, text, questions = row.get("title") or "", row.get("context"), row.get("questions")
        if not isinstance(title, str) or not isinstance(text, str) or not text.strip():
            raise InputError(f"{at}: field 'context' is {short_repr(text)}; expected a text, and a string as 'title'")
        if not isinstance(questions, list) or not all(isinstance(one, dict) for one in questions):
            raise InputError(f"{at}: field 'questions' is {short_repr(questions)}; expected a list of objects")
        found = tuple(
            question_answer({"question": one.get("question"), "answer": given}, at)
            for one in questions
            if (given := one.get("answers", one.get("answer")))
        )
        if found:
            lessons.append(Lesson(title.replace("_", " "), text, found))
    if not lessons:
        raise InputError(f"{path}: holds no question with an answer; expected at least one")
    return lessons


def apart(lessons: Sequence[Lesson], count: int) -> tuple[list[Lesson], list[Lesson]]:
    """Lessons to learn from, and to hold out: the last ``count``, and those with the same titles, which take no part.

    Raises InputError if nothing is left to learn from.
    """
    titles = {lesson.title for lesson in lessons[-count:] if lesson.title}
    learned = [lesson for lesson in lessons[:-count] if lesson.title not in titles]
    if not learned:
        raise InputError(
            f"{len(lessons)} texts, of which the last {count} and those with the same titles are held out: none is "
            "left; give more texts, or a smaller --held-out"
        )
    return learned, list(lessons[-count:])


def sha256(lessons: Iterable[Lesson]) -> str:
    """Identity of lessons in this order."""
    digest = hashlib.sha256()
    for one in lessons:
        qa = [[q.question, *q.answers] for q in one.questions]
        digest.update(json.dumps([one.title, one.text, qa], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def with_questions_of_others(lessons: Sequence[Lesson]) -> list[Lesson]:
    """The lessons with the questions of other texts that share most with each, by rare words."""
    asked: dict[str, list[tuple[int, QuestionAnswer]]] = defaultdict(list)
    for number, lesson in enumerate(lessons):
        for question in lesson.questions:
            for stem in sorted(set(content_stems(question.question))):
                asked[stem].append((number, question))
    rarity = {stem: math.log(len(lessons) / len(found) + 1) for stem, found in asked.items()}
    complete = []
    for number, lesson in enumerate(lessons):
        shared: Counter[tuple[int, QuestionAnswer]] = Counter()
        for stem in sorted(set(content_stems(f"{lesson.title} {lesson.text}"))):
            if len(asked.get(stem, ())) < _MOST_COMMON:
                for place in asked.get(stem, ()):
                    shared[place] += rarity[stem]  # type: ignore[assignment]
        text = lesson.text.casefold()
        foreign = (
            question.question
            for (other, question), _ in shared.most_common(5 * _NEAREST)
            if other != number and not any(answer.casefold() in text for answer in question.answers)
        )
        complete.append(replace(lesson, elsewhere=tuple(one for one, _ in zip(foreign, range(_NEAREST), strict=False))))
    return complete


def names_asked_about(lessons: Iterable[Lesson]) -> list[str]:
    """Names in questions, to put into others."""
    return sorted({name for one in lessons for q in one.questions for name in _NAME.findall(q.question)})


def changed(question: str, text: str, names: Sequence[str], rng: random.Random) -> str | None:
    """The question with a year or a name that ``text`` does not contain; None if it has neither."""
    year = _YEAR.search(question)
    if year:
        for _ in range(_TRIES):
            other = str(int(year[0]) + rng.choice(_YEARS_APART))
            if other not in text:
                return question[: year.start()] + other + question[year.end() :]
    found = list(_NAME.finditer(question))
    if found and names:
        name = rng.choice(found)
        for _ in range(_TRIES):
            other = rng.choice(names)
            if other.split()[0] not in text:
                return question[: name.start()] + other + question[name.end() :]
    return None
