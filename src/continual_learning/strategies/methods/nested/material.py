"""The training examples of a turn: questions about what was said, made by rule, with answers; or the words alone.

A turn always gives the same items, so that their activations in the unchanged blocks are computed only once.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Sequence
from itertools import chain, zip_longest

from continual_learning.model.base_model import BaseModel
from continual_learning.model.chat_template import user
from continual_learning.strategies.methods.nested.config import SEED, NestedConfig
from continual_learning.strategies.methods.nested.memory import Turn
from continual_learning.strategies.methods.nested.restate import in_second_person, restate, statements
from continual_learning.training.examples import Item, make_item, question_ids, reply_ids
from continual_learning.training.questions import ask, make_fragments

_FRAGMENT_TOKENS = 20
QUESTIONS = 5
"""Maximum number of questions about each statement: at some 25 tokens each, those of one statement fill a step."""
STUDY_TOKENS = 128
"""Tokens of a turn's questions and answers beyond which no statement gets a second question: those of one step."""

_MARK = re.compile(r"\b(?P<question>Q|Question):|(?<=\s)(?P<answer>A|Answer):")

Pair = tuple[str, str]
"""A question and its answer; without a question, words to be learned as they are."""


def turn_pairs(base: BaseModel, turn: Turn, config: NestedConfig) -> list[Pair]:
    """Return the training examples of a turn, at least one pair.

    A question with its answer ("Question: … Answer: …") is used unchanged. Each statement that a rule can turn into
    questions gives up to `QUESTIONS` of them; any other sentence gives telegraphic ones. Every statement gets one
    before any gets a second, and no second is made if that takes more than `STUDY_TOKENS`. If there is no statement in
    a turn (a question, a request), its words themselves are used.
    """
    if config.signal == "text":
        return [("", turn.text)]
    rng = random.Random(f"{SEED}:{turn.title}:{turn.text}")
    given, text = asked_and_answered(turn.text)
    asked: list[list[Pair]] = [[pair] for pair in given]
    restated = {r.statement: r for r in restate(text)}
    for statement in statements(text):
        found = restated.get(statement)
        if found is not None:
            asked.append([(question, found.answer) for question in found.questions[:QUESTIONS]])
            continue
        fragments = make_fragments(statement, lambda t: len(base.encode(t)), _FRAGMENT_TOKENS, _FRAGMENT_TOKENS)
        for fragment in fragments:
            answer = in_second_person(fragment.text)
            asked.append([(ask(fragment, turn.title, rng).question, answer) for _ in range(QUESTIONS)])
    pairs = [pairs[0] for pairs in asked]
    room = STUDY_TOKENS - sum(len(pair_item(base, pair).ids) for pair in pairs)
    for pair in chain.from_iterable(zip_longest(*(pairs[1:] for pairs in asked))):
        if pair is None:  # from a statement that has no more
            continue
        room -= len(pair_item(base, pair).ids)
        if room < 0:
            break
        pairs.append(pair)
    return pairs or [("", turn.text)]


def asked_and_answered(text: str) -> tuple[list[Pair], str]:
    """The questions of a text that stand with their answers ("Q: … A: …"), and the text without them."""
    pairs: list[Pair] = []
    rest: list[str] = []
    at = 0
    marks = deque(_MARK.finditer(text))
    while marks:
        asks = marks.popleft()
        if asks["question"] is None:
            continue
        while marks and (marks[0]["answer"] is None or not text[asks.end() : marks[0].start()].strip()):
            marks.popleft()
        if not marks:
            break
        answers = marks.popleft()
        while marks and (marks[0]["question"] is None or not _ends_answer(text, answers.end(), marks[0].start())):
            marks.popleft()
        end = marks[0].start() if marks else len(text)
        if answer := text[answers.end() : end].strip():
            pairs.append((text[asks.end() : answers.start()].strip(), answer))
            rest.append(text[at : asks.start()])
            at = end
    return pairs, " ".join([*rest, text[at:]])


def _ends_answer(text: str, start: int, end: int) -> bool:
    return text[end - 1].isspace() and not text[start:end].isspace()


def pair_item(base: BaseModel, pair: Pair) -> Item:
    """Return a pair in the chat format: the question is read, the answer learned.

    If words without a question are too long for the window, the newest are learned.
    """
    question, answer = pair
    if question:
        return make_item(question_ids(base, question), reply_ids(base, answer))
    ids = base.chat_ids([user(answer)], add_generation_prompt=False)
    return make_item([], ids[-base.window :])


def drawn(base: BaseModel, turns: Sequence[Sequence[Pair]], tokens: int, rng: random.Random) -> list[Item]:
    """Draw items of turns, as many as ``tokens`` hold, at least one: one of each turn before a second of any."""
    found: list[Item] = []
    shuffled = [rng.sample(list(pairs), len(pairs)) for pairs in rng.sample(list(turns), len(turns))]
    for pair in chain.from_iterable(zip_longest(*shuffled)):
        if pair is None:  # from a turn that has no more
            continue
        item = pair_item(base, pair)
        if found and sum(len(i.ids) for i in found) + len(item.ids) > tokens:
            break
        found.append(item)
    return found
