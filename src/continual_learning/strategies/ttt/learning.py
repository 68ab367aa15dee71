"""Learning one passage: choose its neurons, make its study material, descend, round, probe.

A passage's weights depend on the passage, its title, the settings and the base, and on nothing learned
before: that is what makes forgetting exact.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from continual_learning.answering import user
from continual_learning.base import BaseModel
from continual_learning.families import mlp_parts
from continual_learning.nn.dual_mlp import NeuronBranch, branch_deltas, branch_from_deltas
from continual_learning.nn.neuron_gate import tfidf, top_neurons
from continual_learning.strategies.ttt.calibration import Calibration, neuron_accesses
from continual_learning.strategies.ttt.config import TTTConfig
from continual_learning.strategies.ttt.inner_loop import (
    Descent,
    InnerLoop,
    Item,
    descend,
    dual_mlps,
    prefix_activations,
    tokens_right,
)
from continual_learning.strategies.ttt.study import Fragment, StudyQuestion, ask, make_fragments, study_questions

# Deltas are kept in half precision: they are small, and so is a memory.
STORED_TYPE = torch.float16


@dataclass(frozen=True)
class LearnedPassage:
    """The weights of one passage and what is known about them."""

    deltas: dict[int, dict[str, Tensor]]
    """By block: `branch_deltas`."""
    descent: Descent
    probe_tokens: int
    """Tokens of the held-out cloze answers."""
    right_before: int
    right_after: int
    """How many of them the base gets right, and the base with the passage's weights as they are kept."""


