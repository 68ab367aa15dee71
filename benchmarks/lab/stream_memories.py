"""The memories for a stream of documents that stream_variants.py compares.

All learn the same lesson with the same mini-batches; they differ in which weights change and in which are open for a
question. Only one of them, separate neurons for each document, is what the product does: the rest exist
only here.

    OwnNeurons     per document a branch of its top t neurons, opened by routing (ttt)
    Merged         the same branches, all open at once: summed or averaged
    OwnAdapters    per document a low-rank delta, opened by routing
    SharedNeurons  one branch that every document continues training: all neurons, or those chosen for it

Shapes: I = neurons of an MLP, K = neurons of a branch, D = hidden size.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from continual_learning.documents import Document
from continual_learning.documents.shipped import background_texts
from continual_learning.io.paths import data_home
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.retrieval.parts import Part, cut_parts
from continual_learning.strategies.baselines._lora import LoRA
from continual_learning.strategies.methods.ttt.calibration import Calibration, calibrate, neuron_accesses
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.dual_mlp import NeuronBranch, branch_deltas, branch_from_deltas
from continual_learning.strategies.methods.ttt.inner_loop import (
    InnerLoop,
    dual_mlps,
    inner_batches,
    mini_batch_loss,
    prefix_activations,
)
from continual_learning.strategies.methods.ttt.learning import blocks_with_branches, part_item, rival_tokens
from continual_learning.strategies.methods.ttt.neuron_gate import tfidf, top_neurons
from continual_learning.training import gradient_descent
from continual_learning.training.examples import Item
from continual_learning.training.gradient_descent import adamw, padded_tokens
from continual_learning.types import QuestionAnswer

STORED_TYPE = torch.float16
Deltas = Mapping[str, Tensor]
"""What the neurons of one block learned: see `ttt.dual_mlp.branch_deltas`."""
Studied = tuple[Item, Tensor]
"""An example and the input [T, D] of the first block that learns."""


@dataclass(frozen=True)
class Lesson:
    """A document, its training examples and its mini-batches: the same for every memory."""

    document: Document
    questions: tuple[QuestionAnswer, ...]
    parts: tuple[Part, ...]
    studied: tuple[Studied, ...]
    batches: tuple[tuple[int, ...], ...]
    """Indices of examples, one tuple per step of gradient descent."""
    accesses: Mapping[int, Tensor]
    """By block: how often the document accesses each neuron, int64 [I]."""
    seconds: float
    """Seconds to prepare it: the frozen prefix, the accesses."""


@dataclass(frozen=True)
class School:
    """What all lessons and memories share."""

    base: BaseModel
    config: TTTConfig
    blocks: range
    calibration: Calibration
    background: tuple[str, ...]

    @classmethod
    def of(cls, base: BaseModel, config: TTTConfig) -> School:
        """Set up with the settings of ttt."""
        background = background_texts()
        blocks = blocks_with_branches(base, config)
        folder = data_home() / "calibration"
        return cls(
            base, config, blocks, calibrate(base, background, blocks, config.access_share, folder), tuple(background)
        )

    def lesson(self, document: Document, questions: Sequence[QuestionAnswer] = ()) -> Lesson:
        """The parts of a document after their cues, as ttt learns them."""
        started = time.perf_counter()
        base, config = self.base, self.config
        parts = cut_parts(document.text, lambda t: len(base.encode(t)), config.part_tokens)
        items = [part_item(base, document.title, number, part) for number, part in enumerate(parts)]
        prefix = prefix_activations(base, items, self.blocks.start)
        loop = InnerLoop("adamw", 0.0, config.mini_batch_tokens, 1, config.passes, config.clip_norm, config.warmup)
        batches = inner_batches([len(item.ids) for item in items], loop, random.Random(document.sha256))
        ids = base.encode(f"{document.title}\n{document.text}")
        return Lesson(
            document,
            tuple(questions),
            tuple(parts),
            tuple(zip(items, prefix, strict=True)),
            tuple(map(tuple, batches)),
            neuron_accesses(base, ids, self.blocks, config.access_share),
            time.perf_counter() - started,
        )

    def chosen(self, lesson: Lesson, block: int, count: int | None, taken: frozenset[int] = frozenset()) -> Tensor:
        """The ``count`` neurons of a block that TF-IDF ranks first for a document, without those ``taken``; None: all.

        int64 [K], in ascending order.
        """
        score_I = tfidf(lesson.accesses[block], self.calibration.document_frequency[block], self.calibration.sequences)
        score_I[sorted(taken)] = -1.0
        free = len(score_I) - len(taken)
        return top_neurons(score_I, free if count is None else min(count, free))

    def study(
        self, weights: Sequence[Tensor], lesson: Lesson, rate: float, earlier: Sequence[Lesson] = ()
    ) -> gradient_descent.Descent:
        """Take a step on each mini-batch of the lesson, with the weights in place; the weights change.

        With ``earlier`` each mini-batch has as many examples of those lessons as of its own.
        """
        batches = study_batches(lesson, earlier)
        items = [item for one in (lesson, *earlier) for item, _ in one.studied]
        rivals_S = rival_tokens(self.base, items, self.background)

        def loss_of(batch: Sequence[Studied]) -> Tensor:
            items, prefix = zip(*batch, strict=True)
            return mini_batch_loss(self.base, items, prefix, self.blocks.start, rivals_S)

        return gradient_descent.descend(
            list(weights),
            adamw(weights, rate),
            batches,
            loss_of,
            lambda batch: padded_tokens([item for item, _ in batch]),
            gradient_descent.Schedule(rate, self.config.clip_norm, self.config.warmup),
        )


def study_batches(lesson: Lesson, earlier: Sequence[Lesson]) -> list[list[Studied]]:
    """The mini-batches of a lesson, each with as many examples of earlier ones, every document equally likely."""
    rng = random.Random(f"replay:{lesson.document.sha256}")
    batches = []
    for numbers in lesson.batches:
        replayed = [rng.choice(rng.choice(earlier).studied) for _ in numbers] if earlier else []
        batches.append([*(lesson.studied[i] for i in numbers), *replayed])
    return batches


# -- what neurons learned, as tensors ------------------------------------------------------------------


def of_neurons(deltas: Deltas | None, neurons_K: Tensor, hidden_size: int) -> dict[str, Tensor]:
    """What these neurons learned, in this order: zeros for those that are not among ``deltas``."""
    nothing_KD = torch.zeros(len(neurons_K), hidden_size, dtype=STORED_TYPE)
    found = {"neurons": neurons_K.to(torch.int32)}
    if deltas is None:
        return {**found, **{name: nothing_KD for name in ("up", "gate", "down")}}
    row_of = {neuron: row for row, neuron in enumerate(deltas["neurons"].tolist())}
    known = [k for k, neuron in enumerate(neurons_K.tolist()) if neuron in row_of]
    rows = [row_of[int(neurons_K[k])] for k in known]
    for name in deltas.keys() - {"neurons"}:
        found[name] = nothing_KD.clone()
        found[name][known] = deltas[name][rows]
    return found


def without_neurons(deltas: Deltas, neurons_K: Tensor) -> dict[str, Tensor]:
    """What all other neurons learned."""
    kept_K = ~torch.isin(deltas["neurons"].long(), neurons_K.long())
    return {name: tensor[kept_K] for name, tensor in deltas.items()}


def joined(many: Sequence[Deltas], scale: float = 1.0) -> dict[str, Tensor]:
    """One branch that adds up the outputs of these, each times ``scale``; copies of a neuron are concatenated."""
    whole = {name: torch.cat([deltas[name] for deltas in many]) for name in many[0]}
    return {**whole, "down": whole["down"] * scale}


# -- memories ------------------------------------------------------------------------------------------


class Memory(ABC):
    """Learns lessons one after another."""

    always_open = False
    """Whether its weights are always in use; otherwise a question opens those of the document that it is about."""

    def __init__(self, school: School, rate: float):
        self.school, self.rate = school, rate

    @abstractmethod
    def learn(self, lesson: Lesson) -> None:
        """Learn one more document."""

    @abstractmethod
    def opened(self, document_id: str | None) -> AbstractContextManager[object]:
        """The base with the weights that are open for a question about this document, or about none of them."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Bytes of all weights, and of anything else that is kept for further learning."""


