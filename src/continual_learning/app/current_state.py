"""The current state of a memory: one value, on disk or not, with its history, shared by threads and processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from continual_learning.errors import InputError, StorageError
from continual_learning.memory.state import State
from continual_learning.memory.store import Store


class CurrentState:
    """What a memory holds now. Reading gives the newest version, also where another process wrote it.

    Safe for use by several threads: they share ``lock``. Without a store, what it holds lasts as long as this object.
    """

    def __init__(self, empty: State, store: Store | None, check: Callable[[State], None]):
        """``check`` raises MismatchError for a state that does not fit the base and the strategy."""
        self.store = store
        self.lock = threading.RLock()
        self._check = check
        self._state = empty
        self._earlier: list[State] = []  # for rollback without a store
        self._version: str | None = None
        self.read()

    def read(self) -> State:
        """The newest state. Raises StorageError if another process has deleted the memory.

        Does not wait for a thread that is learning or answering: until it is done, its state is the newest.
        """
        if not self.lock.acquire(blocking=False):
            return self._state
        try:
            if self.store is None:
                return self._state
            head = self.store.head
            if head is None:
                if self._version is not None:
                    raise StorageError(
                        f"memory {self.store.name!r} was deleted while it was open; nothing of it is written back: "
                        "open it again to begin a new one"
                    )
            elif head.id != self._version:
                state = self.store.load()
                self._check(state)
                self._state, self._version = state, head.id
            return self._state
        finally:
            self.lock.release()

    @contextmanager
    def writing(self) -> Iterator[State]:
        """Hold the memory exclusively, among threads and processes; yields its newest state."""
        with self.lock:
            if self.store is None:
                yield self._state
            else:
                with self.store.lock():
                    yield self.read()

    def keep(self, state: State, action: str, note: str = "") -> None:
        """Make a state the current one, as a new version; within `writing`."""
        if self.store is None:
            self._earlier.append(self._state)
        else:
            if self._version is None and action != "init":
                # So that the first change can be undone like any other.
                self.store.save(self._state, "init", "nothing learned yet")
            # On disk first: if that fails, memory and disk still agree.
            self._version = self.store.save(state, action, note).id
        self._state = state

    def load(self, ref: str) -> None:
        """Make a checkpoint or version the current one."""
        store = self.needs_store(f"load {ref!r}")
        with self.writing():
            state = store.load(ref)
            self._check(state)
            self.keep(state, "load", ref)

    def rollback(self, ref: str | None = None) -> None:
        """Undo the last change, or go back to a version."""
        with self.lock:
            if self.store is not None:
                self.store.rollback(ref)  # also where the current version is damaged and cannot be read
                self.read()
            elif ref is not None:
                self.needs_store(f"rollback to {ref!r}")
            elif not self._earlier:
                raise InputError("nothing to roll back: this memory has no earlier version")
            else:
                self._state = self._earlier.pop()

    def needs_store(self, what: str) -> Store:
        """The store. Raises InputError without one."""
        if self.store is None:
            raise InputError(f"cannot {what}: this memory has no name; open it with Learner.open(memory='work')")
        return self.store
