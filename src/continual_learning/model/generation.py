"""Greedy decoding, in batches, with a key-value cache.

Shapes: B = rows of a batch, D = hidden size, V = vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from continual_learning.errors import InputError, StoppedError
from continual_learning.model.decoding import make_decoder
from continual_learning.model.logits_processors import Steer, Step
from continual_learning.model.sampling import Choose

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel

BATCH_ROWS = 32
# Long prompts go in smaller batches: keys and values of 16,384 tokens of the embedded model take 0.75 GB.
BATCH_TOKENS = 16_384


@dataclass(frozen=True)
class Generation:
    """What a model wrote after one prompt."""

    text: str
    """Without special tokens, up to the end of the turn; otherwise as the model wrote it, spaces and all."""
    tokens: int
    """Number of generated tokens, without the one that ended the turn."""
    seconds: float
    """Wall time in seconds; in a batch, this prompt's share."""
    ids: tuple[int, ...]
    """The generated tokens."""
    probability: float | None = None
    """Geometric mean of the probabilities of these tokens, by the logits from which they were taken, after ``steer``
    and before ``choose``. None if there are none."""


class GenerationControl:
    """How another thread, or a callback, ends a generation: at its next token, or while it reads a long prompt."""

    def __init__(self) -> None:
        self.ended = False
        """Whether the text written so far is all that is wanted."""
        self._reason: str | None = None

    def end(self) -> None:
        """Let the text written so far be the result."""
        self.ended = True

    def give_up(self, reason: str) -> None:
        """Let the generation raise StoppedError with this reason: its result is not wanted any more."""
        self._reason = reason

    def check(self) -> None:
        """Raise StoppedError after `give_up`. For long work that is not a generation, too."""
        if self._reason is not None:
            raise StoppedError(self._reason)


# A context variable, not an argument: between the server and `generate` are all strategies, other packages' too.
_control: ContextVar[GenerationControl | None] = ContextVar("generation control", default=None)


@contextmanager
def controlled(control: GenerationControl) -> Iterator[None]:
    """Let ``control`` rule every generation inside, in this thread."""
    token = _control.set(control)
    try:
        yield
    finally:
        _control.reset(token)


def current_control() -> GenerationControl | None:
    """What rules generations in this thread, if anything does: for texts that another program generates."""
    return _control.get()