class Stopwatch:
    """Adds up seconds by part of the work."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - started


def blocks_with_branches(base: BaseModel, config: TTTConfig) -> range:
    """The blocks that get a Dual MLP: the last quarter, at least one, unless the settings say otherwise.

    Raises ValueError when the settings name blocks that the base does not have.
    """
    count = base.block_count
    first = count - math.ceil(count / 4) if config.first_block is None else config.first_block
    last = count if config.last_block is None else config.last_block
    if not 0 <= first < last <= count:
        raise ValueError(
            f"blocks {first} to {last} of a base with {count} blocks; expected 0 <= first < last <= {count}"
        )
    return range(first, last)


def question_ids(base: BaseModel, question: str) -> list[int]:
    """The prompt in which a passage is asked: without the default system prompt, which would only cost time."""
    return base.chat_ids([user(question)], system=False)


def learn_passage(
    base: BaseModel,
    text: str,
    title: str,
    config: TTTConfig,
    calibration: Calibration | None,
    background: Sequence[str],
    alpha: float,
    seed: str,
    deadline: float,
    watch: Stopwatch,
    on_step: Callable[[int, int, float], None] | None = None,
) -> LearnedPassage:
    """Write one passage into fresh branches. Neither the base nor anything else changes."""
    rng = random.Random(seed)
    blocks = blocks_with_branches(base, config)
    shown_title = title if config.title_on_passages else ""
    fragments = make_fragments(text, lambda t: len(base.encode(t)), config.fragment_tokens, config.answer_tokens)
    with watch("choose neurons"):
        ids = base.encode(f"{shown_title}\n{text}" if shown_title else text)
        branches = _new_branches(base, ids, blocks, config, calibration, rng)
    with watch("prefix activations"):
        items = study_items(base, text, shown_title, fragments, config, rng)
        prefix = prefix_activations(base, items, blocks.start)
        probes = probe_items(base, fragments, shown_title, config.probes, rng)
        probe_prefix = prefix_activations(base, probes, blocks.start)
    with watch("gradient descent"):
        loop = InnerLoop(
            config.optimizer,
            config.learning_rate,
            config.mini_batch_tokens,
            config.gradient_steps,
            config.passes,
            config.clip_norm,
            config.warmup,
        )
        rivals_S = _rivals(base, items, background) if config.rivals == "background" else None
        descent = descend(base, branches, alpha, items, prefix, loop, rng, rivals_S, deadline, on_step)
    deltas = {b: branch_deltas(branch, mlp_parts(base.mlp(b)), STORED_TYPE) for b, branch in branches.items()}
    with watch("probes"):
        before = sum(tokens_right(base, probes, probe_prefix, blocks.start))
        kept = {b: branch_from_deltas(mlp_parts(base.mlp(b)), d) for b, d in deltas.items()}
        with base.patched(dual_mlps(base, kept, alpha)):
            after = sum(tokens_right(base, probes, probe_prefix, blocks.start))
    probe_tokens = sum(len(probe.ids) - probe.prompt_tokens for probe in probes)
    return LearnedPassage(deltas, descent, probe_tokens, before, after)


def _rivals(base: BaseModel, items: Sequence[Item], background: Sequence[str]) -> Tensor:
    """Tokens of the study material and of the background texts, and those that end an answer: int64 [S], rising."""

    def of_background() -> frozenset[int]:
        return frozenset(token for text in background for token in base.encode(text))

    ordinary = base.remember(("background tokens", tuple(background)), of_background)
    learned = {token for item in items for token in item.ids}
    return torch.tensor(sorted(ordinary | learned | base.stop_ids), device=base.device)


def study_items(
    base: BaseModel,
    text: str,
    title: str,
    fragments: Sequence[Fragment],
    config: TTTConfig,
    rng: random.Random,
) -> list[Item]:
    """Everything that is studied, as tokens."""
    items: list[Item] = []
    for number, asked in enumerate(study_questions(fragments, title, config.questions_per_fragment, rng)):
        answer = answer_ids(base, asked.fragment.answer)
        if (number // len(fragments)) % config.full_answer_every:
            answer = answer[: config.answer_start_tokens]
        items.append(_item(question_ids(base, asked.question), answer))
    copy = f"{title}\n{text}" if title else text
    items += [_item([], base.encode(copy, add_special_tokens=True))] * config.text_copies
    request = f"What do you know about {title}?" if title else "What have you read?"
    items += [_item(question_ids(base, request), answer_ids(base, text))] * config.chat_copies
    return items


def probe_items(
    base: BaseModel, fragments: Sequence[Fragment], title: str, count: int, rng: random.Random
) -> list[Item]:
    """Held-out cloze questions, each with its fragment up to the asked-for words as the answer."""
    chosen = rng.sample(list(fragments), min(count, len(fragments)))
    items = []
    for asked in (ask(fragment, title, rng) for fragment in chosen):
        items.append(_item(question_ids(base, asked.question), base.encode(_up_to_answer(asked))))
    return items


def _up_to_answer(asked: StudyQuestion) -> str:
    text = asked.fragment.text
    return text[: text.find(asked.asked_for) + len(asked.asked_for)]


def answer_ids(base: BaseModel, text: str) -> list[int]:
    """Tokens of an answer with the token that ends it."""
    question = user("?")
    prompt = base.chat_ids([question], system=False)
    whole = base.chat_ids([question, {"role": "assistant", "content": text}], add_generation_prompt=False, system=False)
    # A template may write a line break after the end of the turn: the answer ends at the first stop token.
    answer = whole[len(prompt) :] if whole[: len(prompt)] == prompt else base.encode(text)
    ends = [i for i, token in enumerate(answer) if token in base.stop_ids]
    return answer[: ends[0] + 1] if ends else [*answer, *sorted(base.stop_ids)[:1]]


def _item(prompt: list[int], learned: list[int]) -> Item:
    # The first token of a sequence has nothing before it to be predicted from.
    return Item((*prompt, *learned), max(1, len(prompt)))


def _new_branches(
    base: BaseModel,
    ids: Sequence[int],
    blocks: range,
    config: TTTConfig,
    calibration: Calibration | None,
    rng: random.Random,
) -> dict[int, NeuronBranch]:
    counts = neuron_accesses(base, ids, blocks, config.access_share) if calibration or config.selection == "tf" else {}
    branches = {}
    for block in blocks:
        parts = mlp_parts(base.mlp(block))
        size = parts.intermediate_size
        wanted = size if config.neurons is None else min(config.neurons, size)
        if config.selection == "tfidf" and calibration:
            score_I = tfidf(counts[block], calibration.document_frequency[block], calibration.sequences)
            chosen_K = top_neurons(score_I, wanted)
        elif config.selection == "tf":
            chosen_K = top_neurons(counts[block].double(), wanted)
        else:
            chosen_K = torch.tensor(sorted(rng.sample(range(size), wanted)))
        branches[block] = NeuronBranch(parts, chosen_K, config.train)
    return branches
