"""Learning one passage: choose its neurons, make its study material, descend, round, probe.

A passage's weights depend on the passage, its title, the settings and the base, and on nothing learned
before: that is what makes forgetting exact.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from continual_learning.base import BaseModel
from continual_learning.families import mlp_parts
from continual_learning.finetuning import Descent, StepCallback
from continual_learning.nn.dual_mlp import NeuronBranch, branch_deltas, branch_from_deltas
from continual_learning.nn.neuron_gate import tfidf, top_neurons
from continual_learning.stopwatch import Stopwatch
from continual_learning.strategies.ttt.calibration import Calibration, neuron_accesses
from continual_learning.strategies.ttt.config import TTTConfig
from continual_learning.strategies.ttt.inner_loop import (
    InnerLoop,
    descend,
    dual_mlps,
    prefix_activations,
    tokens_right,
)
from continual_learning.study import Fragment, StudyQuestion, ask
from continual_learning.study_items import Item, make_item, question_ids, study_items

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
    on_step: StepCallback | None = None,
) -> LearnedPassage:
    """Write one passage into fresh branches. Neither the base nor anything else changes."""
    rng = random.Random(seed)
    blocks = blocks_with_branches(base, config)
    shown_title = title if config.title_on_passages else ""
    material = config.study_material
    fragments = material.fragments(base, text)
    with watch("choose neurons"):
        ids = base.encode(f"{shown_title}\n{text}" if shown_title else text)
        branches = _new_branches(base, ids, blocks, config, calibration, rng)
    with watch("prefix activations"):
        items = study_items(base, text, shown_title, fragments, material, rng)
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


def probe_items(
    base: BaseModel, fragments: Sequence[Fragment], title: str, count: int, rng: random.Random
) -> list[Item]:
    """Held-out cloze questions, each with its fragment up to the asked-for words as the answer."""
    chosen = rng.sample(list(fragments), min(count, len(fragments)))
    items = []
    for asked in (ask(fragment, title, rng) for fragment in chosen):
        items.append(make_item(question_ids(base, asked.question), base.encode(_up_to_answer(asked))))
    return items


def _up_to_answer(asked: StudyQuestion) -> str:
    text = asked.fragment.text
    return text[: text.find(asked.asked_for) + len(asked.asked_for)]


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
            chosen_K = chosen_K[score_I[chosen_K] >= config.gate_threshold * score_I.max()]
        elif config.selection == "tf":
            chosen_K = top_neurons(counts[block].double(), wanted)
        else:
            chosen_K = torch.tensor(sorted(rng.sample(range(size), wanted)))
        branches[block] = NeuronBranch(parts, chosen_K, config.train)
    return branches
