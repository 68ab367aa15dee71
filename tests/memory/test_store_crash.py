"""A kill, a failing call or a power cut at any moment leaves the version before or the version after."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from store_states import assert_same, make_state

from continual_learning.errors import StorageError
from continual_learning.memory.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]

KILLS = 60
SEED = 20240601


@pytest.fixture(autouse=True)
def _one_thread():
    """A forked child must not wait for threads that exist in its parent alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def in_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a forked child; its exit status, 0 if it came to the end."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# --- kill -9 at random moments


def window(number: int):
    """State ``number`` of an endless history: the last three documents."""
    return make_state(list(range(max(0, number - 2), number + 1)))


def test_kill_9_at_random_moments(tmp_path):
    chance = random.Random(SEED)
    root = tmp_path / "memories" / "work"
    acknowledged = -1
    cut_short = 0
    for _ in range(KILLS):
        reader, writer = os.pipe()
        first = acknowledged + 1
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reader)
                store = Store(root)
                for number in range(first, first + 10**6):
                    store.save(window(number), "learn", note=str(number))
                    if number % 5 == 0:
                        store.checkpoint("latest", overwrite=True)
                    if number % 7 == 0:
                        store.cleanup(keep=3, dry_run=False)
                    os.write(writer, struct.pack("<q", number))
            finally:
                os._exit(1)
        os.close(writer)
        if chance.random() < 0.7:  # most kills after a first save, some in the very first moments
            os.read(reader, 8)
            acknowledged = first
        time.sleep(chance.uniform(0.0, 0.04))
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        with open(reader, "rb") as pipe:
            printed = pipe.read()
        if printed:
            acknowledged = struct.unpack("<q", printed[len(printed) // 8 * 8 - 8 : len(printed) // 8 * 8])[0]

        store = Store(root)
        assert store.verify() == []
        head = store.head
        if head is None:
            assert acknowledged == -1
            continue
        number = int(head.note)
        # a save that was not acknowledged yet may be there, whole
        assert acknowledged <= number <= acknowledged + 1
        assert_same(store.load(), window(number))
        cut_short += number > acknowledged or any(store.cleanup().temporary)
        acknowledged = number
    assert acknowledged > KILLS // 2
    assert cut_short > 3  # the kills did hit saves, not only the time between them
    Store(root).cleanup(keep=1, dry_run=False)
    left = {p.name for p in root.rglob("*") if p.is_file()}
    assert not [name for name in left if name.endswith(".tmp")]
    assert_same(Store(root).load(), window(acknowledged))


# --- every single step, one after the other


class Steps:
    """Counts the calls that change the disk; call number ``at`` does ``act``, before its work or after it."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, act: Callable[[], None], before: bool):
        self.count, self.at, self.act, self.before = 0, at, act, before
        for name in ("mkdir", "open", "fsync", "replace", "unlink", "rename", "rmdir"):
            patch.setattr(os, name, self.wrap(getattr(os, name)))
        real = os.fdopen
        patch.setattr(os, "fdopen", lambda *args: HalfWriter(real(*args), self))

    def wrap(self, real: Callable) -> Callable:
        def call(*args, **kwargs):
            mine = self.reached()
            if mine and self.before:
                self.act()
            try:
                return real(*args, **kwargs)
            finally:
                if mine and not self.before:
                    self.act()

        return call

    def reached(self) -> bool:
        self.count += 1
        return self.count == self.at


@contextlib.contextmanager
def stepping(store: Store, at: int, act: Callable[[], None], before: bool) -> Iterator[Steps]:
    """Count the steps of the store's own work; taking the lock is the library's."""
    with store.lock(), pytest.MonkeyPatch.context() as patch:
        yield Steps(patch, at, act, before)


class HalfWriter:
    """A file whose write gets half way, or all the way, when its turn comes."""

    def __init__(self, file, steps: Steps):
        self.file, self.steps = file, steps

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        if not self.steps.reached():
            return self.file.write(data)
        self.file.write(data[: len(data) // 2 if self.steps.before else len(data)])
        self.file.flush()
        return self.steps.act()


OLD, NEW = make_state([1, 2]), make_state([1, 2, 3])
OPERATIONS = {
    "first save": lambda store: store.save(NEW, "learn"),
    "save": lambda store: store.save(NEW, "learn"),
    "rollback": lambda store: store.rollback("000004"),
    "import": lambda store: store.import_(store.root.parent / "new.zip"),
    "export": lambda store: store.export(store.root.parent / "old.zip", overwrite=True),
    "checkpoint": lambda store: store.checkpoint("first", overwrite=True),
    "cleanup": lambda store: store.cleanup(keep=1, dry_run=False),
    "delete": lambda store: store.delete(),
}


def prepare(tmp_path: Path, name: str) -> Path:
    """A folder with the memory ``work`` at OLD, and a history."""
    folder = tmp_path / "before"
    folder.mkdir()
    store = Store(folder / "work")
    if name != "first save":
        store.save(make_state([1]), "learn")
        store.checkpoint("first")
        store.save(make_state([7]), "learn")
        store.save(OLD, "learn")
        store.export(folder / "old.zip")
        store.save(NEW, "learn")
        store.export(folder / "new.zip")
        store.rollback()
    return folder


def check_sound(store: Store, name: str) -> bool:
    """Everything is as before or as after. Returns whether it is as after."""
    assert store.verify() == []
    if name == "delete" and not store.exists:
        assert not store.root.exists()
        return True
    if name == "first save" and store.head is None:
        assert store.history() == []
        return False
    is_new = name in ("first save", "save", "rollback", "import") and len(store.load().meta.documents) == 3
    assert_same(store.load(), NEW if is_new else OLD)
    history = [v.id[:6] for v in store.history()]
    if name == "first save":
        assert len(history) == 1
        return is_new
    named = len(store.load("first").meta.documents)
    if name == "checkpoint":
        is_new = named == 2
    if name == "cleanup":
        is_new = len(history) == 2
        assert {"000005", "000001"} <= set(history)
    else:
        assert history[is_new and name != "checkpoint" :] == ["000005", "000004", "000003", "000002", "000001"]
    assert named == (2 if name == "checkpoint" and is_new else 1)
    return is_new


def interruptions(tmp_path: Path, name: str) -> Iterator[tuple[Store, int, bool]]:
    """A fresh copy of the memory for every step of an operation: (memory, step, before or after it)."""
    folder, copy = prepare(tmp_path, name), tmp_path / "copy"

    def fresh() -> Store:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        return Store(copy / "work")

    store = fresh()
    with stepping(store, -1, lambda: None, before=True) as steps:
        OPERATIONS[name](store)
    assert steps.count >= 4
    for at in range(1, steps.count + 1):
        for before in (True, False):
            yield fresh(), at, before


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_kill_at_every_step(tmp_path, name):
    results = []
    for store, at, before in interruptions(tmp_path, name):

        def killed(store=store, at=at, before=before):
            mine = Store(store.root)  # a lock does not cross a fork
            with stepping(mine, at, lambda: os._exit(9), before):
                OPERATIONS[name](mine)

        assert in_child(killed) == 9
        store = Store(store.root)
        results.append(check_sound(store, name))
        if name == "export":
            assert_same(load_archive(store.root.parent / "old.zip", tmp_path), OLD)
        if not results[-1]:  # what the kill left does not stand in the way, nor in the history
            OPERATIONS[name](store)
            assert check_sound(store, name) is (name != "export")
        store.cleanup(dry_run=False)
        rubbish = [p.name for p in store.root.parent.rglob("*") if p.name.endswith((".tmp", ".deleted"))]
        assert rubbish == [] or name == "export"  # an export's own folder is not the memory's to clean
    # in time, the change comes once and stays
    assert results == sorted(results)
    assert results[0] is False
    assert results[-1] is (name != "export")


def load_archive(path: Path, tmp_path: Path):
    store = Store(tmp_path / "from-archive")
    store.import_(path)
    return store.load()


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_error_at_every_step(tmp_path, name):
    def fail():
        raise OSError(errno.ENOSPC, "No space left on device")

    for store, at, before in interruptions(tmp_path, name):
        if not before:
            continue  # a call that failed did nothing
        with stepping(store, at, fail, before), pytest.raises(StorageError, match="disk is full"):
            OPERATIONS[name](store)
        is_new = check_sound(store, name)
        assert not list(store.root.parent.rglob("*.tmp"))
        if name in ("save", "rollback", "import") and not is_new:
            report = store.cleanup(keep=100)
            assert (report.versions, report.objects) == ((), ())  # nothing half-saved takes up the disk


@pytest.mark.parametrize("name", OPERATIONS)
def test_ctrl_c_at_every_step(tmp_path, name):
    def interrupt():
        raise KeyboardInterrupt

    for store, at, before in interruptions(tmp_path, name):
        with stepping(store, at, interrupt, before), pytest.raises(KeyboardInterrupt):
            OPERATIONS[name](store)
        check_sound(store, name)
        with store.lock(timeout=0):  # it was given back
            pass


# --- power cuts


class Disk:
    """Knows what a power cut would lose: unflushed files, and names in folders that were not flushed."""

    def __init__(self, patch: pytest.MonkeyPatch, root: Path):
        self.root, self.paths = root, {}
        self.flushed: set[str] = set()
        self.pending: set[str] = set()
        self.checked = 0
        self.real = {name: getattr(os, name) for name in ("open", "fsync", "replace", "unlink", "mkdir")}
        for name in self.real:
            patch.setattr(os, name, getattr(self, name))

    def open(self, path, *args, **kwargs):
        descriptor = self.real["open"](path, *args, **kwargs)
        self.paths[descriptor] = os.fspath(path)
        return descriptor

    def fsync(self, descriptor):
        self.real["fsync"](descriptor)
        path = self.paths[descriptor]
        self.flushed.add(path)
        self.pending = {p for p in self.pending if os.path.dirname(p) != path}

    def replace(self, source, target):
        assert os.fspath(source) in self.flushed, f"{target} could be empty after a power cut"
        if Path(target).name == "HEAD" and self.pending:
            pytest.fail(f"HEAD could name what is not there: {self.pending}")
        self.real["replace"](source, target)
        self.pending.add(os.fspath(target))
        self.checked += 1

    def unlink(self, path, **kwargs):
        if Path(path).suffix == ".safetensors":
            manifests = [p for p in self.pending if p.endswith(".json")]
            assert not manifests, f"{manifests} could come back without {path}"
            self.checked += 1
        self.real["unlink"](path, **kwargs)
        self.pending.add(os.fspath(path))

    def mkdir(self, path, *args, **kwargs):
        self.real["mkdir"](path, *args, **kwargs)
        self.pending.add(os.fspath(path))


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n != "delete"])
def test_a_power_cut_loses_nothing_acknowledged(tmp_path, monkeypatch, name):
    store = Store(prepare(tmp_path, name) / "work")
    with store.lock(), monkeypatch.context() as patch:
        disk = Disk(patch, store.root)
        OPERATIONS[name](store)
        assert disk.pending == set()
        assert disk.checked > 0