@torch.inference_mode()
def generate(
    base: BaseModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    on_token: Callable[[str], None] | None = None,
    one_line: bool = False,
    steer: Steer | None = None,
    choose: Choose | None = None,
) -> list[Generation]:
    """Continue every prompt (token ids) greedily, until a stop token, ``max_new_tokens`` or the window's end.

    ``steer`` changes the logits at every step (see `logits_processors`), and after it whatever the base is `steered`
    by; ``choose`` picks each next token instead of the likeliest. ``one_line`` stops after the first non-empty line.

    Prompts of any lengths, in any number; results come in their order. ``on_token`` receives the
    text piece by piece, whole characters only, and takes a single prompt. Raises InputError for a
    prompt that is empty or leaves no room in the window, and StoppedError if its `GenerationControl` says so.
    """
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens = {max_new_tokens}; expected at least 1")
    if on_token is not None and len(prompts) != 1:
        raise InputError(f"on_token with {len(prompts)} prompts; streaming takes exactly one")
    for ids in prompts:
        if not ids:
            raise InputError("a prompt of 0 tokens; expected at least one token")
        if len(ids) >= base.window:
            raise InputError(
                f"a prompt of {len(ids)} tokens; expected fewer than the model's window of {base.window}, "
                "so that an answer fits: shorten it"
            )
    steers = (*(() if steer is None else (steer,)), *base.steers)
    results: dict[int, Generation] = {}
    for rows in _batches([len(ids) for ids in prompts]):
        done = _generate_batch(base, prompts, rows, max_new_tokens, on_token, one_line, steers, choose)
        results.update(zip(rows, done, strict=True))
    return [results[row] for row in range(len(prompts))]


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in batches of prompts of similar length, so that there is little padding, within both batch limits."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        # The first of a batch is its longest.
        if batch and (len(batch) == BATCH_ROWS or (len(batch) + 1) * lengths[batch[0]] > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _generate_batch(
    base: BaseModel,
    all_prompts: Sequence[Sequence[int]],
    rows: Sequence[int],
    max_new_tokens: int,
    on_token: Callable[[str], None] | None,
    one_line: bool,
    steers: Sequence[Steer],
    choose: Choose | None,
) -> list[Generation]:
    started = time.perf_counter()
    prompts = [all_prompts[row] for row in rows]
    room = [min(max_new_tokens, base.window - len(ids)) for ids in prompts]
    decoder = make_decoder(base, max(room))
    written: list[list[int]] = [[] for _ in prompts]
    log_sums = [0.0] * len(prompts)  # of the probabilities of the written tokens
    writers = [_TextWriter(base, on_token, one_line) for _ in prompts]
    alive = list(range(len(prompts)))  # the prompt that each row of the tensors belongs to
    control = _control.get() or GenerationControl()
    control.check()
    last_BD = decoder.read(prompts, control.check)
    while True:
        control.check()
        logits_BV = decoder.logits(last_BD)
        for steer in steers:
            of = tuple(rows[prompt] for prompt in alive)
            logits_BV = steer(Step(of, tuple(written[prompt] for prompt in alive), last_BD, logits_BV))
        next_B = logits_BV.argmax(-1) if choose is None else choose(logits_BV)
        keep: list[int] = []
        log_p_B = _log_probabilities(logits_BV, next_B)
        for row, (prompt, token) in enumerate(zip(alive, next_B.tolist(), strict=True)):
            if token in base.stop_ids:
                continue
            written[prompt].append(token)
            log_sums[prompt] += log_p_B[row]
            stopped = writers[prompt].write(written[prompt])
            if not stopped and len(written[prompt]) < room[prompt]:
                keep.append(row)
        if not keep or control.ended:
            break
        if len(keep) < len(alive):  # finished rows cost no more time
            alive = [alive[row] for row in keep]
            rows_B = torch.tensor(keep, device=base.device)
            next_B = next_B[rows_B]
            decoder.select(rows_B)
        last_BD = decoder.step(next_B)
    texts = [writer.close(ids) for writer, ids in zip(writers, written, strict=True)]
    share = (time.perf_counter() - started) / len(prompts)
    return [
        Generation(text, len(ids), share, tuple(ids), math.exp(log_sum / len(ids)) if ids else None)
        for text, ids, log_sum in zip(texts, written, log_sums, strict=True)
    ]


def _log_probabilities(logits_BV: Tensor, ids_B: Tensor) -> list[float]:
    """The log-probability of one token in each row."""
    logits_BV = logits_BV.float()
    found: list[float] = (logits_BV.gather(1, ids_B[:, None])[:, 0] - logits_BV.logsumexp(1)).tolist()
    return found


def _first_line(text: str) -> str:
    """The text up to the end of its first non-empty line."""
    blank = len(text) - len(text.lstrip())
    end = text.find("\n", blank)
    return text if end < 0 else text[:end]


class _TextWriter:
    """Turns one row's growing ids into text: streams it in whole characters, and notices the stop text."""

    def __init__(self, base: BaseModel, on_token: Callable[[str], None] | None, one_line: bool = False):
        self._base = base
        self._on_token = on_token
        self._one_line = one_line
        self._stop_text = base.stop_text
        self._sent = ""

    def write(self, ids: Sequence[int]) -> bool:
        """Take note of all ids so far; True when the stop text has been reached."""
        if self._on_token is None and self._stop_text is None and not self._one_line:
            return False
        text = self._base.decode(ids)
        if self._stop_text is not None and self._stop_text in text:
            return True
        if self._one_line:
            line = _first_line(text)
            if len(line) < len(text):
                return True
        # A trailing U+FFFD is the beginning of a character whose other bytes are still to come.
        self._send(text.rstrip("\ufffd")[: len(text) - self._held_back(text)])
        return False

    def close(self, ids: Sequence[int]) -> str:
        """The final text; sends what was held back."""
        text = self._base.decode(ids)
        if self._stop_text is not None:
            text = text.partition(self._stop_text)[0]
        if self._one_line:
            text = _first_line(text)
        text = text.rstrip("\ufffd")  # the limit, or the model, ended the text within a character
        self._send(text)
        return text

    def _held_back(self, text: str) -> int:
        """Length of the longest end of the text that may turn into the stop text."""
        stop = self._stop_text or ""
        return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)

    def _send(self, text: str) -> None:
        if self._on_token is not None and len(text) > len(self._sent) and text.startswith(self._sent):
            self._on_token(text[len(self._sent) :])
            self._sent = text
