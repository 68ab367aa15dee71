"""Training of the span reader, once per base model: passages with questions in, a network that points at answers out.

The base's states are computed once and kept in the run's folder; every epoch then costs the small network alone. The
loss is the negative log-likelihood of the spans that hold an accepted answer, among all spans of the text. Whole
articles are held out for validation, and the weights of the best epoch are written.

Shapes: B = questions of a batch, T = tokens of a text, L = blocks whose states are read, D = hidden size.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from continual_learning.datasets.base import Dataset, QADocument
from continual_learning.errors import InputError
from continual_learning.io.checkpointing import (
    Checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from continual_learning.io.tensor_cache import Kept
from continual_learning.model.base_model import BaseModel
from continual_learning.options import StrategyConfig
from continual_learning.reading.span_reader.features import FEATURES
from continual_learning.reading.span_reader.network import NetworkShape, SpanNetwork
from continual_learning.reading.span_reader.reader import (
    NetworkInput,
    SpanReader,
    batch_of,
    best_spans,
    readings,
    save_reader,
)
from continual_learning.reading.span_reader.states import ReadStates, read_states
from continual_learning.text.scoring import contains_answer, token_f1
from continual_learning.training.schedule import warm_up_cosine

READER_FILE = "reader.safetensors"
WEIGHT_DECAY = 0.05
VALIDATION_SHARE = 0.125
"""Share of the articles that are held out (the last ones in the dataset's order); at least one is."""
LONGEST_TEXT = 260
"""Texts of more tokens are left out: ttt and quote read passages of 200."""
_ALIKE = 8  # batches are cut from this many batches' worth of questions at a time, sorted by length


class ReaderConfig(StrategyConfig):
    """Settings of the training."""

    blocks: int = Field(7, ge=1)
    """Number of blocks whose states are read, evenly spaced."""
    width: int = Field(128, ge=8, multiple_of=4)
    layers: int = Field(2, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate; it rises over a tenth of the steps and then falls along a cosine."""
    batch_questions: int = Field(24, ge=1)
    seed: int = 0


@dataclass(frozen=True)
class Point:
    """One validation, after an epoch."""

    epoch: int
    train_loss: float
    loss: float
    """Negative log-likelihood of the accepted spans, nats."""
    recall: float
    """Share of questions whose best span holds an accepted answer."""
    f1: float
    """F1 of the best span."""
    recall_of_two: float
    f1_of_two: float


@dataclass(frozen=True)
class Trained:
    """The result of a training run."""

    reader: SpanReader
    curve: tuple[Point, ...]
    questions: int
    validation_questions: int
    seconds: float
    """Over all sessions of the run."""


@dataclass(frozen=True)
class _Example:
    text: str
    offsets: tuple[tuple[int, int], ...]
    reading: NetworkInput
    answers: tuple[str, ...]
    gold: tuple[tuple[int, int], ...]
    """First and last token of every accepted answer in the text."""


def train_reader(
    base: BaseModel,
    dataset: Dataset,
    config: ReaderConfig,
    folder: Path,
    epochs: int,
    on_progress: Callable[[str, int, int, str], None] | None = None,
    on_point: Callable[[Point], None] | None = None,
) -> Trained:
    """Train, or resume the run in ``folder``, and write ``reader.safetensors`` there.

    ``on_progress`` is called with the stage, how much of it is done, the total, and a note. Raises InputError if
    nothing can be learned from the dataset, or if the folder holds another run.
    """
    started = time.perf_counter()
    even = (round((i + 1) * base.block_count / (config.blocks + 1)) for i in range(config.blocks))
    shape = NetworkShape(
        base.hidden_size,
        tuple(sorted({min(block, base.block_count - 1) for block in even})),
        len(FEATURES),
        config.width,
        config.layers,
    )
    identity = {"settings": config.model_dump(mode="json"), "data": dataset.sha256(), "base": base.fingerprint}
    identity["epochs"] = str(epochs)
    checkpoint = load_checkpoint(folder)
    if checkpoint and checkpoint.facts["identity"] != identity:
        raise InputError(
            f"{folder}: holds a run with other settings, data, epochs or base; give the same to resume it, "
            "another --out, or --overwrite"
        )
    training, validation = _split(dataset, VALIDATION_SHARE)
    kept = Kept(folder / "states" / _short(base.fingerprint))
    examples: list[list[_Example]] = []
    done, total = 0, len(training) + len(validation)
    for part in (training, validation):
        found: list[_Example] = []
        for item in part:
            found += _examples(base, item, shape, config, kept)
            done += 1
            if on_progress:
                on_progress("states", done, total, "reading with the base")
        examples.append(found)
    if not examples[0] or not examples[1]:
        raise InputError(
            f"{dataset.name}: {len(examples[0])} questions to train on and {len(examples[1])} to validate with have an "
            "answer that stands in their text; expected at least one of each, in at least two articles"
        )
    run = _Run(shape, config, examples[0], examples[1], epochs, checkpoint)
    before = float(checkpoint.facts["seconds"]) if checkpoint else 0.0
    while run.epoch < epochs:

        def on_step(step: int, steps: int, loss: float) -> None:
            if on_progress:
                on_progress("train", run.epoch * steps + step, epochs * steps, f"loss {loss:.2f}")

        run.train_epoch(on_step)
        seconds = before + time.perf_counter() - started
        save_checkpoint(folder, run.tensors(), {"identity": identity, "seconds": seconds, **run.facts()})
        if on_point:
            on_point(run.curve[-1])
    seconds = before + time.perf_counter() - started
    facts = {
        "data": {"name": dataset.name, "source": dataset.source, "split": dataset.split, "sha256": dataset.sha256()},
        "settings": config.model_dump(mode="json"),
        "epochs": epochs,
        "questions": len(examples[0]),
        "validation_questions": len(examples[1]),
        "curve": [asdict(point) for point in run.curve],
    }
    reader = SpanReader(run.best_network(), base.fingerprint, facts)
    save_reader(reader, folder / READER_FILE)
    return Trained(reader, tuple(run.curve), len(examples[0]), len(examples[1]), seconds)


class _Run:
    """The network in training, and its best state so far."""

    def __init__(
        self,
        shape: NetworkShape,
        config: ReaderConfig,
        training: Sequence[_Example],
        validation: Sequence[_Example],
        epochs: int,
        checkpoint: Checkpoint | None,
    ):
        self._config, self._training, self._validation = config, training, validation
        self._epochs = epochs
        torch.manual_seed(config.seed)
        self._network = SpanNetwork(shape, config.dropout)
        _standardise(self._network, training)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=config.learning_rate, weight_decay=WEIGHT_DECAY
        )
        self.curve: list[Point] = []
        self._best = {n: t.clone() for n, t in self._network.state_dict().items()}
        if checkpoint:
            of = checkpoint.tensors
            self._network.load_state_dict(_under("network.", of))
            self._best = _under("best.", of)
            restore_optimizer(self._optimizer, _under("optimizer.", of))
            self.curve = [Point(**point) for point in checkpoint.facts["curve"]]

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return len(self.curve)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs."""
        parts = {
            "network.": self._network.state_dict(),
            "best.": self._best,
            "optimizer.": optimizer_tensors(self._optimizer),
        }
        return {prefix + name: tensor for prefix, tensors in parts.items() for name, tensor in tensors.items()}

    def facts(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"curve": [asdict(point) for point in self.curve]}

    def best_network(self) -> SpanNetwork:
        """The network of the epoch with the highest F1 on validation."""
        network = SpanNetwork(self._network.shape)
        network.load_state_dict(self._best)
        network.train(False)
        return network.requires_grad_(False)

    def train_epoch(self, on_step: Callable[[int, int, float], None]) -> None:
        """Train on all questions once, then validate. Sampling depends on the seed and the epoch alone."""
        config, epoch = self._config, self.epoch
        rng = random.Random(f"{config.seed}:{epoch}")
        torch.manual_seed(config.seed * 1000 + epoch)
        batches = _batches(self._training, config.batch_questions, rng)
        self._network.train()
        losses = []
        for number, batch in enumerate(batches):
            step, steps = epoch * len(batches) + number, self._epochs * len(batches)
            rate = config.learning_rate * warm_up_cosine(step, steps, max(1, steps // 10))
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            loss = _loss(self._network, batch).mean()
            self._optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
            self._optimizer.step()
            losses.append(loss.item())
            on_step(number + 1, len(batches), losses[-1])
        self._network.train(False)
        point = self._validate(epoch + 1, sum(losses) / len(losses))
        if all(point.f1 > earlier.f1 for earlier in self.curve):
            self._best = {n: t.clone() for n, t in self._network.state_dict().items()}
        self.curve.append(point)

    @torch.no_grad()
    def _validate(self, epoch: int, train_loss: float) -> Point:
        losses: list[float] = []
        scores: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for at in range(0, len(self._validation), 32):
            batch = self._validation[at : at + 32]
            scores_BTT = self._network(*batch_of([e.reading for e in batch]))
            losses += _span_loss(scores_BTT, batch).tolist()
            for example, scores_TT in zip(batch, scores_BTT, strict=True):
                spans = [s.text for s in best_spans(scores_TT, example.text, example.offsets, 2)]
                for count, found in scores.items():
                    said = "; ".join(spans[:count])
                    found.append((float(contains_answer(said, example.answers)), token_f1(said, example.answers)))

        def mean(values: Sequence[float]) -> float:
            return sum(values) / len(values)

        columns = [mean([row[i] for row in scores[count]]) for count in (1, 2) for i in (0, 1)]
        return Point(epoch, train_loss, mean(losses), *columns)


# -- examples --------------------------------------------------------------------------------------


def _split(dataset: Dataset, share: float) -> tuple[list[QADocument], list[QADocument]]:
    """Documents to train on and documents to validate with, from different articles."""
    articles = list(dict.fromkeys(item.article for item in dataset.documents))
    held_out = set(articles[-max(1, round(share * len(articles))) :])
    return (
        [item for item in dataset.documents if item.article not in held_out],
        [item for item in dataset.documents if item.article in held_out],
    )


def _examples(
    base: BaseModel, item: QADocument, shape: NetworkShape, config: ReaderConfig, kept: Kept
) -> list[_Example]:
    """The questions about a document whose answers are in it, with the base's states in half precision."""
    document = item.document
    if not item.questions or len(base.encode(document.text)) > LONGEST_TEXT:
        return []
    questions = [q.question for q in item.questions]

    def compute() -> dict[str, Tensor]:
        states = read_states(base, document.title, document.text, questions, shape.blocks)
        found = {"text": states.text_TLD.half(), "offsets": torch.tensor(states.offsets)}
        for number, (question_QLD, first_T) in enumerate(zip(states.questions_QLD, states.first_T, strict=True)):
            found |= {f"question.{number}": question_QLD.half(), f"first.{number}": first_T.half()}
        return found

    key = json.dumps([document.title, document.text, questions, shape.blocks])
    tensors = kept.get(_short(key), compute)
    offsets = tuple((int(a), int(b)) for a, b in tensors["offsets"].tolist())
    states = ReadStates(
        document.text,
        offsets,
        tensors["text"],
        tuple(tensors[f"question.{number}"] for number in range(len(questions))),
        tuple(tensors[f"first.{number}"] for number in range(len(questions))),
    )
    found = []
    for question, reading in zip(item.questions, readings(states, questions), strict=True):
        gold = _gold(document.text, offsets, question.answers, shape.longest)
        if gold:
            found.append(_Example(document.text, offsets, reading, tuple(question.answers), gold))
    return found


def _gold(
    text: str, offsets: Sequence[tuple[int, int]], answers: Sequence[str], longest: int
) -> tuple[tuple[int, int], ...]:
    """First and last token of every occurrence of an accepted answer, unless it is too long to be pointed at."""
    found = set()
    for answer in answers:
        for match in re.finditer(re.escape(answer), text) if answer else ():
            inside = [i for i, (a, b) in enumerate(offsets) if a < match.end() and match.start() < b]
            if inside and inside[-1] - inside[0] < longest:
                found.add((inside[0], inside[-1]))
    return tuple(sorted(found))


def _batches(examples: Sequence[_Example], size: int, rng: random.Random) -> list[list[_Example]]:
    """All examples in batches of similar length, in random order."""
    order = list(examples)
    rng.shuffle(order)
    batches = []
    for at in range(0, len(order), size * _ALIKE):
        alike = sorted(order[at : at + size * _ALIKE], key=lambda e: len(e.offsets))
        batches += [alike[i : i + size] for i in range(0, len(alike), size)]
    rng.shuffle(batches)
    return batches


def _loss(network: SpanNetwork, batch: Sequence[_Example]) -> Tensor:
    return _span_loss(network(*batch_of([e.reading for e in batch])), batch)


def _span_loss(scores_BTT: Tensor, batch: Sequence[_Example]) -> Tensor:
    """Negative log of the total probability of the accepted spans, in nats: ``[B]``."""
    gold_BTT = torch.zeros_like(scores_BTT, dtype=torch.bool)
    for row, example in enumerate(batch):
        for first, last in example.gold:
            gold_BTT[row, first, last] = True
    log_share_BS = scores_BTT.flatten(1).log_softmax(-1)
    return -log_share_BS.masked_fill(~gold_BTT.flatten(1), -torch.inf).logsumexp(-1)


def _standardise(network: SpanNetwork, training: Sequence[_Example]) -> None:
    """Mean and deviation of the states, over a part of the training questions."""
    some = training[:: max(1, len(training) // 300)]
    for name, states in (
        ("text", torch.cat([e.reading.text_TLD[::5].float() for e in some])),
        ("question", torch.cat([e.reading.question_QLD[::3].float() for e in some])),
    ):
        network.get_buffer(f"{name}_mean_LD").copy_(states.mean(0))
        network.get_buffer(f"{name}_deviation_LD").copy_(states.std(0) + 1e-2)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
