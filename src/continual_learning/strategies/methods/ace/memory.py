"""What ACE stores in a state: the playbook and the held-out questions, in the metadata, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from continual_learning.errors import InputError
from continual_learning.memory.state import State
from continual_learning.strategies.methods.ace.playbook import Playbook
from continual_learning.types import QuestionAnswer

VALIDATION_SHARE = 0.5
"""Share of the given questions that are held out: judging by few questions lets noise through."""


@dataclass(frozen=True)
class Task:
    """A question, with the document that it is about if that is known. Without answers it is not graded."""

    qa: QuestionAnswer
    document: str = ""

    @property
    def labelled(self) -> bool:
        """Whether the right answer is known."""
        return bool(self.qa.answers)


def playbook_of(extra: Mapping[str, Any]) -> Playbook:
    """Return the playbook in a state's ``meta.extra``; an empty one if nothing was learned. Raises InputError."""
    return Playbook.from_json(extra["playbook"], "the memory's playbook") if "playbook" in extra else Playbook()


def with_playbook(state: State, playbook: Playbook) -> State:
    """Return the state with this playbook."""
    extra = {**state.meta.extra, "playbook": playbook.to_json()}
    return State(state.tensors, replace(state.meta, extra=extra))


def held_out_of(state: State) -> list[Task]:
    """Return the questions that no playbook was learned from, by document in the order they were learned."""
    kept: Mapping[str, list[list[Any]]] = state.meta.extra.get("held_out", {})
    found = []
    for document, rows in kept.items():
        found += [Task(QuestionAnswer(str(q), tuple(a)), document) for q, a in rows]
    return found


def with_held_out(state: State, document: str, tasks: Sequence[Task]) -> State:
    """Return the state with the held-out questions of one document."""
    rows = [[task.qa.question, list(task.qa.answers)] for task in tasks]
    extra = {**state.meta.extra, "held_out": {**state.meta.extra.get("held_out", {}), document: rows}}
    return State(state.tensors, replace(state.meta, extra=extra))


def without_document(state: State, document: str) -> State:
    """Return the state without a document's chunks, held-out questions and traces in the playbook."""
    extra = dict(state.meta.extra)
    for name in ("chunks", "held_out"):
        if name in extra:
            extra[name] = {key: value for key, value in extra[name].items() if key != document}
            if not extra[name] and name == "held_out":
                del extra[name]
    if "playbook" in extra:
        extra["playbook"] = playbook_of(extra).without_document(document).to_json()
    return State(state.tensors, replace(state.meta, extra=extra))


def split(tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
    """Split into tasks to learn from and tasks to hold out, in turn, so that both come from the whole text.

    Raises InputError for fewer than two: nothing could be held out.
    """
    if len(tasks) < 2:
        raise InputError(f"{len(tasks)} question to learn from; expected at least 2, so that one can be held out")
    wanted = min(max(1, round(len(tasks) * VALIDATION_SHARE)), len(tasks) - 1)
    held = {int((i + 0.5) * len(tasks) / wanted) for i in range(wanted)}
    return [t for i, t in enumerate(tasks) if i not in held], [t for i, t in enumerate(tasks) if i in held]
