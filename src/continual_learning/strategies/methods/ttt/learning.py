"""Learning passages: make their training examples, choose their neurons, train, probe.

A passage's weights depend on the passage, its title, the settings and the base, and on nothing learned before: that is
what makes forgetting exact. Only the blocks before the branches are run for several passages at a time, which changes
no more than how sums are rounded.

Shapes: B = items, T = tokens, D = hidden size, M = learned tokens, I = neurons of an MLP.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import captured_inputs, mlp_parts
from continual_learning.retrieval.parts import Part, best_window, cut_parts, part_index, part_keys
from continual_learning.retrieval.routing import Rarity
from continual_learning.strategies.methods.ttt.calibration import Calibration, block_accesses
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.cues import cue_ids
from continual_learning.strategies.methods.ttt.dual_mlp import NeuronBranch, branch_deltas
from continual_learning.strategies.methods.ttt.inner_loop import (
    Batch,
    InnerLoop,
    Job,
    Written,
    descend,
    prefix_activations,
)
from continual_learning.strategies.methods.ttt.neuron_gate import tfidf, top_neurons
from continual_learning.strategies.methods.ttt.start import chosen_start
from continual_learning.text.chunking import sentences
from continual_learning.training.examples import Item, answer_ids, make_item
from continual_learning.training.gradient_descent import StepCallback
from continual_learning.training.questions import Fragment, ask
from continual_learning.training.stopwatch import Stopwatch


@dataclass(frozen=True)
class LearnedPassage:
    """The weights of one passage and what is known about them."""

    deltas: dict[int, dict[str, Tensor]]
    """`branch_deltas` by block."""
    parts: tuple[Part, ...]
    """The parts that can be recited."""
    loss: float
    """Of the learned tokens at the end, in nats per token."""
    steps: int
    recited: int
    """How many of the parts the stored weights recite word for word."""
    late: bool
    """Whether a time limit ended learning."""
    probe_tokens: int
    """Number of tokens of the held-out cloze answers."""
    right_before: int
    right_after: int
    """How many of these tokens are right: before learning, and with the passage's weights as they are stored."""


def blocks_with_branches(base: BaseModel, config: TTTConfig) -> range:
    """Return the blocks that get a Dual MLP: the last one, unless the settings say otherwise.

    Raises ValueError if the settings name blocks that the base does not have.
    """
    count = base.block_count
    first = count - 1 if config.first_block is None else config.first_block
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
    rarity: Rarity
    watch: Stopwatch


@dataclass(frozen=True)
class _Prepared:
    """A passage before gradient descent: its training examples, and the parts it is probed for."""

    passage: Passage
    parts: list[Part]
    items: list[Item]
    rng: random.Random
    asked: list[int]
    """Parts that the probes ask for."""
    found: list[int]
    """Those of them that the words of the probes find."""


def learn_passages(
    lesson: Lesson, passages: Sequence[Passage], deadline: float = math.inf, on_step: StepCallback | None = None
) -> list[LearnedPassage]:
    """Write each passage into new branches. Neither the base nor anything else changes.

    Past ``deadline`` (`time.perf_counter`) each takes one more step.
    """
    base, config, watch = lesson.base, lesson.config, lesson.watch
    with watch("parts"):
        prepared = [_prepare(lesson, passage) for passage in passages]
    first_block = first_branch(base, config)
    with watch("prefix activations"):
        prefix = prefix_activations(base, [item for one in prepared for item in one.items], first_block)
    loop = inner_loop(config)
    learned = []
    for number, one in enumerate(prepared):
        own, prefix = prefix[: len(one.items)], prefix[len(one.items) :]
        with watch("choose neurons"):
            branches = new_branches(base, one.items[: len(one.parts)], own, config, lesson.calibration, one.rng)
        job = Job(branches, one.passage.alpha, one.items, own, len(one.parts), base.stop_ids)
        with watch("gradient descent"):
            report = None if on_step is None else _share(on_step, number, len(prepared))
            written = descend(base, job, loop, one.rng, deadline, report)
        learned.append(_finished(one, branches, written))
    return learned


