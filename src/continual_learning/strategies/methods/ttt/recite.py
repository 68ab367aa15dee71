"""Reciting a passage from weights: each part is written after its own cue.

The weights hold what learning tied to the cues (`cues`). Recited text is only as good as its passage was learned:
the check after learning counts the parts that are recited word for word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import Generation, generate
from continual_learning.reading.pipeline import Opened, Recalled
from continual_learning.retrieval.parts import PartKey
from continual_learning.strategies.methods.ttt.cues import cue_ids
from continual_learning.strategies.methods.ttt.memory import passage_deltas, passage_parts, passage_spaces
from continual_learning.strategies.methods.ttt.recitations import Recitations
from continual_learning.text.chunking import joined
from continual_learning.types import TokenCallback


class Recitation:
    """The recall of ttt: the model, with the weights of the passage in place, writes its text."""

    verbatim = False

    def __init__(self, patched: Callable[[Opened], AbstractContextManager[None]]):
        self._patched = patched
        # Derived from the states that are asked about, and not part of any of them.
        self._recitations = Recitations()

    def whole(self, opened: Opened) -> str:
        """Return all parts, recited once as long as the very same weights are asked."""
        base, record = opened.base, opened.record
        deltas = passage_deltas(opened.state, *opened.passage)
        made_of = [tensor for by_name in deltas.values() for tensor in by_name.values()]

        def text() -> str:
            with self._patched(opened), base.unsteered():
                parts = passage_parts(opened.state, *opened.passage)
                spaced = passage_spaces(opened.state, *opened.passage, len(parts))
                return recite_all(base, record.title, parts, spaced)

        return self._recitations.get((base.fingerprint, *opened.passage, record.details["alpha"]), made_of, text)

    def windows(
        self, opened: Opened, windows: Sequence[range], max_new_tokens: int, on_token: TokenCallback | None
    ) -> list[Recalled]:
        """Return the parts of each window; those in several windows are recited once."""
        count = max((window.stop for window in windows), default=0)
        spaced = passage_spaces(opened.state, *opened.passage, count)
        with self._patched(opened):
            return recite(opened.base, opened.record.title, windows, max_new_tokens, on_token, spaced)


def recite(
    base: BaseModel,
    title: str,
    windows: Sequence[range],
    max_new_tokens: int,
    on_token: TokenCallback | None = None,
    spaced: Sequence[bool | None] = (),
) -> list[Recalled]:
    """Return what the model, with a passage's weights in place, writes after the cues of the parts of each window.

    Parts that are in several windows are recited once. Each piece has at most ``max_new_tokens``. ``on_token`` needs a
    single window. ``spaced``: for each part, whether a space belongs before it (see `joined`).
    """
    known = dict(enumerate(spaced))
    numbers = sorted({number for window in windows for number in window})
    if on_token is None:
        made = generate(base, [cue_ids(base, title, number) for number in numbers], max_new_tokens)
        recited = dict(zip(numbers, made, strict=True))
    else:
        recited = _stream(base, title, numbers, max_new_tokens, on_token, known)
    found = []
    for window in windows:
        pieces, spaces, tokens, seconds, log_sum = [], [], 0, 0.0, 0.0
        for number, generation in ((number, recited[number]) for number in window if number in recited):
            ids = generation.ids[: max_new_tokens - tokens]
            if ids:
                cut = len(ids) < len(generation.ids)
                pieces.append((base.decode(ids).rstrip("\ufffd") if cut else generation.text).strip())
                spaces.append(known.get(number))
            # A part that is cut has the mean of the whole: its tokens' own are not kept.
            log_sum += len(ids) * math.log(generation.probability or 1.0)
            tokens += len(ids)
            seconds += generation.seconds
        probability = math.exp(log_sum / tokens) if tokens else None
        found.append(Recalled(joined(pieces, spaces), tokens, seconds, probability))
    return found


def recite_all(base: BaseModel, title: str, keys: Sequence[PartKey], spaced: Sequence[bool | None] = ()) -> str:
    """Return all parts of a passage in order, as the model, with the passage's weights in place, writes them.

    Each is cut at its own length, which its key records: where the weights are unsure that a part ends, they write on.
    """
    made = generate(
        base, [cue_ids(base, title, number) for number in range(len(keys))], max(key.tokens for key in keys)
    )
    texts = [base.decode(one.ids[: key.tokens]) for one, key in zip(made, keys, strict=True)]
    return joined([text.strip(" \n\ufffd") for text in texts], spaced).strip()


def _stream(
    base: BaseModel,
    title: str,
    numbers: Sequence[int],
    max_new_tokens: int,
    on_token: TokenCallback,
    spaced: Mapping[int, bool | None],
) -> dict[int, Generation]:
    """Recite one part after another, sending each piece of text as it is written."""
    recited: dict[int, Generation] = {}
    left = max_new_tokens
    for number in numbers:
        if left < 1:
            break
        before = next((g.text for g in reversed(recited.values()) if g.tokens), "")
        on_piece = _after(before, on_token, spaced.get(number)) if before else on_token
        (recited[number],) = generate(base, [cue_ids(base, title, number)], left, on_piece)
        left -= recited[number].tokens
    return recited


def _after(before: str, on_token: TokenCallback, spaced: bool | None) -> TokenCallback:
    """Sends on what is written after another text, with a space between the two where one belongs."""
    begun = False

    def send(piece: str) -> None:
        nonlocal begun
        on_token(piece if begun else joined((before[-1], piece), (None, spaced))[1:])
        begun = True

    return send
