"""Learning passages: choose their neurons, make their study material, descend, repair, round, probe.

A passage's weights depend on the passage, its title, the settings and the base, and on nothing learned
before: that is what makes forgetting exact. Passages that descend in step share no weights; their company moves the
last bits of a sum, and nothing else.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.retrieval.parts import Part, best_window, cue_ids, cut_parts, part_index, part_keys
from continual_learning.retrieval.routing import Rarity
from continual_learning.strategies.methods.ttt.calibration import Calibration, neuron_accesses
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.distillation import SoftStudy, replay_items, soft_targets, with_document
from continual_learning.strategies.methods.ttt.dual_mlp import NeuronBranch, branch_deltas, branch_from_deltas
from continual_learning.strategies.methods.ttt.inner_loop import (
    InnerLoop,
    Job,
    descend,
    descend_together,
    dual_mlps,
    prefix_activations,
    tokens_right,
)
from continual_learning.strategies.methods.ttt.neuron_gate import tfidf, top_neurons
from continual_learning.strategies.methods.ttt.repair import repair
from continual_learning.strategies.methods.ttt.start import load_start
from continual_learning.text.chunking import sentences
from continual_learning.training.examples import (
    Item,
    answer_ids,
    borrowed_items,
    copies,
    make_item,
    question_ids,
    study_items,
)
from continual_learning.training.external import BorrowedStudy, study_from_file, study_from_model
from continual_learning.training.gradient_descent import Descent, StepCallback
from continual_learning.training.questions import Fragment, StudyQuestion, ask
from continual_learning.training.stopwatch import Stopwatch

# Deltas are kept in half precision: they are small, and so is a memory.
STORED_TYPE = torch.float16


@dataclass(frozen=True)
class LearnedPassage:
    """The weights of one passage and what is known about them."""

    deltas: dict[int, dict[str, Tensor]]
    """By block: `branch_deltas`."""
    parts: tuple[Part, ...]
    """What can be recited of it."""
    descent: Descent
    recited: int | None
    """How many of its parts the kept weights recite word for word; None where it has no parts."""
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


@dataclass(frozen=True)
class Passage:
    """A passage to learn."""

    text: str
    title: str
    alpha: float
    seed: str


@dataclass(frozen=True)
class _Prepared:
    """A passage before gradient descent: its branches, what they study, and what they are asked after."""

    passage: Passage
    rng: random.Random
    branches: dict[int, NeuronBranch]
    parts: list[Part]
    items: list[Item]
    """The parts first."""
    prefix: list[Tensor]
    probes: list[Item]
    probe_tokens: int
    probe_prefix: list[Tensor]
    soft: SoftStudy | None
    rivals_S: Tensor | None

    @property
    def first_block(self) -> int:
        return min(self.branches)


def learn_passages(
    base: BaseModel,
    passages: Sequence[Passage],
    config: TTTConfig,
    calibration: Calibration | None,
    background: Sequence[str],
    rarity: Rarity,
    deadline: float,
    watch: Stopwatch,
    on_step: StepCallback | None = None,
) -> list[LearnedPassage]:
    """Write each passage into fresh branches. Neither the base nor anything else changes.

    Several descend in step, so that their mini-batches are one; what teachers say is studied one by one.
    """
    prepared = [_prepare(base, passage, config, calibration, background, rarity, watch) for passage in passages]
    loop = InnerLoop(
        config.optimizer,
        config.learning_rate,
        config.mini_batch_tokens,
        config.gradient_steps,
        config.passes,
        config.clip_norm,
        config.warmup,
        layer_rate_decay=config.layer_rate_decay,
    )
    jobs = [
        Job(p.branches, p.passage.alpha, p.items, p.prefix, loop.make_optimizer(p.branches), p.rng,
            p.rivals_S)
        for p in prepared
    ]  # fmt: skip
    with watch("gradient descent"):
        if len(jobs) > 1 and all(p.soft is None for p in prepared):
            descents = descend_together(base, jobs, loop, deadline, on_step)
        else:
            descents = [
                descend(base, j.branches, j.alpha, j.items, j.prefix, loop, j.rng, j.rivals_S, deadline, on_step,
                        p.soft, j.optimizer)
                for p, j in zip(prepared, jobs, strict=True)
            ]  # fmt: skip
    learned = []
    for done, job, descent in zip(prepared, jobs, descents, strict=True):
        with watch("repair"):
            last = None if on_step is None else partial(_repair_step, on_step, descent)
            count = len(done.parts)
            mended = repair(base, job, count, STORED_TYPE, loop, config.repair_rounds, done.soft, deadline, last)
        with watch("probes"):
            descent = replace(descent, tokens=descent.tokens + mended.tokens)
            learned.append(_finished(base, done, descent, mended.wrong))
    return learned


def _prepare(
    base: BaseModel,
    passage: Passage,
    config: TTTConfig,
    calibration: Calibration | None,
    background: Sequence[str],
    rarity: Rarity,
    watch: Stopwatch,
) -> _Prepared:
    rng = random.Random(passage.seed)
    text, title = passage.text, passage.title if config.title_on_passages else ""
    whole = f"{title}\n{text}" if title else text
    with watch("choose neurons"):
        branches = new_branches(base, base.encode(whole), config, calibration, rng)
        first_block = min(branches)
    with watch("prefix activations"):
        parts: list[Part] = []
        fragments: list[Fragment] = []
        if config.address == "part":
            parts = list(parts_of(base, passage, config))
            items = [part_item(base, title, number, part) for number, part in enumerate(parts)]
            items += copies(base, text, title, config.study_material)
        else:
            fragments = config.study_material.fragments(base, text)
            items = study_items(base, text, title, fragments, config.study_material, rng)
        items += borrowed_items(base, borrowed_study(config, text, passage.title, rng), title)
        prefix = prefix_activations(base, items, first_block)
        if config.address == "part":
            asked, found = part_probes(text, parts, title, rarity, config, rng)
            probe_tokens = sum(len(items[n].ids) - items[n].prompt_tokens for n in asked)
            probes, probe_prefix = [items[n] for n in found], [prefix[n] for n in found]
        else:
            probes = probe_items(base, fragments, title, config.probes, rng)
            probe_tokens = sum(len(probe.ids) - probe.prompt_tokens for probe in probes)
            probe_prefix = prefix_activations(base, probes, first_block)
    with watch("teachers"):
        soft = soft_study(base, whole, items, first_block, config, background)
    taught = soft.tokens if soft else frozenset()
    rivals_S = rival_tokens(base, items, background, taught) if config.rivals == "background" else None
    return _Prepared(passage, rng, branches, parts, items, prefix, probes, probe_tokens, probe_prefix, soft, rivals_S)


def _finished(base: BaseModel, done: _Prepared, descent: Descent, wrong: Sequence[Sequence[int]]) -> LearnedPassage:
    """What is kept, in the type in which it is kept, and what it does then; ``wrong`` are the parts' wrong tokens."""
    deltas = {b: branch_deltas(branch, mlp_parts(base.mlp(b)), STORED_TYPE) for b, branch in done.branches.items()}
    before = sum(tokens_right(base, done.probes, done.probe_prefix, done.first_block))
    if done.parts:
        asked = [number for number, part in enumerate(done.items[: len(done.parts)]) if part in done.probes]
        after = sum(len(probe.ids) - probe.prompt_tokens for probe in done.probes) - sum(len(wrong[n]) for n in asked)
    else:
        kept = {b: branch_from_deltas(mlp_parts(base.mlp(b)), d) for b, d in deltas.items()}
        with base.patched(dual_mlps(base, kept, done.passage.alpha)):
            after = sum(tokens_right(base, done.probes, done.probe_prefix, done.first_block))
    recited = sum(not chosen for chosen in wrong) if done.parts else None
    return LearnedPassage(deltas, tuple(done.parts), descent, recited, done.probe_tokens, before, after)


