"""Readers: a base's states and a trained network find spans in texts; their files.

Shapes: B = questions of a batch, T = tokens of a text, Q = tokens of a question, L = blocks whose states are read,
D = hidden size, F = features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from continual_learning.errors import ConfigError
from continual_learning.io.artifacts import check_base, damage_reported, read_artifact, write_artifact
from continual_learning.io.files import storage_errors
from continual_learning.model.base_model import BaseModel
from continual_learning.reading.span_reader.features import FEATURES, TextWords, token_features
from continual_learning.reading.span_reader.network import NetworkShape, SpanNetwork
from continual_learning.reading.span_reader.states import ReadStates, read_states
from continual_learning.reading.spans import FoundSpan, Reading
from continual_learning.retrieval.routing import default_rarity

FORMAT = "continual-learning span reader 1"
_PACKAGED = Path(str(files("continual_learning"))) / "data" / "span_readers"
_CANDIDATES = 64  # number of best spans that are searched for those that do not overlap
_EDGES = ' .,;:()"“”'  # characters that an answer neither begins nor ends with


@dataclass(frozen=True)
class NetworkInput:
    """One question about one text, as input of the network."""

    text_TLD: Tensor
    question_QLD: Tensor
    features_TF: Tensor


def readings(states: ReadStates, questions: Sequence[str]) -> list[NetworkInput]:
    """The network's input for every question about a text. Raises ValueError for a text without a word."""
    words = TextWords.of(states.text, states.offsets)
    return [
        NetworkInput(states.text_TLD, question_QLD, token_features(words, question, default_rarity(), first_T.cpu()))
        for question, question_QLD, first_T in zip(questions, states.questions_QLD, states.first_T, strict=True)
    ]


def batch_of(chosen: Sequence[NetworkInput]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The arguments of `SpanNetwork.forward`, padded on the right, on the CPU in fp32."""

    def padded(tensors: Sequence[Tensor]) -> Tensor:
        return nn.utils.rnn.pad_sequence([t.cpu().float() for t in tensors], batch_first=True)

    def held(tensors: Sequence[Tensor]) -> Tensor:
        lengths_B = torch.tensor([len(t) for t in tensors])
        return torch.arange(int(lengths_B.max()))[None] < lengths_B[:, None]

    texts, questions = [one.text_TLD for one in chosen], [one.question_QLD for one in chosen]
    return padded(texts), padded(questions), padded([one.features_TF for one in chosen]), held(texts), held(questions)


@dataclass(frozen=True)
class SpanReader:
    """A network for one base."""

    network: SpanNetwork
    fingerprint: str
    """Fingerprint of the base whose states it was trained on."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How it was made: JSON values only."""

    def check(self, base: BaseModel) -> None:
        """Raise MismatchError unless it was trained on this base."""
        check_base("span reader", self.fingerprint, base.fingerprint, base.name, "continual-learning train reader")

    @torch.no_grad()
    def read(self, base: BaseModel, title: str, text: str, questions: Sequence[str], count: int = 3) -> list[Reading]:
        """For each question, the ``count`` likeliest spans of ``text`` that do not overlap, best first.

        Fewer if the text has no more; none if it has no word. It always takes the text to say, and its confidence is
        the probability of the best span, not calibrated. Raises MismatchError for another base.
        """
        self.check(base)
        if not text.strip() or not questions:
            return [Reading(()) for _ in questions]
        states = read_states(base, title, text, questions, self.network.shape.blocks)
        scores_BTT = self.network(*batch_of(readings(states, questions)))
        found = [tuple(best_spans(scores_TT, states.text, states.offsets, count)) for scores_TT in scores_BTT]
        return [Reading(spans, 0.0, spans[0].probability if spans else 0.0) for spans in found]


def best_spans(scores_TT: Tensor, text: str, offsets: Sequence[tuple[int, int]], count: int) -> list[FoundSpan]:
    """The ``count`` best spans of a text that do not overlap, without punctuation around them."""
    tokens = len(offsets)
    probability_TT = scores_TT[:tokens, :tokens].flatten().softmax(0)
    found: list[FoundSpan] = []
    taken: list[tuple[int, int]] = []
    best = probability_TT.topk(min(_CANDIDATES, len(probability_TT)))
    for probability, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        first, last = divmod(place, tokens)
        if last < first or any(first <= b and a <= last for a, b in taken):
            continue
        start, end = offsets[first][0], offsets[last][1]
        inner = text[start:end].strip(_EDGES)
        if not inner:
            continue
        taken.append((first, last))
        found.append(FoundSpan(inner, text.index(inner, start), probability))
        if len(found) == count:
            break
    return found


# -- files -----------------------------------------------------------------------------------------


def save_reader(reader: SpanReader, path: Path) -> None:
    """Write a reader in half precision: the whole file or none of it. Raises StorageError."""
    tensors = {name: t.detach().half() for name, t in reader.network.state_dict().items()}
    header = {
        "format": FORMAT,
        "base": reader.fingerprint,
        "shape": asdict(reader.network.shape),
        "facts": dict(reader.facts),
    }
    with storage_errors("the reader cannot be written"):
        write_artifact(path, tensors, header)


def load_reader(path: Path) -> SpanReader:
    """Read what `save_reader` wrote. Raises ConfigError without such a file, CorruptMemoryError for another file."""
    if not path.is_file():
        raise ConfigError(
            f"reader {str(path)!r}: no such file; expected one that `continual-learning train reader` wrote"
        )
    with damage_reported(str(path), "it is not a span reader that `continual-learning train reader` wrote"):
        artifact = read_artifact(path, kind=FORMAT)
        given = artifact.header["shape"]
        shape = NetworkShape(**{**given, "blocks": tuple(given["blocks"])})
        if shape.features != len(FEATURES):
            raise ValueError(f"it takes {shape.features} features, not {len(FEATURES)}")
        network = SpanNetwork(shape)
        network.load_state_dict({name: tensor.float() for name, tensor in artifact.tensors.items()})
        network.train(False)
        return SpanReader(network.requires_grad_(False), artifact.header["base"], artifact.header["facts"])


def packaged_reader(base: BaseModel) -> SpanReader | None:
    """The reader that ships with the package for this base, if there is one."""
    return _packaged().get(base.fingerprint)


@cache
def _packaged() -> dict[str, SpanReader]:
    return {reader.fingerprint: reader for reader in map(load_reader, sorted(_PACKAGED.glob("*.safetensors")))}
