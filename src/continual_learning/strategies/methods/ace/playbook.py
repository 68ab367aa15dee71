"""The playbook: strategies in words, each with an id that is never reused, and where it came from.

A playbook is a value; `patch` and `refine` make new ones from it. It is kept as JSON, and shown as Markdown in the
reference's line format (Zhang et al. 2025, arXiv 2510.04618, section 3): ``[str-00001] helpful=2 harmful=0 :: text``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from continual_learning.errors import InputError

FORMAT = 1
SECTIONS = {"general": "gen", "strategies": "str", "facts": "fct", "pitfalls": "pit"}
"""Name of each section, and how the ids of its entries begin. ``general`` applies to every question."""
TEXT_LIMIT = 600
"""Maximum number of characters of an entry."""
LOG_LIMIT = 200
"""Maximum number of patches that stay in the log, and can be undone."""

_ID = re.compile(r"[a-z]{3}-(\d{5,})")


@dataclass(frozen=True)
class Origin:
    """Where a part of an entry came from."""

    document: str = ""
    """Id of the document that was asked about; empty for a user's edit or questions on the whole memory."""
    question: str = ""
    loop: int = 0
    """Number of the loop, from 1; 0: none."""


@dataclass(frozen=True)
class Entry:
    """One strategy."""

    id: str
    section: str
    text: str
    origins: tuple[Origin, ...] = ()
    """Origins of its text, the first one first."""
    tallies: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Helpful and harmful counts by the document whose questions gave them, so that they can be taken back."""
    created_at: str = ""
    """UTC, ISO 8601."""
    created_step: int = 0
    """The playbook's step at that time; decisions depend on steps alone, never on times."""
    used_at: str | None = None
    """When it was last shown with a question in learning; None: never."""
    used_step: int = 0

    @property
    def helpful(self) -> int:
        """How often it helped."""
        return sum(good for good, _ in self.tallies.values())

    @property
    def harmful(self) -> int:
        """How often it did harm."""
        return sum(bad for _, bad in self.tallies.values())

    @property
    def number(self) -> int:
        """The number in its id."""
        return id_number(self.id)

    @property
    def line(self) -> str:
        """The entry in the reference's line format."""
        return f"[{self.id}] helpful={self.helpful} harmful={self.harmful} :: {self.text}"

    def tagged(self, document: str, tag: str) -> Entry:
        """Return the entry with one more count: ``helpful``, ``harmful``, or ``neutral``, which counts nothing."""
        good, bad = self.tallies.get(document, (0, 0))
        counted = (good + (tag == "helpful"), bad + (tag == "harmful"))
        return self if tag == "neutral" else replace(self, tallies={**self.tallies, document: counted})