class OwnNeurons(Memory):
    """A separate branch for each document: learned from the base alone, opened by routing."""

    def __init__(self, school: School, rate: float, count: int | None):
        super().__init__(school, rate)
        self.count = count
        self.deltas: dict[str, dict[int, Deltas]] = {}

    def learn(self, lesson: Lesson) -> None:
        """Learn it independently of everything learned before."""
        base = self.school.base
        branches = {
            block: NeuronBranch(mlp_parts(base.mlp(block)), self.school.chosen(lesson, block, self.count))
            for block in self.school.blocks
        }
        with base.patched(dual_mlps(base, branches, 0.0)):
            self.school.study(learned_weights(branches), lesson, self.rate)
        self.deltas[lesson.document.id] = kept(base, branches)

    def opened(self, document_id: str | None) -> AbstractContextManager[object]:
        """The base with the document's own branch."""
        base = self.school.base
        if document_id is None:
            return nullcontext()
        return base.patched(dual_mlps(base, frozen_branches(base, self.deltas[document_id]), 0.0))

    @property
    def bytes(self) -> int:
        """Bytes of all branches."""
        return sum(size(by_block) for by_block in self.deltas.values())


class Merged(Memory):
    """The branches that another memory learned, all open for every question."""

    always_open = True

    def __init__(self, own: OwnNeurons, mean: bool):
        super().__init__(own.school, own.rate)
        self.own, self.mean = own, mean

    def learn(self, lesson: Lesson) -> None:
        """The other memory learns; merging costs nothing."""

    def opened(self, document_id: str | None) -> AbstractContextManager[object]:
        """The base with all branches, added up or averaged."""
        base, many = self.school.base, list(self.own.deltas.values())
        scale = 1.0 / len(many) if self.mean else 1.0
        merged = {block: joined([deltas[block] for deltas in many], scale) for block in self.school.blocks}
        return base.patched(dual_mlps(base, frozen_branches(base, merged), 0.0))

    @property
    def bytes(self) -> int:
        """Bytes of all branches: they have different neurons, so a merged one is no smaller."""
        return self.own.bytes


