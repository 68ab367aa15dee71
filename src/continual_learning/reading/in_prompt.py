"""Reading comprehension: passages put before a question, so that the model answers from them.

There are two styles; a base that was never taught to chat reads the second. ``chat`` gives an instruction, the
passages and the question as one turn of a conversation. ``completion`` is plain text in which worked examples show what
an answer looks like (Brown et al. 2020, section 2); the model continues it, and its first line is the answer. Examples
may precede a chat as well, as earlier turns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from continual_learning.errors import InputError
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.model.chat_template import user
from continual_learning.model.generation import generate
from continual_learning.model.logits_processors import Steer
from continual_learning.options import StrategyConfig
from continual_learning.reading.generated import generated_answer
from continual_learning.reading.passage_block import passage_block, passage_lines
from continual_learning.reading.turns import latest_turns
from continual_learning.types import Answer, Source, TokenCallback

_EMPTY_LINES = re.compile(r"\n\s*\n")


class ReadingConfig(StrategyConfig):
    """How passages precede a question. The defaults were chosen for the embedded model (benchmarks/)."""

    style: Literal["auto", "chat", "completion"] = "auto"
    """A turn in the model's chat format, or plain text that the model continues; auto: chat if the model has a chat
    format."""
    shots: int = Field(2, ge=0, le=3)
    """Worked examples before the passages."""
    instruction: str = "Answer the question with a few words from the passage."
    """The instruction to the model; may be empty."""

    RETIRED: ClassVar[Mapping[str, object]] = {"system": False}


def completes(base: BaseModel, config: ReadingConfig) -> bool:
    """Whether the passages and the question are plain text that the model continues."""
    return config.style == "completion" or (config.style == "auto" and not base.chats)


@dataclass(frozen=True)
class Excerpt:
    """A text to be read: a document, or a part of one."""

    text: str
    title: str = ""

    def __str__(self) -> str:
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True)
class WorkedExample:
    """A passage with a question and the desired answer: short, and in the passage's own words."""

    passage: str
    question: str
    answer: str


# Invented, so that no answer can be right by chance.
EXAMPLES = (
    WorkedExample(
        "The Harrow Lane Observatory was opened in 1887 by the clockmaker Edwin Tamsel. Its first telescope, a gift "
        "of the town's brewers, was used to chart the moons of Jupiter until a storm broke its mirror in 1903.",
        "Who opened the Harrow Lane Observatory?",
        "Edwin Tamsel",
    ),
    WorkedExample(
        "Marsh finches nest in reeds along slow rivers. A pair raises two broods a year, the first in April and the "
        "second in late June. The young are fed mostly on water beetles and leave the nest after nineteen days.",
        "What are young marsh finches fed on?",
        "water beetles",
    ),
    WorkedExample(
        "Under the Treaty of Osk, signed in 1742, the island kept its own courts but paid a yearly tax of 300 barrels "
        "of salt to the crown. The tax was abolished 58 years later, when the salt works closed.",
        "How many barrels of salt did the island pay each year?",
        "300",
    ),
)


def reading_prompt(
    base: BaseModel,
    config: ReadingConfig,
    passages: Sequence[Excerpt],
    question: str,
    max_new_tokens: int,
    history: Sequence[Message] = (),
) -> tuple[list[int], tuple[str, ...]]:
    """Token ids of passages and question, and notes on what did not fit into the window.

    The last passage is next to the question, and is the last to be cut. Only if the passages do not all fit, the
    examples and then the oldest turns of the conversation are dropped until the passages have half the window; then
    the passages are cut from the beginning. The question, and a system message at the beginning of the conversation,
    are never cut: raises InputError if they do not fit.
    """
    room = base.window - max_new_tokens
    shots, turns = config.shots, list(history)
    documents, left_out = _newest(base, passages, room)

    def size(text: str) -> int:
        return len(_prompt(base, config, text, question, turns, shots))

    def fits(kept: list[Message]) -> bool:
        nonlocal turns
        turns = kept
        return size(documents) <= room or size("") <= room // 2

    while shots and not fits(turns):
        shots -= 1
    turns = latest_turns(history, fits)
    if size("") > room:
        raise InputError(
            f"the question takes {size('')} tokens; expected at most {room}, the window of {base.window} less "
            f"{max_new_tokens} for the answer; shorten the question"
        )
    notes = []
    if len(turns) < len(history):
        dropped = len(history) - len(turns)
        notes.append(f"the oldest {dropped} turns did not fit into the window of {base.window} tokens")
    if left_out or size(documents) > room:
        ids = base.encode(documents)
        kept = len(ids)
        # Re-encoding a decoded tail may change its length, so measure again.
        while (excess := size(documents) - room) > 0:
            kept = max(0, kept - excess)
            documents = base.decode(ids[len(ids) - kept :]).lstrip("\ufffd") if kept else ""
        notes.append(f"only the last {kept} tokens of the documents fit into the window of {base.window}")
    return _prompt(base, config, documents, question, turns, shots), tuple(notes)


