"""Any sequence of operations: HEAD loads, the history is right, named states load bit for bit."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_states import assert_same, make_state

from continual_learning.errors import InputError, UnknownNameError
from continual_learning.memory.store import Store

pytestmark = pytest.mark.slow

NAMES = st.sampled_from(["a", "b", "lunch"])


class StoreMachine(RuleBasedStateMachine):
    """The store beside a model of it in plain Python: ids in order, what each holds, where undo leads."""

    @initialize()
    def start(self):
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.open("work", self.folder)
        self.content: dict[str, tuple[int, ...]] = {}
        self.undo: dict[str, str | None] = {}
        self.order: list[str] = []
        self.names: dict[str, str] = {}

    def teardown(self):
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def add(self, version, numbers: tuple[int, ...], undo: str | None):
        assert version.parent == (self.order[-1] if self.order else None)
        assert version.documents == len(numbers)
        self.content[version.id], self.undo[version.id] = numbers, undo
        self.order.append(version.id)

    @rule(numbers=st.lists(st.integers(0, 5), unique=True, max_size=3))
    def save(self, numbers):
        undo = self.order[-1] if self.order else None
        self.add(self.store.save(make_state(numbers, width=2), "learn"), tuple(numbers), undo)

    @rule()
    def rollback(self):
        target = self.undo[self.order[-1]] if self.order else None
        if target not in self.content:
            with pytest.raises(UnknownNameError):
                self.store.rollback()
        else:
            self.add(self.store.rollback(), self.content[target], self.undo[target])

    @precondition(lambda self: self.order)
    @rule(data=st.data())
    def rollback_to(self, data):
        ref = data.draw(st.sampled_from([*self.content, *self.names]))
        target = self.names.get(ref, ref)
        self.add(self.store.rollback(ref), self.content[target], self.undo[target])

    @precondition(lambda self: self.order)
    @rule(name=NAMES, overwrite=st.booleans())
    def checkpoint(self, name, overwrite):
        if not overwrite and self.names.get(name, self.order[-1]) != self.order[-1]:
            with pytest.raises(InputError):
                self.store.checkpoint(name)
        else:
            self.store.checkpoint(name, overwrite=overwrite)
            self.names[name] = self.order[-1]

    @rule(name=NAMES)
    def delete_checkpoint(self, name):
        if self.names.pop(name, None) is None:
            with pytest.raises(UnknownNameError):
                self.store.delete_checkpoint(name)
        else:
            self.store.delete_checkpoint(name)

    @rule(keep=st.integers(0, 4))
    def cleanup(self, keep):
        kept = {*self.order[max(0, len(self.order) - keep) :], *self.order[-1:], *self.names.values()}
        dropped = [i for i in reversed(self.order) if i not in kept]
        report = self.store.cleanup(keep=keep, dry_run=False)
        assert list(report.versions) == dropped
        self.order = [i for i in self.order if i in kept]
        self.content = {i: numbers for i, numbers in self.content.items() if i in kept}

    @rule()
    def reopen(self):
        self.store = Store(self.store.root)

    @invariant()
    def agrees(self):
        if not hasattr(self, "store"):
            return
        assert self.store.verify() == []
        assert [v.id for v in self.store.history()] == self.order[::-1]
        assert {n: v.id for n, v in self.store.checkpoints().items()} == self.names
        head = self.store.head
        assert (head.id if head else None) == (self.order[-1] if self.order else None)
        for ref, version_id in [*self.names.items(), *((i, i) for i in self.order)]:
            assert_same(self.store.load(ref), make_state(list(self.content[version_id]), width=2))


class TestStoreMachine(StoreMachine.TestCase):
    settings = settings(max_examples=25, stateful_step_count=20, deadline=None, database=None, derandomize=True)
