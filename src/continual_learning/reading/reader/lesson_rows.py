"""Rows of a reader's training: a text with questions about it, each behind a mask, and the loss of their answers.

Shapes: B = rows of a batch, T = tokens of a row, D = hidden size, N = tokens of answers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from continual_learning.model.base_model import Attention, BaseModel
from continual_learning.reading.reader.lessons import Lesson, changed
from continual_learning.reading.reader.reader import END, UNKNOWN, first_ids, question_prompt, text_prompt

_LONGEST_TEXT = 900  # tokens; the rest of a text is left out
_MOST_QUESTIONS = 12  # about one text in one row
# Lengths are rounded up to a multiple of this: memory is then reused, and not sought for each batch anew.
_LENGTHS = 32
# Shares of questions: without the title; in lower case or without the question mark; with a year or a name changed; and
# of questions of other texts.
_UNTITLED, _CARELESS, _CHANGED, _FOREIGN = 0.1, 0.25, 0.12, 0.25


class LessonRow(NamedTuple):
    """Tokens of a text and of all questions about it."""

    ids: list[int]
    places: list[int]
    parts: list[int]
    """Of each token: 0, the text; n, the n-th question with its answer."""
    learned: list[tuple[int, int]]
    """Tokens of answers, each with the place from which it is predicted."""
    questions: int


def lesson_row(base: BaseModel, lesson: Lesson, names: Sequence[str], rng: random.Random) -> LessonRow:
    """A text with its own questions and some that it does not answer, worded as people word them; varied by ``rng``."""
    asked: list[tuple[str, str]] = []
    for one in lesson.questions:
        inside = [answer for answer in one.answers if answer in lesson.text]
        asked.append((one.question, f" {rng.choice(inside or one.answers).strip()}"))
        if rng.random() < _CHANGED and (other := changed(one.question, lesson.text, names, rng)):
            asked.append((other, UNKNOWN))
    expected = len(lesson.questions) * _FOREIGN
    count = int(expected) + (rng.random() < expected % 1)
    asked += [(one, UNKNOWN) for one in rng.sample(lesson.elsewhere, min(count, len(lesson.elsewhere)))]
    rng.shuffle(asked)
    title = "" if rng.random() < _UNTITLED else lesson.title
    return make_row(base, title, lesson.text, [(_careless(q, rng), a) for q, a in asked[:_MOST_QUESTIONS]])


def make_row(base: BaseModel, title: str, text: str, asked: Sequence[tuple[str, str]]) -> LessonRow:
    """A text and the questions about it, each with the answer that is to be learned."""
    ids = [*first_ids(base), *base.encode(text_prompt(title, text))[:_LONGEST_TEXT]]
    size = len(ids)
    places, parts, learned = list(range(size)), [0] * size, []
    for number, (question, answer) in enumerate(asked, 1):
        prompt, wanted = base.encode(question_prompt(question)), base.encode(answer + END)
        first = len(ids) + len(prompt)
        learned += [(first - 1 + i, token) for i, token in enumerate(wanted)]
        ids += prompt + wanted
        places += range(size, size + len(prompt) + len(wanted))
        parts += [number] * (len(prompt) + len(wanted))
    return LessonRow(ids, places, parts, learned, len(asked))


def row_loss(base: BaseModel, rows: Sequence[LessonRow], first_block: int) -> Tensor:
    """Negative log-likelihood of the answers, in nats a question."""
    length = -(-max(len(row.ids) for row in rows) // _LENGTHS) * _LENGTHS

    def padded(lists: Sequence[Sequence[int]], value: int) -> Tensor:
        return torch.tensor([[*one, *[value] * (length - len(one))] for one in lists], device=base.device)

    ids_BT, part_BT = padded([row.ids for row in rows], 0), padded([row.parts for row in rows], -1)
    same_BTT = (part_BT[:, None, :] == 0) | (part_BT[:, None, :] == part_BT[:, :, None])
    allowed_BTT = same_BTT & torch.ones(length, length, dtype=torch.bool, device=base.device).tril()
    allowed_BTT |= torch.eye(length, dtype=torch.bool, device=base.device)  # padding attends to itself
    attention = Attention(allowed_BTT, padded([row.places for row in rows], 0))
    hidden_BTD = base.hidden_before(ids_BT, first_block, attention)
    hidden_BTD = base.run_from(hidden_BTD, ids_BT, first_block, attention)
    at = [(row, place) for row, one in enumerate(rows) for place, _ in one.learned]
    wanted_N = torch.tensor([token for one in rows for _, token in one.learned], device=base.device)
    read_ND = hidden_BTD[[row for row, _ in at], [place for _, place in at]]
    total = F.cross_entropy(base.logits(read_ND).float(), wanted_N, reduction="sum")
    return total / sum(row.questions for row in rows)


def batches(rows: Sequence[LessonRow], tokens: int, rng: random.Random) -> list[list[LessonRow]]:
    """Rows of similar length together, in random order."""
    found: list[list[LessonRow]] = []
    batch: list[LessonRow] = []
    for row in sorted(rows, key=lambda row: len(row.ids)):
        if batch and (len(batch) + 1) * len(row.ids) > tokens:
            found.append(batch)
            batch = []
        batch.append(row)
    found += [batch] if batch else []
    rng.shuffle(found)
    return found


def _careless(question: str, rng: random.Random) -> str:
    """Now and then as people type: in lower case at the beginning, or without the question mark."""
    if rng.random() >= _CARELESS:
        return question
    return question.rstrip("?") if rng.random() < 0.5 else question[:1].lower() + question[1:]