def read_answers(
    base: BaseModel,
    config: ReadingConfig,
    passages: Sequence[Sequence[Excerpt]],
    questions: Sequence[str],
    max_new_tokens: int,
    on_token: TokenCallback | None = None,
    history: Sequence[Message] = (),
    sources: Sequence[tuple[Source, ...]] = (),
    steer: Steer | None = None,
) -> list[Answer]:
    """Answer greedily, in one batch, each question from its passages; with the sources of each, if given."""
    fitted = [
        reading_prompt(base, config, read, question, max_new_tokens, history)
        for read, question in zip(passages, questions, strict=True)
    ]
    # After its first line a base that continues text goes on with questions that it makes up.
    one_line = config.style == "completion" or not base.chats
    made = generate(base, [ids for ids, _ in fitted], max_new_tokens, on_token, one_line, steer)
    return [
        generated_answer(question, generation, sources[i] if sources else (), fitted[i][1])
        for i, (question, generation) in enumerate(zip(questions, made, strict=True))
    ]


def _newest(base: BaseModel, passages: Sequence[Excerpt], room: int) -> tuple[str, bool]:
    """The last passages that fit, joined, and whether any is left out.

    This way a memory of any size costs no more than a window of tokens.
    """
    kept: list[str] = []
    tokens = 0
    for passage in reversed(passages):
        if tokens >= room:
            return "\n\n".join(reversed(kept)), True
        kept.append(str(passage))
        tokens += len(base.encode(kept[-1]))
    return "\n\n".join(reversed(kept)), False


def _prompt(
    base: BaseModel, config: ReadingConfig, documents: str, question: str, turns: Sequence[Message], shots: int
) -> list[int]:
    if completes(base, config):
        text = _completion(config.instruction, documents, question, turns, EXAMPLES[:shots])
        return base.encode(text, add_special_tokens=True)
    messages: list[Message] = []
    for example in EXAMPLES[:shots]:
        messages.append(user(_turn(config.instruction, example.passage, example.question)))
        messages.append({"role": "assistant", "content": example.answer})
    messages += [*turns, user(_turn(config.instruction, documents, question))]
    return base.chat_ids(messages, system=False)


def _turn(instruction: str, documents: str, question: str) -> str:
    return "\n\n".join(part for part in (instruction, passage_block(documents), f"Question: {question}") if part)


def _completion(
    instruction: str, documents: str, question: str, turns: Sequence[Message], examples: Sequence[WorkedExample]
) -> str:
    blocks = [instruction] if instruction else []
    blocks += [f"Passage: {e.passage}\nQuestion: {e.question}\nAnswer: {e.answer}" for e in examples]
    # an empty line ends an example, so it contains none, and an answer is one line
    passage = passage_lines(_EMPTY_LINES.sub("\n", documents.strip()))
    lines = [passage] if passage else []
    lines += [f"{'Answer' if m['role'] == 'assistant' else 'Question'}: {_line(m['content'])}" for m in turns]
    lines += [f"Question: {_line(question)}", "Answer:"]
    return "\n\n".join([*blocks, "\n".join(lines)])


def _line(text: str) -> str:
    return " ".join(text.split())
