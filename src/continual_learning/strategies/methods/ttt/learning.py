"""Learning passages: choose their neurons, make their training examples, train, repair, round, probe.

A passage's weights depend on the passage, its title, the settings and the base, and on nothing learned
before: that is what makes forgetting exact. Passages that are trained in step share no weights; being trained
together changes only how sums are rounded.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.retrieval.parts import Part, best_window, cut_parts, part_index, part_keys
from continual_learning.retrieval.routing import Rarity
from continual_learning.strategies.methods.ttt.calibration import Calibration, neuron_accesses
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.cues import cue_ids
from continual_learning.strategies.methods.ttt.dual_mlp import NeuronBranch, branch_deltas
from continual_learning.strategies.methods.ttt.inner_loop import (
    InnerLoop,
    Job,
    descend,
    descend_together,
    prefix_activations,
    tokens_right,
)
from continual_learning.strategies.methods.ttt.neuron_gate import tfidf, top_neurons
from continual_learning.strategies.methods.ttt.repair import STORED_TYPE, repair
from continual_learning.strategies.methods.ttt.start import load_start
from continual_learning.text.chunking import sentences
from continual_learning.training.examples import Item, answer_ids, make_item
from continual_learning.training.gradient_descent import Descent, StepCallback
from continual_learning.training.questions import Fragment, ask
from continual_learning.training.stopwatch import Stopwatch
from continual_learning.training.weight_size import weight_share


@dataclass(frozen=True)
class LearnedPassage:
    """The weights of one passage and what is known about them."""

    deltas: dict[int, dict[str, Tensor]]
    """`branch_deltas` by block."""
    parts: tuple[Part, ...]
    """The parts that can be recited."""
    descent: Descent
    recited: int
    """How many of these the stored weights recite word for word."""
    probe_tokens: int
    """Number of tokens of the held-out cloze answers."""
    right_before: int
    right_after: int
    """How many of these tokens are right: with the base alone, and with the passage's weights as they are stored."""


def blocks_with_branches(base: BaseModel, config: TTTConfig) -> range:
    """Return the blocks that get a Dual MLP: the last quarter, at least one, unless the settings say otherwise.

    Raises ValueError if the settings name blocks that the base does not have.
    """
    count = base.block_count
    first = count - math.ceil(count / 4) if config.first_block is None else config.first_block
    last = count if config.last_block is None else config.last_block
    if not 0 <= first < last <= count:
        raise ValueError(
            f"blocks {first} to {last} of a base with {count} blocks; expected 0 <= first < last <= {count}"
        )
    return range(first, last)


@dataclass(frozen=True)
class Passage:
    """A passage to learn."""

    text: str
    title: str
    alpha: float
    seed: str


@dataclass(frozen=True)
class Lesson:
    """What the learning of all passages has in common."""

    base: BaseModel
    config: TTTConfig
    calibration: Calibration | None
    """None if the neurons are not chosen by their rarity."""
    background: Sequence[str]
    """Ordinary texts, whose tokens are candidates in the loss."""
    rarity: Rarity
    watch: Stopwatch


@dataclass(frozen=True)
class _Prepared:
    """A passage before gradient descent: its branches, their training examples, and the parts they are probed for."""

    passage: Passage
    parts: list[Part]
    job: Job
    asked: list[int]
    """Parts that the probes ask for."""
    found: list[int]
    """Those of them that the words of the probes find."""


def learn_passages(
    lesson: Lesson, passages: Sequence[Passage], deadline: float = math.inf, on_step: StepCallback | None = None
) -> list[LearnedPassage]:
    """Write each passage into new branches. Neither the base nor anything else changes.

    Several are trained in step, with their mini-batches as one. Past ``deadline`` (`time.perf_counter`) they stop.
    """
    base, config, watch = lesson.base, lesson.config, lesson.watch
    loop = inner_loop(base, config, config.passes)
    prepared = [_prepare(lesson, passage, loop) for passage in passages]
    jobs = [one.job for one in prepared]
    with watch("gradient descent"):
        if len(jobs) > 1:
            descents = descend_together(base, jobs, loop, deadline, on_step)
        else:
            descents = [descend(base, job, loop, deadline, on_step) for job in jobs]
    learned = []
    for one, descent in zip(prepared, descents, strict=True):
        with watch("repair"):
            last = None if on_step is None else partial(_repair_step, on_step, descent)
            repaired = repair(base, one.job, loop, config.repair_rounds, deadline, last)
        with watch("probes"):
            descent = replace(descent, tokens=descent.tokens + repaired.tokens)
            learned.append(_finished(base, one, descent, repaired.wrong))
    return learned


def inner_loop(base: BaseModel, config: TTTConfig, passes: int) -> InnerLoop:
    """Return the inner loop of these settings, with this many passes over the items."""
    scale = weight_share(base) if config.optimizer == "adamw" else 1.0
    rate, tokens, steps = config.learning_rate, config.mini_batch_tokens, config.gradient_steps
    return InnerLoop(config.optimizer, rate, tokens, steps, passes, scale=scale)