@dataclass(frozen=True)
class Playbook:
    """Entries by id, in the order of their numbers, and the log of what was done to them."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    next_number: int = 1
    """The number of the next id; never lower than any that was ever assigned."""
    step: int = 0
    """How many patches have been applied."""
    log: tuple[dict[str, Any], ...] = ()
    """The last `LOG_LIMIT` patches, oldest first; see `patch.apply`."""

    def __len__(self) -> int:
        return len(self.entries)

    def entry(self, entry_id: str) -> Entry:
        """Return the entry. Raises InputError that names the existing ones."""
        if entry_id not in self.entries:
            known = ", ".join(list(self.entries)[:8]) or "none"
            raise InputError(f"no entry {entry_id!r} in the playbook; it has: {known}")
        return self.entries[entry_id]

    def with_entries(self, entries: Mapping[str, Entry]) -> Playbook:
        """Return this playbook with other entries, in the order of their numbers."""
        return replace(self, entries=dict(sorted(entries.items(), key=lambda item: item[1].number)))

    def without_document(self, document: str) -> Playbook:
        """Return the playbook without a document's traces: entries it had a part in, its counts, its log records."""
        gone = {e.id for e in self.entries.values() if any(o.document == document for o in e.origins)}
        kept = {
            e.id: replace(e, tallies={d: t for d, t in e.tallies.items() if d != document})
            for e in self.entries.values()
            if e.id not in gone
        }
        log = tuple(r for r in self.log if not _mentions(r, document, gone))
        return replace(self.with_entries(kept), log=log)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is its inverse."""
        entries = [
            {
                **asdict(e),
                "origins": [asdict(o) for o in e.origins],
                "tallies": {d: list(t) for d, t in e.tallies.items()},
            }
            for e in self.entries.values()
        ]
        return {
            "format": FORMAT,
            "next_number": self.next_number,
            "step": self.step,
            "entries": entries,
            "log": list(self.log),
        }

    @classmethod
    def from_json(cls, data: Any, at: str = "playbook") -> Playbook:
        """Inverse of `to_json`; ``at`` names the place in errors. Raises InputError for anything but a playbook."""
        try:
            if data["format"] != FORMAT:
                raise InputError(f"{at}: format {data['format']!r}; expected {FORMAT}: written by another version")
            found = [entry_from_json(item) for item in data["entries"]]
            entries = {e.id: e for e in found}
            next_number, step, log = int(data["next_number"]), int(data["step"]), tuple(dict(r) for r in data["log"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise InputError(f"{at}: not a playbook ({problem}); expected what `ace save NAME` wrote") from None
        if len(entries) != len(found):
            raise InputError(f"{at}: an id appears twice; expected every id once")
        highest = max((e.number for e in found), default=0)
        return cls(next_number=max(next_number, highest + 1), step=step, log=log[-LOG_LIMIT:]).with_entries(entries)

    def loaded_over(self, earlier: Playbook) -> Playbook:
        """Return this playbook as the successor of another, whose ids are not reused either.

        Ids are stable, so an entry with the same id but another text gets a new one: it is another entry.
        """
        number = max(self.next_number, earlier.next_number)
        entries: dict[str, Entry] = {}
        for entry in self.entries.values():
            before = earlier.entries.get(entry.id)
            if before is not None and before.text != entry.text and before.created_at != entry.created_at:
                entry = replace(entry, id=f"{SECTIONS[entry.section]}-{number:05d}")
                number += 1
            entries[entry.id] = entry
        # A log that refers to other ids would undo the wrong entries.
        log = self.log if entries.keys() == self.entries.keys() else ()
        loaded = replace(self, next_number=number, step=max(self.step, earlier.step), log=log)
        return loaded.with_entries(entries)

    def markdown(self) -> str:
        """Return the sections with their entries, for people."""
        lines = ["# Playbook", ""]
        for section in SECTIONS:
            held = [e for e in self.entries.values() if e.section == section]
            if held:
                lines += [f"## {section}", "", *(f"- {e.line}" for e in held), ""]
        return "\n".join(lines if len(lines) > 2 else [*lines, "No entry yet.", ""])


def id_number(entry_id: str) -> int:
    """Return the number in an id. Raises ValueError for anything else."""
    match = _ID.fullmatch(entry_id)
    if match is None:
        raise ValueError(f"id {entry_id!r}; expected one such as str-00001")
    return int(match[1])


def entry_from_json(item: Mapping[str, Any]) -> Entry:
    """Return an entry from plain JSON values. Raises KeyError, TypeError or ValueError."""
    fields = dict(item)
    fields["origins"] = tuple(Origin(**o) for o in item["origins"])
    fields["tallies"] = {str(d): (int(t[0]), int(t[1])) for d, t in item["tallies"].items()}
    entry = Entry(**fields)
    id_number(entry.id)
    if entry.section not in SECTIONS:
        raise ValueError(f"section {entry.section!r} of {entry.id}; expected one of {', '.join(SECTIONS)}")
    if not str(item["text"]).strip():
        raise ValueError(f"{entry.id} has no text")
    return entry


def entry_json(entry: Entry) -> dict[str, Any]:
    """Return an entry as plain JSON values."""
    data: dict[str, Any] = json.loads(json.dumps(asdict(entry)))
    return data


def difference(before: Playbook, after: Playbook) -> dict[str, Any]:
    """Return what changed from one playbook to another, as JSON values: ids added and removed, and changed fields."""
    changed = {}
    for entry_id in before.entries.keys() & after.entries.keys():
        old, new = before.entries[entry_id], after.entries[entry_id]
        fields = {
            name: [getattr(old, name), getattr(new, name)]
            for name in ("section", "text", "helpful", "harmful")
            if getattr(old, name) != getattr(new, name)
        }
        if fields:
            changed[entry_id] = fields
    return {
        "added": [entry_json(e) for i, e in after.entries.items() if i not in before.entries],
        "removed": [entry_json(e) for i, e in before.entries.items() if i not in after.entries],
        "changed": dict(sorted(changed.items())),
    }


def _mentions(record: Mapping[str, Any], document: str, ids: set[str]) -> bool:
    """Whether a log record holds anything of a document, or the text of an entry that is removed with it."""
    text = json.dumps(record)
    return (bool(document) and document in text) or any(entry_id in text for entry_id in ids)
