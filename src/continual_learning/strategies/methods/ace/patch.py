"""Patches: ADD, UPDATE, MERGE, REMOVE, TAG. Validated first, applied as a whole, logged, undone.

Changes are minimal and never a rewrite, so that nothing is lost to a model that summarises (Zhang et al. 2025, arXiv
2510.04618, section 3.1). All five are implemented. An operation that cannot be applied is left out with the reason,
and the others are applied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from continual_learning.chat_models.servers import without_secrets
from continual_learning.errors import InputError
from continual_learning.strategies.methods.ace.playbook import (
    LOG_LIMIT,
    SECTIONS,
    TEXT_LIMIT,
    Entry,
    Origin,
    Playbook,
    entry_from_json,
    entry_json,
)

NOBODY = Origin()
TAGS = ("helpful", "harmful", "neutral")

FindDuplicate = Callable[[str, Iterable[Entry]], Entry | None]
"""The entry that says the same as a text, if there is one."""


@dataclass(frozen=True)
class Operation:
    """One change."""

    type: str
    """ADD, UPDATE, MERGE, REMOVE or TAG."""
    ids: tuple[str, ...] = ()
    """The entries concerned: none for ADD, two or more for MERGE, else one."""
    section: str = ""
    """Section of ADD; also of MERGE, where empty means that of the first entry."""
    content: str = ""
    """The new text of ADD, UPDATE and MERGE."""
    tag: str = ""
    """Tag of TAG: helpful, harmful or neutral."""
    origin: Origin = NOBODY


@dataclass(frozen=True)
class Rejected:
    """An operation that was not applied."""

    operation: Operation
    reason: str


@dataclass(frozen=True)
class Applied:
    """The result of a patch."""

    playbook: Playbook
    applied: tuple[Operation, ...]
    rejected: tuple[Rejected, ...]
    duplicates: tuple[str, ...]
    """Ids of entries that an ADD would have repeated; they got the new origin instead."""

    @property
    def changed(self) -> bool:
        """Whether anything changed."""
        return bool(self.applied)


def apply(
    playbook: Playbook,
    operations: Sequence[Operation],
    find_duplicate: FindDuplicate | None = None,
    used: Iterable[str] = (),
    now: str | None = None,
) -> Applied:
    """Apply a patch's operations in their order. If none of them can be applied, the playbook does not change.

    ``used``: entries that were shown with the questions the patch came from. The log gets one record: the operations,
    what was rejected and why, and every touched entry as it was before, from which `undo` restores it.
    """
    at = now or datetime.now(UTC).isoformat(timespec="seconds")
    step = playbook.step + 1
    work = _Work(playbook, step, at, find_duplicate)
    applied: list[Operation] = []
    rejected: list[Rejected] = []
    for operation in operations:
        origin = replace(operation.origin, question=_clean(operation.origin.question))
        operation = replace(operation, content=_clean(operation.content), origin=origin)
        problem = work.problem(operation)
        if problem:
            rejected.append(Rejected(operation, problem))
        else:
            work.do(operation)
            applied.append(operation)
    for entry_id in used:
        if entry_id in work.entries:
            work.put(replace(work.entries[entry_id], used_at=at, used_step=step))
    if not applied and not work.before:
        return Applied(playbook, (), tuple(rejected), ())
    record = {
        "step": step,
        "at": at,
        "operations": [operation_json(o) for o in applied],
        "rejected": [{**operation_json(r.operation), "reason": r.reason} for r in rejected],
        "before": {i: None if e is None else entry_json(e) for i, e in work.before.items()},
    }
    changed = replace(
        playbook.with_entries(work.entries),
        next_number=work.next_number,
        step=step,
        log=(*playbook.log, record)[-LOG_LIMIT:],
    )
    return Applied(changed, tuple(applied), tuple(rejected), tuple(work.duplicates))


def apply_all(
    playbook: Playbook, operations: Sequence[Operation], find_duplicate: FindDuplicate | None = None
) -> Applied:
    """As `apply`, for a user's own patch: raises InputError at the first operation that cannot be applied."""
    done = apply(playbook, operations, find_duplicate)
    if done.rejected:
        raise InputError(f"{done.rejected[0].operation.type}: {done.rejected[0].reason}; nothing was changed")
    return done


def undo(playbook: Playbook) -> Playbook:
    """Return the playbook before its last patch; ids assigned since are not reused. InputError for an empty log."""
    if not playbook.log:
        raise InputError("the playbook's log is empty; nothing can be undone")
    record = playbook.log[-1]
    entries = dict(playbook.entries)
    for entry_id, before in record["before"].items():
        if before is None:
            entries.pop(entry_id, None)
        else:
            entries[entry_id] = entry_from_json(before)
    return replace(playbook.with_entries(entries), log=playbook.log[:-1])


