"""Readers and their files: a base with an adapter that answers questions about a text in the text's own words, or says
that it does not say.

What the model reads is ``title, text, Question: …, Answer:``. All questions about a text stand in one row behind a
mask: each attends to the text and to itself, so the text is read once. It stays in a cache for the next question.

Shapes: C = questions, T = tokens read now, S = tokens that they may attend to, D = hidden size, V = vocabulary.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from continual_learning.errors import ConfigError, UnsupportedModelError
from continual_learning.io.artifacts import check_base, damage_reported, read_artifact, write_artifact
from continual_learning.io.files import storage_errors
from continual_learning.model.base_model import BaseModel
from continual_learning.model.prepared import find_prepared
from continual_learning.reading.reader.adapter import AdaptedLinear, adapted
from continual_learning.reading.reader.calibration import Calibration, signals
from continual_learning.reading.reader.question_likelihood import weighed_by_question
from continual_learning.reading.reader.row import Paths, Row
from continual_learning.reading.reader.span_search import SpanSearch, SpanTrie
from continual_learning.reading.reader.tokens_in_play import log_likelihoods, tokens_in_play
from continual_learning.reading.spans import FoundSpan, Reading, Turn

FORMAT = "continual-learning reader 2"
READER_FILE = "reader.safetensors"
"""What a training run writes, and what `model prepare` puts into a base's folder."""
_PACKAGED = Path(str(files("continual_learning"))) / "data" / "readers"
END = "\n"
UNKNOWN = " unknown"
"""What the reader was taught to answer where the text does not say."""
_LONGEST_QUESTION, _LONGEST_TURN = 128, 96  # tokens
_ROOM = 640  # tokens of the window that are left for a question and the spans that answer it
_KEPT_TOKENS = 2_048  # of texts whose keys and values stay in memory: 94 MB for the embedded model


def text_prompt(title: str, text: str) -> str:
    """What precedes the questions."""
    return f"{title}\n{text}" if title else text


def first_ids(base: BaseModel) -> list[int]:
    """The token with which every text begins, if the tokenizer has one."""
    return [] if base.tokenizer.bos_token_id is None else [int(base.tokenizer.bos_token_id)]


def question_prompt(question: str) -> str:
    """What precedes an answer."""
    return f"\nQuestion: {' '.join(question.split())}\nAnswer:"


def turn_prompt(turn: Turn | None) -> str:
    """What precedes a question that refers to the turn before."""
    return f"{question_prompt(turn.question)} {' '.join(turn.reply.split())}" if turn else ""