class OwnAdapters(Memory):
    """A separate LoRA adapter for each document, in the MLPs of the same blocks, opened by routing."""

    def __init__(self, school: School, rate: float, rank: int):
        super().__init__(school, rate)
        base = school.base
        paths = [
            f"{base.mlp_path(block)}.{name}"
            for block in school.blocks
            for name, module in base.mlp(block).named_modules()
            if isinstance(module, torch.nn.Linear)
        ]
        self.adapter = LoRA(rank, 2.0 * rank, tuple(paths))
        self.kept: dict[str, dict[str, Tensor]] = {}

    def learn(self, lesson: Lesson) -> None:
        """Learn it independently of everything learned before."""
        with self.adapter.installed(self.school.base, {}, lesson.document.sha256) as weights:
            self.school.study(list(weights.values()), lesson, self.rate)
        self.kept[lesson.document.id] = self.adapter.kept(self.school.base, weights)

    def opened(self, document_id: str | None) -> AbstractContextManager[object]:
        """The base with the document's own adapter."""
        if document_id is None:
            return nullcontext()
        return self.adapter.installed(self.school.base, self.kept[document_id], "")

    @property
    def bytes(self) -> int:
        """Bytes of all adapters."""
        return sum(size({0: tensors}) for tensors in self.kept.values())


