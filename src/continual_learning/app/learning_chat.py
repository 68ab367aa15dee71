"""A conversation whose weights learn as it proceeds: the session behind `continual-learning nested`.

Each turn is first learned and then answered. The state is a value, so taking an adaptation back is keeping the one
before it, and a reset is the empty one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from continual_learning.documents import Document, Limits, Skipped, read_documents
from continual_learning.errors import InputError
from continual_learning.memory.state import State
from continual_learning.memory.store import Store, Version, check_compatible
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.settings.schema import NestedSettings
from continual_learning.strategies.base import Strategy
from continual_learning.text.checks import check_text
from continual_learning.types import Answer, LearnReport, ProgressCallback, TokenCallback

UNDO_DEPTH = 8
"""Adaptations that `undo` can take back, each the size of a checkpoint in main memory."""
# What a saved version holds in addition to the weights.
_HISTORY, _UNLEARNED = "history", "unlearned"


@dataclass(frozen=True)
class Turn:
    """The result of one turn."""

    answer: Answer
    adaptation: LearnReport | None
    """None if there was nothing to learn at this turn."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class OneShot:
    """Result of adapting on a text, asking, resetting, and asking again."""

    before: Answer
    adaptation: LearnReport
    adapted: Answer
    after_reset: Answer
    gone: bool
    """Whether after the reset the answer is the base's and nothing is left in the memory."""