@dataclass(frozen=True)
class Reader:
    """An adapter for one base."""

    weights: Mapping[str, Tensor]
    """``<path of the linear layer>.A`` and ``.B``."""
    fingerprint: str
    """Fingerprint of the base that it was trained on."""
    calibration: Calibration
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How it was made: JSON values only."""

    def check(self, base: BaseModel) -> None:
        """Raise MismatchError unless it was trained on this base."""
        check_base("reader", self.fingerprint, base.fingerprint, base.name, "continual-learning train reader")

    @torch.no_grad()
    def read(
        self,
        base: BaseModel,
        title: str,
        text: str,
        questions: Sequence[str],
        count: int = 3,
        turn: Turn | None = None,
    ) -> list[Reading]:
        """What ``text`` says to each question, with the ``count`` likeliest spans.

        ``turn`` precedes every question, as one that refers to it needs ("And when was that?"). What does not fit the
        window is left out: the end of the text, the beginning of a long question.
        Raises MismatchError for another base, UnsupportedModelError for a tokenizer without positions.
        """
        self.check(base)
        if not base.tokenizer.is_fast:
            raise UnsupportedModelError(
                f"{base.name}: its tokenizer gives no positions of tokens in a text; a reader needs a fast one"
            )
        if not questions:
            return []
        with base.patched(self._layers(base)):
            row, trie = self._text(base, title, text)
            before = base.encode(turn_prompt(turn))[:_LONGEST_TURN]
            return _read(base, row, trie, before, questions, count, self.calibration)

    def _layers(self, base: BaseModel) -> dict[str, AdaptedLinear]:
        # This reader is remembered with what is made of it: no other can get its id.
        made: tuple[Reader, dict[str, AdaptedLinear]] = base.remember(
            ("adapted", id(self)), lambda: (self, adapted(base, self.weights, quick=True))
        )
        own = all(base.linears.has_own(layer.linear) for layer in made[1].values())
        return made[1] if own else adapted(base, self.weights)

    def _text(self, base: BaseModel, title: str, text: str) -> tuple[Row, SpanTrie]:
        """The text as it was read, now or before."""
        mine: tuple[Reader, _Texts] = base.remember(("texts read", id(self)), lambda: (self, OrderedDict()))
        kept = mine[1]
        key = (title, text)
        if key not in kept:
            room = base.window - min(_ROOM, base.window // 2)
            row = Row(base)
            row.begin([*first_ids(base), *base.encode(text_prompt(title, text))][:room])
            kept[key] = row, SpanTrie(text, base.tokenizer)
            while len(kept) > 1 and sum(len(row) for row, _ in kept.values()) > _KEPT_TOKENS:
                kept.popitem(last=False)
        kept.move_to_end(key)
        row, trie = kept[key]
        return row.copy(), trie


_Texts = OrderedDict[tuple[str, str], tuple[Row, SpanTrie]]


def _read(
    base: BaseModel,
    row: Row,
    trie: SpanTrie,
    before: list[int],
    questions: Sequence[str],
    count: int,
    calibration: Calibration,
) -> list[Reading]:
    prefix = len(row)
    asked = [before + base.encode(question_prompt(question))[-_LONGEST_QUESTION:] for question in questions]
    hidden_TD, seen = row.read_apart(prefix, asked)
    last = torch.tensor([one[-1] - prefix for one in seen])
    [end] = base.encode(END)
    unknown_id = base.encode(UNKNOWN)[0]
    tokens_S = tokens_in_play(base, [trie.text, *questions], {*trie.tokens, end, unknown_id})
    log_likely_CV = log_likelihoods(base, hidden_TD[last], tokens_S).cpu()
    searches = [SpanSearch(trie, end) for _ in asked]
    for search, log_likely_V in zip(searches, log_likely_CV, strict=True):
        search.begin(log_likely_V)
    paths = Paths(prefix, seen)
    while rounds := [(i, n, chain) for i, s in enumerate(searches) for n, chain in enumerate(s.chains())]:
        ids, positions, allowed_TS, places = paths.lay_out([(i, chain) for i, _, chain in rounds], len(row))
        hidden_TD = row.read(ids, positions, allowed_TS)
        log_likely_TV = log_likelihoods(base, hidden_TD, tokens_S).cpu()
        at = 0
        for (i, number, chain), where in zip(rounds, places, strict=True):
            searches[i].learn(number, where, list(log_likely_TV[at : at + len(chain.tokens)]))
            at += len(chain.tokens)
    spans = [_apart(list(search.best()), max(count, 2)) for search in searches]
    spans = weighed_by_question(base, row, prefix, before, questions, spans, tokens_S)
    found = []
    for best, log_likely_V in zip(spans, log_likely_CV, strict=True):
        unknown = math.exp(float(log_likely_V[unknown_id]))
        numbers = signals([span.probability for span in best], unknown)
        found.append(Reading(tuple(best[:count]), *calibration.of(numbers), numbers))
    return found


def _apart(spans: Sequence[FoundSpan], count: int) -> list[FoundSpan]:
    """The first ``count`` spans that do not overlap with an earlier one."""
    kept: list[FoundSpan] = []
    for span in spans:
        if all(span.start >= k.start + len(k.text) or k.start >= span.start + len(span.text) for k in kept):
            kept.append(span)
        if len(kept) == count:
            break
    return kept


# -- files -----------------------------------------------------------------------------------------


def save_reader(reader: Reader, path: Path) -> None:
    """Write a reader in half precision: the whole file or none of it. Raises StorageError."""
    tensors = {name: weight.detach().half().contiguous() for name, weight in reader.weights.items()}
    header = {
        "format": FORMAT,
        "base": reader.fingerprint,
        "calibration": asdict(reader.calibration),
        "facts": dict(reader.facts),
    }
    with storage_errors("the reader cannot be written"):
        write_artifact(path, tensors, header)


def load_reader(path: Path) -> Reader:
    """Read what `save_reader` wrote. Raises ConfigError without such a file, CorruptMemoryError for another file."""
    if not path.is_file():
        raise ConfigError(
            f"reader {str(path)!r}: no such file; expected one that `continual-learning train reader` wrote"
        )
    with damage_reported(str(path), "it is not a reader that `continual-learning train reader` wrote"):
        artifact = read_artifact(path, kind=FORMAT)
        weights = {name: tensor.float() for name, tensor in artifact.tensors.items()}
        calibration = Calibration(**{name: tuple(found) for name, found in artifact.header["calibration"].items()})
        return Reader(weights, artifact.header["base"], calibration, artifact.header["facts"])


def packaged_reader(base: BaseModel) -> Reader | None:
    """The reader that ships with the package for this base, if there is one."""
    return _packaged().get(base.fingerprint)


def prepared_reader(base: BaseModel) -> Reader | None:
    """The reader that `model prepare` made for this base, if there is one. Raises CorruptMemoryError, MismatchError."""
    path = find_prepared(base.fingerprint, READER_FILE)
    if path is None:
        return None
    found = base.remember(("reader", str(path), path.stat().st_mtime_ns), lambda: load_reader(path))
    found.check(base)
    return found


@cache
def _packaged() -> dict[str, Reader]:
    return {reader.fingerprint: reader for reader in map(load_reader, sorted(_PACKAGED.glob("*.safetensors")))}
