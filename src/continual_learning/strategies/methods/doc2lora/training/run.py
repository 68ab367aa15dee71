"""The training loop of a document hypernetwork.

First a linear generator's keys are trained alone to open the right tokens (`retrieval`). Then, in each step, some
documents become adapters, and the base with these in place answers the documents' questions, and some that the
documents say nothing about, without the documents in its prompt. Losses are averaged over tokens, then questions, then
documents (Doc-to-LoRA, arXiv 2602.15902, section 3). The base is frozen; its activations on documents and prompts, and
the teacher's answers, are computed once.

A run is a folder: ``checkpoint.safetensors`` (replaced as a whole), ``curve.json``, ``kept-…`` with what was computed
once (deleted when the run is finished), and at the end the hypernetwork itself. Started again with the same settings, a
run resumes from its checkpoint and ends with the same weights as one that was never stopped: everything random is drawn
from the seed and the step.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from continual_learning.errors import DivergedError, InputError, MismatchError
from continual_learning.io.checkpointing import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from continual_learning.io.files import make_folder, write_atomic
from continual_learning.io.tensor_cache import Kept
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.doc2lora.checkpoint import load_hypernetwork, save_hypernetwork
from continual_learning.strategies.methods.doc2lora.context import Chunks, chat_affixes, document_chunks, named_affixes
from continual_learning.strategies.methods.doc2lora.linear import LinearHypernetwork
from continual_learning.strategies.methods.doc2lora.network import DocumentHypernetwork
from continual_learning.strategies.methods.doc2lora.training.data import TrainingData, drawn, training_data
from continual_learning.strategies.methods.doc2lora.training.devices import Devices, devices
from continual_learning.strategies.methods.doc2lora.training.networks import initial_network
from continual_learning.strategies.methods.doc2lora.training.probe import context_sensitivity
from continual_learning.strategies.methods.doc2lora.training.retrieval import Queries, queries, retrieval_loss
from continual_learning.strategies.methods.doc2lora.training.settings import (
    QUESTIONS_PER_DOCUMENT,
    HypernetworkTraining,
)
from continual_learning.strategies.methods.doc2lora.training.student import (
    Group,
    Reading,
    States,
    adapters,
    candidates,
    joined,
    question_losses,
    row_adapter,
)
from continual_learning.strategies.methods.doc2lora.training.targets import Target, irrelevant_target, relevant_target
from continual_learning.training.schedule import warm_up_cosine
from continual_learning.types import Progress, ProgressCallback

Context = list[tuple[int, int]]
"""Documents that are read as one: the place in the step and the number of each."""
CURVE_FILE = "curve.json"
_LINEAR_RATE, _PERCEIVER_RATE = 3e-3, 4e-5
_RETRIEVAL_RATE = 5e-3  # learning rate of the keys' stage, relative to each weight's size
_SINGLE_CHUNK_SHARE = 0.7  # share of the steps, from the first on, in which every document is one chunk
_DRAWN_TOKENS = 4096  # tokens that a step draws from the vocabulary, to represent in the loss all that no text has
_IRRELEVANT_POOL = 24  # documents that irrelevant questions come from; the base answers each question once
_KEPT_BYTES = 8e9  # limit, in memory and until the run is finished on disk, of what is computed once
_LARGEST_GRADIENT = 1.0  # for the Perceiver; the linear generator's weights differ in size by orders of magnitude


@dataclass(frozen=True)
class TrainingResult:
    """A finished run."""

    folder: Path
    """Folder of the hypernetwork, for the setting ``hypernetwork`` of the strategy doc2lora."""
    network: DocumentHypernetwork
    steps: int
    curve: list[dict[str, Any]]
    """Points of the validation curve, oldest first."""
    seconds: float
    """Duration of this session alone."""


def train_hypernetwork(
    base: BaseModel,
    settings: HypernetworkTraining,
    folder: str | Path,
    progress: ProgressCallback | None = None,
    stop_after: int | None = None,
) -> TrainingResult:
    """Train, or resume training, in a folder.

    ``stop_after`` ends this session after that many steps, with a checkpoint; calling again resumes the run. An
    interrupt also writes a checkpoint, and is then passed on. Raises MismatchError for a folder of another run,
    DivergedError if the loss is not finite, InputError for data that cannot be used.
    """
    started = time.perf_counter()
    run = _Run(base, settings, Path(folder), devices(base.device.type == "cpu"), progress)
    run.resume()
    last = settings.all_steps if stop_after is None else min(settings.all_steps, run.step + stop_after)
    try:
        while run.step < last:
            run.advance()
            if run.step % settings.validate_every == 0 or run.step in (settings.first_steps, settings.all_steps):
                run.validate()
            if run.step % settings.checkpoint_every == 0 and run.step < last:
                run.save()
    except KeyboardInterrupt:
        run.save()
        raise KeyboardInterrupt(f"the run is kept at step {run.step}: the same command resumes from there") from None
    run.save()
    if run.devices.main:
        save_hypernetwork(copy.deepcopy(run.network).half(), run.folder)
    if run.step == settings.all_steps:
        run.forget()
    run.devices.wait()
    return TrainingResult(run.folder, run.network, run.step, run.curve, time.perf_counter() - started)


class _Run:
    def __init__(
        self,
        base: BaseModel,
        settings: HypernetworkTraining,
        folder: Path,
        devices_: Devices,
        progress: ProgressCallback | None,
    ):
        self.base, self.settings, self.folder, self.devices = base, settings, folder, devices_
        self.data: TrainingData = training_data(settings)
        self.network = initial_network(base, settings)
        if settings.start is not None:
            self.network.load_state_dict(_started(settings.start, self.network).state_dict())
        self.step = 0
        self.curve: list[dict[str, Any]] = []
        default = _LINEAR_RATE if settings.generator == "linear" else _PERCEIVER_RATE
        self._rate = settings.rate or default
        groups = self.network.parameter_groups(1.0)
        self._sizes = [group["lr"] for group in groups]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        self._progress = progress if devices_.main else None
        mark = hashlib.sha256(json.dumps(self._identity(), sort_keys=True).encode()).hexdigest()[:16]
        self._kept = Kept(folder / f"kept-{mark}-{devices_.rank}", _KEPT_BYTES)
        self._states = States(base, self.network.config.first_block, self._kept)
        affixes = self.network.config.affixes
        self._affixes = named_affixes(base, *affixes) if affixes else chat_affixes(base)
        self._longest = 0
        self._loss = math.nan
        self._read: dict[str, Reading] = {}  # of this step
        self._asked = 0  # questions about a step's own documents
        self._untaught = 0  # consecutive documents that had none

    def resume(self) -> None:
        """Resume from the folder's checkpoint, if there is one."""
        found = load_checkpoint(self.folder)
        if found is None:
            return
        identity = self._identity()
        if found.facts["identity"] != identity:
            keys = [k for k, v in identity.items() if found.facts["identity"].get(k) != v]
            raise MismatchError(
                f"{self.folder}: holds a run with other settings ({', '.join(keys)}); expected the same ones to "
                "resume it: give them again, or choose another folder"
            )
        self.step, self.curve, self._longest = found.facts["step"], found.facts["curve"], found.facts["longest"]
        weights = {n.removeprefix("network."): t for n, t in found.tensors.items() if n.startswith("network.")}
        self.network.load_state_dict(weights)
        state = {n.removeprefix("optimizer."): t for n, t in found.tensors.items() if n.startswith("optimizer.")}
        restore_optimizer(self._optimizer, state)

    def save(self) -> None:
        """Write a checkpoint and the curve."""
        config = self.network.config
        if self._longest:
            self.network.config = replace(config, trained_chunk_tokens=self._longest)
        if not self.devices.main:
            return
        tensors = {f"network.{n}": t for n, t in self.network.state_dict().items()}
        tensors |= {f"optimizer.{n}": t for n, t in optimizer_tensors(self._optimizer).items()}
        facts = {"identity": self._identity(), "step": self.step, "curve": self.curve, "longest": self._longest}
        save_checkpoint(self.folder, tensors, facts)
        make_folder(self.folder)
        write_atomic(self.folder / CURVE_FILE, json.dumps(self.curve, indent=1).encode())

    def forget(self) -> None:
        """Delete what was kept for resuming."""
        self._kept.clear()

    def advance(self) -> None:
        """Take one optimizer step."""
        settings = self.settings
        if self.step == settings.first_steps:
            self._optimizer.state.clear()  # its moments belong to another loss
        if self._retrieving:
            factor = _RETRIEVAL_RATE * warm_up_cosine(self.step, settings.first_steps, settings.warm_up)
        else:
            factor = self._rate * warm_up_cosine(self.step - settings.first_steps, settings.steps, settings.warm_up)
        for group, size in zip(self._optimizer.param_groups, self._sizes, strict=True):
            group["lr"] = size * factor
        numbers = drawn(self.data.train, settings.documents_per_step, self.step, settings.seed)
        self._optimizer.zero_grad()
        self._read.clear()
        self._asked = 0
        mine = self.devices.share(self._contexts(numbers))
        total = 0.0
        if (loss := self._retrieval_loss(mine) if self._retrieving else self._step_loss(mine)) is not None:
            (loss / len(numbers)).backward()
            total = float(loss.detach()) / len(numbers)
        self.devices.sum_gradients(self.network.parameters())
        self._loss = self.devices.sum(total)
        if not math.isfinite(self._loss):
            raise DivergedError(
                f"the loss is {self._loss} at step {self.step}; expected a number: lower the rate, the last checkpoint "
                "is intact"
            )
        asked = self.devices.sum(float(self._asked))
        self._untaught = 0 if asked else self._untaught + len(numbers)
        if self._untaught >= len(self.data.train):
            raise InputError(
                f"none of {len(self.data.train)} documents taught anything: expected a question that fits into the "
                f"base's window of {self.base.window} tokens together with its document and an answer: give shorter "
                "documents (facts_per_document, data)"
            )
        if settings.generator == "perceiver":
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        self._optimizer.step()
        self.step += 1
        if self._progress:
            what = "keys, loss" if self.step <= settings.first_steps else "loss"
            self._progress(Progress("train", self.step, settings.all_steps, f"{what} {self._loss:.3f}"))

    def validate(self) -> None:
        """Add a point to the curve for facts, and one for passages."""
        held = self.data.validation
        for kind in dict.fromkeys(example.kind for example in held):
            examples = [example for example in held if example.kind == kind]
            measured = context_sensitivity(self.base, self.network, examples, max_questions=4)
            self.curve.append({"step": self.step, "kind": kind, "loss": self._loss, **measured.to_json()})
            if self._progress:
                text = f"{kind}: matched {measured.matched:.2f}, mismatched {measured.mismatched:.2f}"
                text += f", none {measured.none:.2f}"
                self._progress(Progress("validate", self.step, self.settings.all_steps, text))

    def _contexts(self, numbers: Sequence[int]) -> list[Context]:
        """Return a step's documents, each with its place in the step: one per context, or several read as one."""
        left = list(enumerate(numbers))
        draw = random.Random(f"{self.settings.seed} {self.step} contexts")
        found: list[Context] = []
        while left:
            most = self.settings.joined_documents if self._single_chunks else 1
            size = most if self._retrieving else draw.randint(1, most)
            found.append(left[:size])
            left = left[size:]
        return found

    def _step_loss(self, contexts: Sequence[Context]) -> torch.Tensor | None:
        """Return the sum over the contexts' documents of their mean losses; None if there is nothing to ask."""
        settings = self.settings
        rows: list[list[Group]] = []
        weights: list[float] = []
        readings: list[Reading] = []
        tokens: set[int] = set()
        for context in contexts:
            row: list[Group] = []
            parts: list[Reading] = []
            for place, number in context:
                draw = random.Random(f"{settings.seed} {self.step} {place}")
                cut = self._cut(number, self._chunk_count(draw))
                parts.append(self._reading(number, cut))
                relevant = self._relevant(number, draw)
                tokens.update(*cut.ids)
                irrelevant = self._irrelevant_targets([n for _, n in context], draw)
                row += [relevant] if relevant else []
                row += [[target] for target in irrelevant]
                for found, weight in ((relevant, 1.0), (irrelevant, settings.irrelevant_weight)):
                    weights += [weight / max(1, len(found))] * len(found)
            if row:
                readings.append(joined(parts) if len(parts) > 1 else parts[0])
                rows.append(row)
        if not rows:
            return None
        weight_Q = torch.tensor(weights, device=self.base.device)
        combined = adapters(self.network, readings)
        adapter = row_adapter(self.network, combined)
        tokens.update(*(target.tokens for row in rows for group in row for target in group))
        draw = random.Random(f"{settings.seed} {self.step} drawn")
        among = candidates(self.base, tokens, _DRAWN_TOKENS, draw)
        loss = (question_losses(self.base, adapter, rows, self._states, among) * weight_Q).sum()
        if settings.keys_weight and self._single_chunks and (keys := self._retrieval_loss(contexts)) is not None:
            loss = loss + settings.keys_weight * keys
        return loss

    def _retrieval_loss(self, contexts: Sequence[Context]) -> torch.Tensor | None:
        """Return the retrieval loss, summed over the contexts' documents; None if there is nothing to open."""
        network = self.network
        assert isinstance(network, LinearHypernetwork)
        total: torch.Tensor | None = None
        for context in contexts:
            parts: list[Reading] = []
            behind: list[int] = []
            asked: list[Queries] = []
            for place, number in context:
                cut = self._cut(number, 1)
                parts.append(self._reading(number, cut))
                behind += [*cut.ids[0][1:], -1]
                group = self._relevant(number, random.Random(f"{self.settings.seed} {self.step} {place}"))
                if group:
                    asked.append(queries(self.base, network, group, self._states))
            if not asked:
                continue
            next_S = torch.tensor(behind, device=self.base.device)
            loss = retrieval_loss(network, joined(parts) if len(parts) > 1 else parts[0], next_S, asked)
            if loss is not None:
                total = len(context) * loss + (0.0 if total is None else total)
        return total

    @property
    def _retrieving(self) -> bool:
        """Whether this step trains keys alone."""
        return self.step < self.settings.first_steps

    @property
    def _single_chunks(self) -> bool:
        """Whether every document of this step is one chunk."""
        step = self.step - self.settings.first_steps
        return self.settings.max_chunks == 1 or step < _SINGLE_CHUNK_SHARE * self.settings.steps

    def _chunk_count(self, draw: random.Random) -> int:
        """Return one while documents are single chunks, later a random number up to the maximum."""
        if self._single_chunks:
            return 1
        return draw.randint(1, self.settings.max_chunks)

    def _cut(self, number: int, chunks: int) -> Chunks:
        text = self.data.train[number].text
        tokens = len(self.base.encode(text))
        cut = document_chunks(self.base, text, max(1, math.ceil(tokens / chunks)), self._affixes)
        self._longest = max(self._longest, cut.size)
        return cut

    def _reading(self, number: int, cut: Chunks) -> Reading:
        key = f"document {number} in {len(cut.ids)}"
        if key not in self._read:
            begun = self._kept.get(key, partial(self.network.begun, self.base, cut.ids))
            here = {name: tensor.to(self.base.device) for name, tensor in begun.items()}
            self._read[key] = self.network.read_on(self.base, cut.ids, here)
        return self._read[key]

    def _target(self, key: str, compute: Callable[[], Target | None]) -> list[Target]:
        """Return the target in a list, which is empty if there is none."""

        def tensors() -> dict[str, torch.Tensor]:
            made = compute()
            return {} if made is None else made.to_tensors()

        target = Target.from_tensors(self._kept.get(key, tensors), self.base.device)
        return [] if target is None else [target]

    def _relevant(self, number: int, draw: random.Random) -> list[Target]:
        """Return neighbouring questions of a document: always asked together, as their states are kept together."""
        example, settings = self.data.train[number], self.settings
        most = QUESTIONS_PER_DOCUMENT
        first = most * draw.randrange(math.ceil(len(example.questions) / most))
        found: list[Target] = []
        for question in range(first, min(first + most, len(example.questions))):
            own = random.Random(f"{settings.seed} {number} {question} own").random() < settings.own_answers
            asked, reply = example.questions[question], example.replies[question]
            found += self._target(
                f"question {number} {question} {own}",
                partial(relevant_target, self.base, example.text, asked, reply, own, settings),
            )
        self._asked += len(found)
        return found

    def _irrelevant_targets(self, numbers: Sequence[int], draw: random.Random) -> list[Target]:
        """Return questions about documents other than these."""
        count = len(self.data.train)
        pool = min(count, _IRRELEVANT_POOL)
        # Spread over all documents: made-up facts come first, then passages.
        others = [n for n in (place * count // pool for place in range(pool)) if n not in numbers]
        found: list[Target] = []
        for _ in range(self.settings.irrelevant_questions if others else 0):
            other = draw.choice(others)
            question = draw.randrange(min(2, len(self.data.train[other].questions)))
            asked = self.data.train[other].questions[question].question
            found += self._target(f"irrelevant {other} {question}", partial(irrelevant_target, self.base, asked))
        return found

    def _identity(self) -> dict[str, Any]:
        return {"base": self.base.fingerprint, **self.settings.model_dump(mode="json")}


def _started(folder: str, network: DocumentHypernetwork) -> DocumentHypernetwork:
    """Return the hypernetwork in a folder, which must have the sizes of ``network``. Raises MismatchError."""
    found = load_hypernetwork(folder)
    sizes = [{name: tuple(t.shape) for name, t in n.state_dict().items()} for n in (found, network)]
    same_blocks = (found.config.layers, found.config.first_block) == (network.config.layers, network.config.first_block)
    if sizes[0] != sizes[1] or not same_blocks:
        raise MismatchError(
            f"start = {folder!r}: holds a hypernetwork of other sizes or blocks; expected those of this run: give the "
            "same generator, blocks, rank and reader_rank"
        )
    return found