class NestedSession:
    """One conversation with one memory."""

    def __init__(
        self,
        base: BaseModel,
        strategy: Strategy[Any],
        store: Store,
        settings: NestedSettings,
        max_new_tokens: int,
        limits: Limits | None = None,
    ):
        self.base = base
        self.strategy = strategy
        self.store = store
        self.settings = settings
        self.max_new_tokens = max_new_tokens
        self.limits = limits
        self.state = strategy.init(base)
        self.history: list[Message] = []
        self.turns = 0
        self.saved = True
        """Whether what is learned now is on disk."""
        self.unlearned: list[Message] = []
        """What was said since the last adaptation, learned at the next: it survives `clear`, `save` and `load`."""
        self._undo: deque[State] = deque(maxlen=UNDO_DEPTH)

    # -- talking -----------------------------------------------------------------------------------

    def say(self, text: str, on_token: TokenCallback | None = None) -> Turn:
        """One turn. Interrupted or failed, it leaves weights and conversation as they were."""
        if not check_text(text, "the message").strip():
            raise InputError(f"the message {text!r} is empty; expected some words")
        before, unlearned, undo = self.state, list(self.unlearned), list(self._undo)
        try:
            said: Message = {"role": "user", "content": text}
            if self.settings.adapt_every_turn:
                self.unlearned.append(said)
            due = self.settings.adapt_every_turn and (self.turns + 1) % self.settings.adapt_every_n_turns == 0
            adaptation = self._adapt() if due else None
            [answer] = self.strategy.answer(
                self.base, self.state, [text], self.max_new_tokens, on_token, self._window()
            )
        except BaseException:
            self.state, self.unlearned = before, unlearned
            self._undo = deque(undo, maxlen=UNDO_DEPTH)
            raise
        reply: Message = {"role": "assistant", "content": answer.text}
        self.history += [said, reply]
        if self.settings.adapt_every_turn and not self.settings.adapt_user_only:
            self.unlearned.append(reply)
        self.turns += 1
        return Turn(answer, adaptation, tuple(self._automatic()))

    def learn_file(
        self, path: str, progress: ProgressCallback | None = None
    ) -> tuple[list[LearnReport], list[Skipped]]:
        """Learn a file or a folder: all of it as one adaptation for `undo`, or, interrupted, none of it.

        Also returns what was skipped, with the reason. Raises DocumentError for what cannot be read.
        """
        documents, skipped = read_documents(Path(path) if path.strip() else path, limits=self.limits, progress=progress)
        state, reports = self.state, []
        for document in documents:
            state, report = self.strategy.learn(self.base, state, document, progress=progress)
            reports.append(report)
        if state is not self.state:
            self._change(state)
        return reports, skipped

    def one_shot(self, text: str, question: str | None = None) -> OneShot:
        """Adapt on a text, answer it (or the question), reset, and answer again."""
        asked = question or text
        self.reset()
        before = self._ask(asked)
        state, report = self.strategy.learn(self.base, self.state, Document(text))
        self.state = state
        adapted = self._ask(asked)
        self.reset()
        again = self._ask(asked)
        return OneShot(before, report, adapted, again, again.text == before.text and not self.state.tensors)

    # -- the conversation and the weights ----------------------------------------------------------

    def clear(self) -> None:
        """Forget the conversation; the weights stay, and so does what is still to be learned."""
        self.history.clear()

    def reset(self) -> None:
        """Forget the conversation and all that was learned. `undo` takes that back."""
        self._change(self.strategy.init(self.base))
        self.clear()
        self.unlearned.clear()
        self.turns = 0

    def undo(self) -> bool:
        """Take the last adaptation (or `load`, or `reset`) back, exactly; False if there is none to take back.

        The conversation is unchanged.
        """
        if not self._undo:
            return False
        self.state = self._undo.pop()
        self.saved = False
        return True

    def save(self, name: str | None = None) -> Version:
        """Save the weights, the levels' pending input and the conversation under a name, by default the time."""
        chosen = name or datetime.now().strftime("saved-%Y%m%d-%H%M%S-%f")
        kept = {_HISTORY: [dict(m) for m in self.history], _UNLEARNED: [dict(m) for m in self.unlearned]}
        extra = {**self.state.meta.extra, **kept}
        with self.store.lock():
            taken = self.store.checkpoints().get(chosen)
            if taken is not None:
                raise InputError(f"checkpoint {chosen!r} is version {taken.id} already; choose another name")
            self.store.save(State(self.state.tensors, replace(self.state.meta, extra=extra)), "save", chosen)
            version = self.store.checkpoint(chosen)
        self.saved = True
        return version

    def load(self, name: str, with_history: bool = False) -> State:
        """Load saved weights; the conversation is then empty, unless ``with_history``.

        Raises UnknownNameError, and MismatchError for another model or strategy.
        """
        found = self.store.load(name)
        check_compatible(found, self.strategy.name, self.base.fingerprint, self.base.name)
        extra = {k: v for k, v in found.meta.extra.items() if k not in (_HISTORY, _UNLEARNED)}
        state = State(found.tensors, replace(found.meta, extra=extra))
        self.strategy.check_settings(state)  # says now whether it was begun with others
        self._change(state)
        self.clear()
        self.unlearned = _messages(found.meta.extra.get(_UNLEARNED, []))
        if with_history:
            self.history = _messages(found.meta.extra.get(_HISTORY, []))
        self.saved = True
        return state

    def why(self, count: int = 10) -> list[dict[str, Any]]:
        """The turns that changed the weights most: see `Strategy.changes`."""
        return sorted(self.strategy.changes(self.state), key=lambda row: -row["distance"])[:count]

    def stats(self) -> dict[str, Any]:
        """Facts about the conversation and the levels: JSON values."""
        return {
            "turns": self.turns,
            "messages_in_prompt": len(self._window()),
            "messages_to_learn": len(self.unlearned),
            "learned": len(self.state.meta.documents),
            "tokens_learned": sum(d.tokens for d in self.state.meta.documents),
            "bytes": self.state.bytes,
            "undo": len(self._undo),
            "saved": self.saved,
            **self.strategy.describe(self.base, self.state),
        }

    # -- inside ------------------------------------------------------------------------------------

    def _window(self) -> list[Message]:
        """The messages of the last ``context_window`` turns."""
        count = 2 * self.settings.context_window
        return self.history[-count:] if count else []

    def _ask(self, text: str) -> Answer:
        [answer] = self.strategy.answer(self.base, self.state, [text], self.max_new_tokens)
        return answer

    def _adapt(self) -> LearnReport | None:
        """Learn what was said since the last adaptation, with ``cumulative_context`` the rest of the window too."""
        said = self.unlearned
        if self.settings.cumulative_context:
            *earlier, newest = said
            window = self._window()
            said = [*(m for m in earlier if not any(m is w for w in window)), *window, newest]
        mine = [m for m in said if m["role"] == "user" or not self.settings.adapt_user_only]
        text = "\n\n".join(m["content"] for m in mine)
        self.unlearned = []
        if not text.strip():
            return None
        started = time.perf_counter()
        state, report = self.strategy.learn(self.base, self.state, Document(text, source=f"turn {self.turns + 1}"))
        if report.accepted:
            self._change(state)
        return replace(report, seconds=time.perf_counter() - started)

    def _change(self, state: State) -> None:
        self._undo.append(self.state)
        self.state = state
        self.saved = False

    def _automatic(self) -> list[str]:
        """Save and reset automatically, with a note about each."""
        notes = []
        if self.settings.auto_save_every_n and self.turns % self.settings.auto_save_every_n == 0:
            version = self.save()
            notes.append(f"saved as {version.checkpoints[-1] if version.checkpoints else version.id}")
        if self.settings.auto_reset_threshold and self.turns >= self.settings.auto_reset_threshold:
            turns = self.turns
            self.reset()
            notes.append(f"the weights start over after {turns} turns (auto_reset_threshold); /undo takes that back")
        return notes


def _messages(stored: Sequence[dict[str, str]]) -> list[Message]:
    return [{"role": m["role"], "content": m["content"]} for m in stored]