Choice = Literal["own", "first", "free"]
"""Which neurons of a shared memory a document trains: its own top ones, even if already trained; the top ones of the
first document; or its own top ones among those that no document has trained yet."""


class SharedNeurons(Memory):
    """One branch for all documents, open for every question; each document continues with what the last one left.

    With ``count`` neurons by ``choice`` it is Sparse Memory Finetuning (arXiv 2510.15103) on neurons, with None it is
    dense sequential learning; ``replay`` learns examples of earlier documents again along with the new ones.
    """

    always_open = True

    def __init__(self, school: School, rate: float, count: int | None, choice: Choice = "own", replay: bool = False):
        super().__init__(school, rate)
        self.count, self.choice, self.replay = count, choice, replay
        self.deltas: dict[int, Deltas] = {}
        self.lessons: list[Lesson] = []

    def learn(self, lesson: Lesson) -> None:
        """The chosen neurons learn; the rest stay in place."""
        base = self.school.base
        rest: dict[int, Deltas] = {}
        branches = {}
        for block in self.school.blocks:
            parts, known, chosen_K = mlp_parts(base.mlp(block)), self.deltas.get(block), self._chosen(lesson, block)
            branches[block] = branch_from_deltas(parts, of_neurons(known, chosen_K, parts.hidden_size))
            branches[block].requires_grad_(True)
            if known is not None:
                rest[block] = without_neurons(known, chosen_K)
        earlier = self.lessons if self.replay else []
        with (
            base.patched(dual_mlps(base, frozen_branches(base, rest), 0.0)),
            base.patched(dual_mlps(base, branches, 0.0)),
        ):
            self.school.study(learned_weights(branches), lesson, self.rate, earlier)
        learned = kept(base, branches)
        self.deltas = {b: joined([*([rest[b]] if b in rest else []), learned[b]]) for b in self.school.blocks}
        self.lessons.append(lesson)

    def opened(self, document_id: str | None) -> AbstractContextManager[object]:
        """The base with everything that was learned."""
        base = self.school.base
        return base.patched(dual_mlps(base, frozen_branches(base, self.deltas), 0.0))

    @property
    def bytes(self) -> int:
        """Bytes of the branch, and of the texts if they are learned again."""
        texts = [lesson.document.text for lesson in self.lessons] if self.replay else []
        return size(self.deltas) + sum(len(text.encode()) for text in texts)

    def _chosen(self, lesson: Lesson, block: int) -> Tensor:
        if self.choice == "first" and block in self.deltas:
            return self.deltas[block]["neurons"].long()
        taken = frozenset(self.deltas[block]["neurons"].tolist() if block in self.deltas else ())
        return self.school.chosen(lesson, block, self.count, taken if self.choice == "free" else frozenset())


def learned_weights(branches: Mapping[int, NeuronBranch]) -> list[Tensor]:
    """The weights of all branches that learn."""
    return [weight for branch in branches.values() for weight in branch.learned().values()]


def kept(base: BaseModel, branches: Mapping[int, NeuronBranch]) -> dict[int, Deltas]:
    """What is kept of branches, in half precision. The base must be unpatched again."""
    return {b: branch_deltas(branch, mlp_parts(base.mlp(b)), STORED_TYPE) for b, branch in branches.items()}


def frozen_branches(base: BaseModel, deltas: Mapping[int, Deltas]) -> dict[int, NeuronBranch]:
    """Frozen branches to answer with; none for a block in which nothing was learned."""
    return {b: branch_from_deltas(mlp_parts(base.mlp(b)), one) for b, one in deltas.items() if len(one["neurons"])}


def size(deltas: Mapping[int, Deltas]) -> int:
    """Bytes of all tensors."""
    return sum(t.numel() * t.element_size() for tensors in deltas.values() for t in tensors.values())