def inner_loop(config: TTTConfig) -> InnerLoop:
    """Return the inner loop of these settings."""
    return InnerLoop(config.learning_rate, config.mini_batch_tokens, config.gradient_steps, config.passes)


def first_branch(base: BaseModel, config: TTTConfig) -> int:
    """The first block with a Dual MLP: that of the start, if there is one."""
    start = chosen_start(config, base)
    return (blocks_with_branches(base, config) if start is None else start.blocks).start


def _prepare(lesson: Lesson, passage: Passage) -> _Prepared:
    rng = random.Random(passage.seed)
    parts = parts_of(lesson.base, passage, lesson.config)
    items = [part_item(lesson.base, passage.title, number, part) for number, part in enumerate(parts)]
    items += text_items(lesson.base, passage.text)
    asked, found = part_probes(passage, parts, lesson.rarity, lesson.config, rng)
    return _Prepared(passage, parts, items, rng, asked, found)


def _share(on_step: StepCallback, number: int, count: int) -> StepCallback:
    """Count the steps of one of several passages among the steps of all."""

    def report(step: int, steps: int, loss: float) -> None:
        on_step(number * steps + step, count * steps, loss)

    return report


def _finished(one: _Prepared, branches: Mapping[int, NeuronBranch], written: Written) -> LearnedPassage:
    """Return what is stored, and how it then does."""
    deltas = {block: branch_deltas(branch) for block, branch in branches.items()}
    learned = [len(item.ids) - item.prompt_tokens for item in one.items]
    found = sum(learned[n] for n in one.found)
    return LearnedPassage(
        deltas,
        tuple(one.parts),
        written.loss,
        written.steps,
        recited=sum(not wrong for wrong in written.wrong[: len(one.parts)]),
        late=written.late,
        probe_tokens=sum(learned[n] for n in one.asked),
        right_before=found - sum(len(written.before[n]) for n in one.found),
        right_after=found - sum(len(written.wrong[n]) for n in one.found),
    )


def parts_of(base: BaseModel, passage: Passage, config: TTTConfig) -> list[Part]:
    """Return the parts of a passage that can be recited."""
    return cut_parts(passage.text, lambda t: len(base.encode(t)), config.part_tokens)


def part_item(base: BaseModel, title: str, number: int, part: Part) -> Item:
    """Return an item with the cue of a part, and the part to be learned after it."""
    return make_item(cue_ids(base, title, number), answer_ids(base, part.text))


def text_items(base: BaseModel, text: str) -> list[Item]:
    """The text as it stands, to be learned from its second token on.

    Without it, what is written for the states after the cues makes the text itself a hundred times less likely.
    """
    ids = base.encode(text, add_special_tokens=True)
    return [Item(tuple(ids), 1)] if len(ids) > 1 else []


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
    base: BaseModel,
    items: Sequence[Item],
    prefix: Sequence[Tensor],
    config: TTTConfig,
    calibration: Calibration | None,
    rng: random.Random,
) -> dict[int, NeuronBranch]:
    """Return the initial branches of a passage with these parts: those of the start, if there is one.

    The neurons are those that the parts' tokens access after their cues.
    """
    start = chosen_start(config, base)
    if start is not None:
        return start.branches(base)
    blocks = blocks_with_branches(base, config)
    counts: dict[int, Tensor] = {}
    if calibration or config.selection == "tf":
        with torch.no_grad(), captured_inputs({block: base.mlp(block) for block in blocks}) as read:
            batch = Batch.of(base, items, prefix[: len(items)])
            batch.run(base, blocks.start)
        counts = {block: block_accesses(base, block, read[block][batch.reads_BT]) for block in blocks}
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
        branches[block] = NeuronBranch(parts, chosen_K)
    return branches