def _repair_step(on_step: StepCallback, descent: Descent, step: int, steps: int, loss: float) -> None:
    """How many steps repairing takes is not known beforehand: progress stays at the end of the planned ones."""
    on_step(descent.planned_steps, descent.planned_steps, loss)


def borrowed_study(config: TTTConfig, text: str, title: str, rng: random.Random) -> BorrowedStudy:
    """What other models wrote about a passage, from the file and the model that the settings name."""
    found = BorrowedStudy()
    if config.study_file is not None:
        found = study_from_file(config.study_file, text)
    if config.study_model is not None:
        asked = study_from_model(config.study_model, config.study_model_url, text, title)
        found = BorrowedStudy(found.questions + asked.questions, found.statements + asked.statements)
    if len(found.statements) > config.study_statements:
        return BorrowedStudy(found.questions, tuple(rng.sample(found.statements, config.study_statements)))
    return found


def soft_study(
    base: BaseModel,
    document: str,
    items: Sequence[Item],
    first_block: int,
    config: TTTConfig,
    background: Sequence[str],
) -> SoftStudy | None:
    """What teachers say of the items and of ordinary text; None where neither is wanted."""
    if not (config.distill_weight or config.replay_weight):
        return None
    asked: Sequence[Item | None] = (
        with_document(base, items, document) if config.distill_weight else [None] * len(items)
    )
    texts = background[: config.replay_texts] if config.replay_weight else []
    replay = replay_items(base, texts, config.replay_tokens)
    return SoftStudy(
        soft_targets(base, asked, config.soft_top_k),
        config.distill_weight,
        replay,
        prefix_activations(base, replay, first_block),
        [t for t in soft_targets(base, replay, config.soft_top_k) if t is not None],
        config.replay_weight,
    )