def operation_json(operation: Operation) -> dict[str, Any]:
    """Return an operation as plain JSON values, without empty fields."""
    data = {k: v for k, v in asdict(operation).items() if v}
    data["ids"] = list(operation.ids)
    return data


class _Work:
    """A playbook while a patch is applied to it."""

    def __init__(self, playbook: Playbook, step: int, at: str, find_duplicate: FindDuplicate | None):
        self.entries = dict(playbook.entries)
        self.next_number = playbook.next_number
        self.before: dict[str, Entry | None] = {}
        self.duplicates: list[str] = []
        self._step, self._at, self._find_duplicate = step, at, find_duplicate

    def problem(self, operation: Operation) -> str:
        """Return why the operation cannot be applied; empty if it can."""
        kind, ids = operation.type, operation.ids
        if kind not in ("ADD", "UPDATE", "MERGE", "REMOVE", "TAG"):
            return f"no operation {kind!r}; expected ADD, UPDATE, MERGE, REMOVE or TAG"
        unknown = [i for i in ids if i not in self.entries]
        if unknown:
            return f"no entry {unknown[0]!r}"
        wanted = {"ADD": len(ids) == 0, "MERGE": len(ids) >= 2}.get(kind, len(ids) == 1)
        if not wanted or len(set(ids)) < len(ids):
            return f"{kind} of {len(set(ids))} entries"
        if kind in ("ADD", "UPDATE", "MERGE"):
            if not operation.content:
                return f"{kind} without content"
            if len(operation.content) > TEXT_LIMIT:
                return f"{len(operation.content)} characters; expected at most {TEXT_LIMIT}"
        if (kind == "ADD" or operation.section) and operation.section not in SECTIONS:
            return f"no section {operation.section!r}; expected one of {', '.join(SECTIONS)}"
        if kind == "TAG" and operation.tag not in TAGS:
            return f"tag {operation.tag!r}; expected one of {', '.join(TAGS)}"
        if kind == "UPDATE" and self.entries[ids[0]].text == operation.content:
            return "UPDATE to the text that it has"
        return ""

    def do(self, operation: Operation) -> None:
        if operation.type == "ADD":
            self._add(operation)
        elif operation.type == "UPDATE":
            entry = self.entries[operation.ids[0]]
            self.put(replace(entry, text=operation.content, origins=_joined(entry.origins, (operation.origin,))))
        elif operation.type == "MERGE":
            self._merge(operation)
        elif operation.type == "REMOVE":
            self._remove(operation.ids[0])
        else:
            self.put(self.entries[operation.ids[0]].tagged(operation.origin.document, operation.tag))

    def put(self, entry: Entry) -> None:
        self.before.setdefault(entry.id, self.entries.get(entry.id))
        self.entries[entry.id] = entry

    def _add(self, operation: Operation) -> None:
        same = self._find_duplicate(operation.content, self.entries.values()) if self._find_duplicate else None
        if same is not None:
            self.duplicates.append(same.id)
            self.put(replace(same, origins=_joined(same.origins, (operation.origin,))))
        else:
            self.put(self._new(operation.section, operation.content, (operation.origin,)))

    def _merge(self, operation: Operation) -> None:
        merged = [self.entries[i] for i in operation.ids]
        origins: tuple[Origin, ...] = ()
        tallies: dict[str, tuple[int, int]] = {}
        for entry in merged:
            origins = _joined(origins, entry.origins)
            for document, (good, bad) in entry.tallies.items():
                old = tallies.get(document, (0, 0))
                tallies[document] = (old[0] + good, old[1] + bad)
            self._remove(entry.id)
        new = self._new(
            operation.section or merged[0].section, operation.content, _joined(origins, (operation.origin,))
        )
        last = max(merged, key=lambda entry: entry.used_step)
        self.put(replace(new, tallies=tallies, used_at=last.used_at, used_step=last.used_step))

    def _remove(self, entry_id: str) -> None:
        self.before.setdefault(entry_id, self.entries[entry_id])
        del self.entries[entry_id]

    def _new(self, section: str, text: str, origins: tuple[Origin, ...]) -> Entry:
        entry_id = f"{SECTIONS[section]}-{self.next_number:05d}"
        self.next_number += 1
        return Entry(entry_id, section, text, origins, created_at=self._at, created_step=self._step)


def _joined(first: tuple[Origin, ...], more: tuple[Origin, ...]) -> tuple[Origin, ...]:
    return (*first, *(o for o in dict.fromkeys(more) if o not in first))


def _clean(text: str) -> str:
    """Return one line without secrets: entries are kept, shown and shared."""
    return without_secrets(" ".join(text.split()))
