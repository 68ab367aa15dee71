"""Readers: a base's states and a trained network find spans in texts; their files.

Shapes: B = questions of a batch, T = tokens of a text, Q = tokens of a question, L = blocks whose states are read,
D = hidden size, F = features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from continual_learning.errors import ConfigError, CorruptMemoryError, MismatchError
from continual_learning.io.files import make_folder, storage_errors, write_atomic
from continual_learning.model.base_model import BaseModel
from continual_learning.reading.span_reader.features import FEATURES, TextWords, token_features
from continual_learning.reading.span_reader.network import NetworkShape, SpanNetwork
from continual_learning.reading.span_reader.states import ReadStates, read_states
from continual_learning.retrieval.routing import default_rarity

FORMAT = "continual-learning span reader 1"
_PACKAGED = Path(str(files("continual_learning"))) / "data" / "span_readers"
_CANDIDATES = 64  # best spans that are looked through for those that do not overlap
_EDGES = ' .,;:()"“”'  # what an answer neither begins nor ends with


@dataclass(frozen=True)
class FoundSpan:
    """A span that may answer a question."""

    text: str
    start: int
    """Character of the text at which it begins."""
    probability: float
    """By the reader, among all spans of the text."""


@dataclass(frozen=True)
class Reading:
    """One question about one text, as the network takes it."""

    text_TLD: Tensor
    question_QLD: Tensor
    features_TF: Tensor


def readings(states: ReadStates, questions: Sequence[str]) -> list[Reading]:
    """Of every question about a text. Raises ValueError for a text without a word."""
    words = TextWords.of(states.text, states.offsets)
    return [
        Reading(states.text_TLD, question_QLD, token_features(words, question, default_rarity(), first_T.cpu()))
        for question, question_QLD, first_T in zip(questions, states.questions_QLD, states.first_T, strict=True)
    ]


def batch_of(chosen: Sequence[Reading]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
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
    """Of the base whose states it was trained on."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How it was made: JSON values only."""

    def check(self, base: BaseModel) -> None:
        """Raises MismatchError unless it was trained on this base."""
        if base.fingerprint != self.fingerprint:
            raise MismatchError(
                f"a span reader for the base {self.fingerprint[:12]} on {base.name} ({base.fingerprint[:12]}); "
                "expected the base that it was trained for: train one with `continual-learning train reader`"
            )

    @torch.no_grad()
    def read(
        self, base: BaseModel, title: str, text: str, questions: Sequence[str], count: int = 1
    ) -> list[list[FoundSpan]]:
        """For each question, the ``count`` likeliest spans of ``text`` that do not overlap, best first.

        Fewer where the text has no more; none where it has no word. Raises MismatchError for another base.
        """
        self.check(base)
        if not text.strip() or not questions:
            return [[] for _ in questions]
        states = read_states(base, title, text, questions, self.network.shape.blocks)
        scores_BTT = self.network(*batch_of(readings(states, questions)))
        return [best_spans(scores_TT, states.text, states.offsets, count) for scores_TT in scores_BTT]


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
    tensors = {name: t.detach().cpu().half().contiguous() for name, t in reader.network.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "base": reader.fingerprint,
        "shape": json.dumps(asdict(reader.network.shape)),
        "facts": json.dumps(dict(reader.facts), sort_keys=True),
    }
    with storage_errors("the reader cannot be written"):
        make_folder(path.parent)
        write_atomic(path, save(tensors, metadata))


def load_reader(path: Path) -> SpanReader:
    """Read what `save_reader` wrote. Raises ConfigError where there is no file, CorruptMemoryError for another file."""
    if not path.is_file():
        raise ConfigError(
            f"reader {str(path)!r}: no such file; expected one that `continual-learning train reader` wrote"
        )
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a dict
        if metadata.get("format") != FORMAT:
            raise ValueError(f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
        given = json.loads(metadata["shape"])
        shape = NetworkShape(**{**given, "blocks": tuple(given["blocks"])})
        if shape.features != len(FEATURES):
            raise ValueError(f"it takes {shape.features} features, not {len(FEATURES)}")
        network = SpanNetwork(shape)
        network.load_state_dict(tensors)
        network.train(False)
        return SpanReader(network.requires_grad_(False), metadata["base"], json.loads(metadata["facts"]))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CorruptMemoryError(
            f"{path}: not a span reader ({reason}); expected a file that `continual-learning train reader` wrote"
        ) from None


def packaged_reader(base: BaseModel) -> SpanReader | None:
    """The reader that ships with the package for this base, if there is one."""
    return _packaged().get(base.fingerprint)


@cache
def _packaged() -> dict[str, SpanReader]:
    return {reader.fingerprint: reader for reader in map(load_reader, sorted(_PACKAGED.glob("*.safetensors")))}