def rival_tokens(
    base: BaseModel, items: Sequence[Item], background: Sequence[str], taught: Set[int] = frozenset()
) -> Tensor:
    """Tokens of the study material and of the background texts, those that teachers name (``taught``), and those that
    end an answer: int64 [S], rising."""

    def of_background() -> frozenset[int]:
        return frozenset(token for text in background for token in base.encode(text))

    ordinary = base.remember(("background tokens", tuple(background)), of_background)
    learned = {token for item in items for token in item.ids}
    return torch.tensor(sorted(ordinary | learned | taught | base.stop_ids), device=base.device)


def parts_of(base: BaseModel, passage: Passage, config: TTTConfig) -> tuple[Part, ...]:
    """What can be recited of a passage; nothing where questions address it."""
    if config.address == "question":
        return ()
    return tuple(cut_parts(passage.text, lambda t: len(base.encode(t)), config.part_tokens))


def part_item(base: BaseModel, title: str, number: int, part: Part) -> Item:
    """The cue of a part, and the part to be learned after it."""
    return make_item(cue_ids(base, title, number), answer_ids(base, part.text))


def part_probes(
    text: str, parts: Sequence[Part], title: str, rarity: Rarity, config: TTTConfig, rng: random.Random
) -> tuple[list[int], list[int]]:
    """Held-out cloze questions: which parts were asked for, and which of these the questions find."""
    whole = sentences(text)
    keys = part_keys(part_index(parts))
    asked = sorted(rng.sample(range(len(parts)), min(config.probes, len(parts))))
    found = []
    for number in asked:
        part = parts[number]
        cloze = ask(Fragment(part.text, whole[part.sentence], part.text), title, rng)
        if number in best_window(keys, cloze.question, rarity, config.quote_tokens):
            found.append(number)
    return asked, found


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


def new_branches(
    base: BaseModel, ids: Sequence[int], config: TTTConfig, calibration: Calibration | None, rng: random.Random
) -> dict[int, NeuronBranch]:
    """The branches of a passage with these tokens before it is learned: those of the start, if there is one."""
    if config.start is not None:
        return load_start(config.start, base).branches(base)
    blocks = blocks_with_branches(base, config)
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
