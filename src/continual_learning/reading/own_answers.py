"""What the base says by itself where a memory has nothing to say, without asking it the same thing twice.

Every check after learning asks the same general questions. What the unchanged base says to these is computed once, kept
on disk, and taken wherever a strategy leaves one of them to the base.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from continual_learning.io.files import make_folder, write_atomic
from continual_learning.io.paths import data_home
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.model.generation import current_control
from continual_learning.reading.plain import fitted_prompt, plain_answers
from continual_learning.types import Answer, TokenCallback

log = logging.getLogger(__name__)

_KEPT = ("question", "text", "tokens", "confidence")
"""What is kept of an answer of the base alone: all but what it took; everything else is at its default."""


def kept_answers(base: BaseModel, questions: Sequence[str], max_new_tokens: int) -> list[Answer]:
    """The answers of the unpatched base, as `plain_answers` gives them; the same questions are never asked again.

    They are kept in the data folder, under what they depend on, without the seconds that they took. A damaged file is
    written anew, and one that cannot be written is only missed. What is steered, or ended early, is not kept.
    """
    if base.steers:
        return plain_answers(base, questions, max_new_tokens)
    known = _known(base)
    places = [(question, max_new_tokens) for question in questions]
    if any(place not in known for place in places):
        path = _file(base, questions, max_new_tokens)
        found = _read(path, questions)
        if found is None:
            found = plain_answers(base, questions, max_new_tokens)
            control = current_control()
            if control is not None and control.ended:
                return found
            _write(path, found)
        known |= zip(places, (replace(answer, seconds=0.0) for answer in found), strict=True)
    return [known[place] for place in places]


def own_answers(
    base: BaseModel,
    questions: Sequence[str],
    max_new_tokens: int,
    on_token: TokenCallback | None = None,
    history: Sequence[Message] = (),
) -> list[Answer]:
    """As `plain_answers` of the unpatched base; what `kept_answers` has is not generated again."""
    known = {} if on_token or history or base.steers else _known(base)
    new = [question for question in questions if (question, max_new_tokens) not in known]
    made = iter(plain_answers(base, new, max_new_tokens, on_token, history) if new else ())
    return [known.get((question, max_new_tokens)) or next(made) for question in questions]


def _known(base: BaseModel) -> dict[tuple[str, int], Answer]:
    return base.remember("known answers", dict)


def _file(base: BaseModel, questions: Sequence[str], max_new_tokens: int) -> Path:
    prompts = [fitted_prompt(base, (), question, max_new_tokens)[0] for question in questions]
    version = importlib.metadata.version("continual-learning-slm")  # what decodes may change with it
    how = [version, base.fingerprint, str(base.model.dtype), base.linears.precision, max_new_tokens]
    key = json.dumps([*how, prompts])
    return data_home() / "own_answers" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def _read(path: Path, questions: Sequence[str]) -> list[Answer] | None:
    """The answers in a file; None if there is none, or none that can be used."""
    try:
        found = [Answer(**kept) for kept in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError):
        return None
    same = [answer.question for answer in found] == list(questions)
    return found if same and all(isinstance(answer.text, str) for answer in found) else None


def _write(path: Path, answers: Sequence[Answer]) -> None:
    kept = [{name: getattr(answer, name) for name in _KEPT} for answer in answers]
    try:
        make_folder(path.parent)
        write_atomic(path, json.dumps(kept, ensure_ascii=False).encode(), sync=False)
    except OSError as error:
        log.warning("%s: %s; the base's own answers to the general questions are not kept", path, error.strerror)