def _prepare(lesson: Lesson, passage: Passage, loop: InnerLoop) -> _Prepared:
    base, config, watch = lesson.base, lesson.config, lesson.watch
    rng = random.Random(passage.seed)
    text, title = passage.text, passage.title
    whole = f"{title}\n{text}" if title else text
    with watch("choose neurons"):
        branches = new_branches(base, base.encode(whole), config, lesson.calibration, rng)
    with watch("prefix activations"):
        parts = parts_of(base, passage, config)
        items = [part_item(base, title, number, part) for number, part in enumerate(parts)]
        prefix = prefix_activations(base, items, min(branches))
        asked, found = part_probes(passage, parts, lesson.rarity, config, rng)
    rivals_S = rival_tokens(base, items, lesson.background)
    job = Job(branches, passage.alpha, items, prefix, loop.make_optimizer(branches), rng, rivals_S)
    return _Prepared(passage, parts, job, asked, found)


def _finished(base: BaseModel, one: _Prepared, descent: Descent, wrong: Sequence[Sequence[int]]) -> LearnedPassage:
    """Return what is stored, in its storage type, and how it then does; ``wrong`` are the parts' wrong tokens."""
    job = one.job
    deltas = {b: branch_deltas(branch, mlp_parts(base.mlp(b)), STORED_TYPE) for b, branch in job.branches.items()}
    probes, prefix = [job.items[n] for n in one.found], [job.prefix[n] for n in one.found]
    before = sum(tokens_right(base, probes, prefix, min(job.branches)))
    after = sum(map(_learned_tokens, probes)) - sum(len(wrong[n]) for n in one.found)
    recited = sum(not chosen for chosen in wrong)
    tokens = sum(_learned_tokens(job.items[n]) for n in one.asked)
    return LearnedPassage(deltas, tuple(one.parts), descent, recited, tokens, before, after)


def _learned_tokens(item: Item) -> int:
    return len(item.ids) - item.prompt_tokens


def _repair_step(on_step: StepCallback, descent: Descent, step: int, steps: int, loss: float) -> None:
    """Keep progress at the end of the planned steps: how many repairing takes is not known beforehand."""
    on_step(descent.planned_steps, descent.planned_steps, loss)


def rival_tokens(base: BaseModel, items: Sequence[Item], background: Sequence[str]) -> Tensor:
    """Return the tokens of the items and the background texts, and those that end an answer: int64 [S], ascending."""

    def of_background() -> frozenset[int]:
        return frozenset(token for text in background for token in base.encode(text))

    ordinary = base.remember(("background tokens", tuple(background)), of_background)
    learned = {token for item in items for token in item.ids}
    return torch.tensor(sorted(ordinary | learned | base.stop_ids), device=base.device)


def parts_of(base: BaseModel, passage: Passage, config: TTTConfig) -> list[Part]:
    """Return the parts of a passage that can be recited."""
    return cut_parts(passage.text, lambda t: len(base.encode(t)), config.part_tokens)


def part_item(base: BaseModel, title: str, number: int, part: Part) -> Item:
    """Return an item with the cue of a part, and the part to be learned after it."""
    return make_item(cue_ids(base, title, number), answer_ids(base, part.text))


def part_probes(
    passage: Passage, parts: Sequence[Part], rarity: Rarity, config: TTTConfig, rng: random.Random
) -> tuple[list[int], list[int]]:
    """Return the parts that held-out cloze questions ask for, and those of them that the questions' words find."""
    whole = sentences(passage.text)
    keys = part_keys(part_index(parts))
    asked = sorted(rng.sample(range(len(parts)), min(config.probes, len(parts))))
    found = []
    for number in asked:
        part = parts[number]
        cloze = ask(Fragment(part.text, whole[part.sentence], part.text), passage.title, rng)
        if number in best_window(keys, cloze.question, rarity, config.quote_tokens):
            found.append(number)
    return asked, found


def new_branches(
    base: BaseModel, ids: Sequence[int], config: TTTConfig, calibration: Calibration | None, rng: random.Random
) -> dict[int, NeuronBranch]:
    """Return the initial branches of a passage with these tokens: those of the start, if there is one."""
    if config.start is not None:
        return load_start(config.start, base).branches(base)
    blocks = blocks_with_branches(base, config)
    counts = neuron_accesses(base, ids, blocks) if calibration or config.selection == "tf" else {}
    branches = {}
    for block in blocks:
        parts = mlp_parts(base.mlp(block))
        size = parts.intermediate_size
        wanted = size if config.neurons is None else min(config.neurons, size)
        if config.selection == "tfidf" and calibration:
            score_I = tfidf(counts[block], calibration.document_frequency[block], calibration.sequences)
            chosen_K = top_neurons(score_I, wanted)
            chosen_K = chosen_K[score_I[chosen_K] >= config.gate_threshold * score_I.max()]
        elif config.selection == "tf":
            chosen_K = top_neurons(counts[block].double(), wanted)
        else:
            chosen_K = torch.tensor(sorted(rng.sample(range(size), wanted)))
        branches[block] = NeuronBranch(parts, chosen_K, config.train)
    return branches
