"""Training examples as tokens: what a training loop reads, which tokens count in the loss, and in which order.

Shapes: B = examples in a mini-batch, T = tokens of the longest.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from continual_learning.model.base_model import BaseModel
from continual_learning.model.chat_template import user
from continual_learning.text.chunking import passages
from continual_learning.training.questions import Fragment, make_fragments, study_questions

# Number of mini-batches that are assembled from one stretch of a pass.
_STRETCH = 4


@dataclass(frozen=True)
class Item:
    """One training example: a token sequence whose first ``prompt_tokens`` are read and the rest learned."""

    ids: tuple[int, ...]
    prompt_tokens: int


@dataclass(frozen=True)
class StudyMaterial:
    """How training examples are made from a passage."""

    fragment_tokens: int = 20
    """Maximum tokens per fragment that questions ask about."""
    answer_tokens: int = 23
    """Maximum tokens per answer: a fragment and what follows it in the passage."""
    questions_per_fragment: int = 6
    """Telegraphic questions per fragment; 0 trains on the text alone."""
    full_answer_every: int = 3
    """Every n-th question about a fragment is answered in full, the rest with the fragment's first tokens."""
    answer_start_tokens: int = 4
    """How many first tokens those answers have."""

    def fragments(self, base: BaseModel, text: str) -> list[Fragment]:
        """The fragments of a passage."""
        return make_fragments(text, lambda t: len(base.encode(t)), self.fragment_tokens, self.answer_tokens)


def cut_to_tokens(base: BaseModel, text: str, limit: int | None) -> tuple[str, int, int]:
    """The text up to ``limit`` tokens (None: all), its token count, and how many tokens were left out."""
    ids = base.encode(text)
    if limit is None or len(ids) <= limit:
        return text, len(ids), 0
    return base.decode(ids[:limit]), limit, len(ids) - limit


def document_items(
    base: BaseModel, text: str, title: str, passage_tokens: int, material: StudyMaterial, rng: random.Random
) -> list[Item]:
    """The training examples of every passage of a document, cut at sentences into at most ``passage_tokens`` each."""
    items: list[Item] = []
    for part in passages(text, lambda t: len(base.encode(t)), passage_tokens):
        items += study_items(base, part, title, material.fragments(base, part), material, rng)
    return items


def study_items(
    base: BaseModel,
    text: str,
    title: str,
    fragments: Sequence[Fragment],
    material: StudyMaterial,
    rng: random.Random,
) -> list[Item]:
    """All training examples of one passage: questions about its ``fragments`` first, then the text."""
    items: list[Item] = []
    for number, asked in enumerate(study_questions(fragments, title, material.questions_per_fragment, rng)):
        answer = reply_ids(base, asked.fragment.answer)
        if (number // len(fragments)) % material.full_answer_every:
            answer = answer[: material.answer_start_tokens]
        items.append(make_item(question_ids(base, asked.question), answer))
    return [*items, text_item(base, text, title)]


def text_item(base: BaseModel, text: str, title: str = "") -> Item:
    """A plain text after its title, of which every token counts."""
    return make_item([], base.encode(f"{title}\n{text}" if title else text, add_special_tokens=True))


def question_ids(base: BaseModel, question: str) -> list[int]:
    """The prompt of a question about a passage, without the default system prompt, which would only cost time."""
    return base.chat_ids([user(question)], system=False)


def reply_ids(base: BaseModel, text: str) -> list[int]:
    """Tokens of an answer as a user is to get it, including what ends it.

    From a base that never saw a chat that is one line and the empty line that follows it in any text of questions and
    answers: a token that ends texts would first have to be learned in its place.
    """
    if base.chats:
        return answer_ids(base, text)
    return [*_turn_ids(base, " ".join(text.split())), *base.encode("\n\n")]


def answer_ids(base: BaseModel, text: str) -> list[int]:
    """Tokens of an answer, including the token that ends it."""
    answer = _turn_ids(base, text)
    # A template may write a line break after the end of the turn: the answer ends at the first stop token.
    ends = [i for i, token in enumerate(answer) if token in base.stop_ids]
    return answer[: ends[0] + 1] if ends else [*answer, *sorted(base.stop_ids)[:1]]


def _turn_ids(base: BaseModel, text: str) -> list[int]:
    question = user("?")
    prompt = base.chat_ids([question], system=False)
    whole = base.chat_ids([question, {"role": "assistant", "content": text}], add_generation_prompt=False, system=False)
    return whole[len(prompt) :] if whole[: len(prompt)] == prompt else base.encode(text)


def make_item(prompt: Sequence[int], learned: Sequence[int]) -> Item:
    """An example that reads the prompt and learns the rest."""
    # The first token of a sequence cannot be predicted: nothing precedes it.
    return Item((*prompt, *learned), max(1, len(prompt)))


def padded_ids(batch: Sequence[Item], device: torch.device) -> Tensor:
    """Token ids [B, T], padded on the right, where a causal model never looks."""
    longest = max(len(item.ids) for item in batch)
    return torch.tensor([[*item.ids, *[0] * (longest - len(item.ids))] for item in batch], device=device)


def mini_batches(lengths: Sequence[int], batch_tokens: int, rng: random.Random) -> list[list[int]]:
    """One pass: every example once, by number, in mini-batches of at most ``batch_tokens``, newly shuffled each time.

    Padding counts, and an example that is longer is a mini-batch by itself. Within a stretch of the order, examples of
    similar length are grouped, to keep padding low.
    """
    stretch = max(1, _STRETCH * batch_tokens * len(lengths) // sum(lengths))
    order = rng.sample(range(len(lengths)), len(lengths))
    batches: list[list[int]] = []
    for start in range(0, len(order), stretch):
        batch: list[int] = []
        for i in sorted(order[start : start + stretch], key=lambda i: lengths[i]):
            if batch and (len(batch) + 1) * lengths[i] > batch_tokens:
                batches.append(batch)
                batch = []
            batch.append(i)
        batches.append(batch)
    rng.shuffle(batches)
    return batches
