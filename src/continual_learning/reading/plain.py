"""From questions to prompts and answers: shared by all strategies that prompt the base."""

from __future__ import annotations

from collections.abc import Sequence

from continual_learning.model.base_model import BaseModel, Message
from continual_learning.model.chat_template import user
from continual_learning.model.generation import generate
from continual_learning.model.logits_processors import Steer
from continual_learning.model.sampling import Choose
from continual_learning.reading.generated import generated_answer
from continual_learning.reading.turns import latest_turns
from continual_learning.types import Answer, Source, TokenCallback

# What an answer looks like, for a base that was never taught to chat. None is among the general questions.
_EXAMPLES: tuple[Message, ...] = (
    user("What do we call somebody who bakes bread?"),
    {"role": "assistant", "content": "a baker"},
    user("How many wheels does a bicycle have?"),
    {"role": "assistant", "content": "2"},
    user("In which country is the city of Oslo?"),
    {"role": "assistant", "content": "Norway"},
)


def fitted_prompt(
    base: BaseModel, history: Sequence[Message], question: str, max_new_tokens: int, system: bool = True
) -> tuple[list[int], tuple[str, ...]]:
    """The prompt of a question after a conversation, and a note if the conversation was cut.

    The oldest turns are dropped until the prompt and the answer fit into the window; the question, and a system
    message at the beginning of the conversation, are never dropped. A base that does not chat reads worked examples
    before the conversation, if they leave room for it. ``system=False`` gives the prompt of a training question:
    without the system prompt that a template adds by itself, and without worked examples.
    """
    examples = _EXAMPLES if system and not base.chats else ()

    def prompt(turns: Sequence[Message]) -> list[int]:
        first = [turn for turn in turns[:1] if turn["role"] == "system"]
        return base.chat_ids([*first, *examples, *turns[len(first) :], user(question)], system=system)

    if examples and len(prompt(history)) + max_new_tokens > base.window:
        examples = ()

    turns = latest_turns(history, lambda kept: len(prompt(kept)) + max_new_tokens <= base.window)
    dropped = len(history) - len(turns)
    notes = (f"the oldest {dropped} turns did not fit into the window of {base.window} tokens",) if dropped else ()
    return prompt(turns), notes


def generate_answers(
    base: BaseModel,
    questions: Sequence[str],
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    on_token: TokenCallback | None = None,
    notes: Sequence[tuple[str, ...]] = (),
    sources: Sequence[tuple[Source, ...]] = (),
    steer: Steer | None = None,
    choose: Choose | None = None,
) -> list[Answer]:
    """Generate answers to prompts in one batch, with the caller's patches; greedily unless ``choose`` is given.

    The answer of a base that does not chat is one line: what follows is a question that it makes up.
    """
    made = generate(base, prompts, max_new_tokens, on_token, not base.chats, steer, choose)
    return [
        generated_answer(question, generation, sources[i] if sources else (), notes[i] if notes else ())
        for i, (question, generation) in enumerate(zip(questions, made, strict=True))
    ]


def plain_answers(
    base: BaseModel,
    questions: Sequence[str],
    max_new_tokens: int,
    on_token: TokenCallback | None = None,
    history: Sequence[Message] = (),
) -> list[Answer]:
    """The base's own answers, in its chat format."""
    fitted = [fitted_prompt(base, history, question, max_new_tokens) for question in questions]
    prompts, notes = [ids for ids, _ in fitted], [note for _, note in fitted]
    return generate_answers(base, questions, prompts, max_new_tokens, on_token, notes)
