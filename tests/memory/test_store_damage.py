"""Damaged files, other formats, a memory in use, a failing or full disk."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from store_states import assert_same, contents, damage_cut, damage_empty, damage_flip, make_state, one_line

from continual_learning.errors import (
    CorruptMemoryError,
    MismatchError,
    StorageError,
)
from continual_learning.io import files
from continual_learning.memory.state import FORMAT_VERSION
from continual_learning.memory.store import Store, check_compatible, codec
from continual_learning.memory.store.manifest import Manifest


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open("work", home=tmp_path)


DAMAGES = [damage_cut, damage_flip, damage_empty, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", ["object", "manifest", "HEAD"])
def test_damage_is_named_and_rollback_repairs_it(store, damage, which):
    first = store.save(make_state([1]), "learn")
    kept = set((store.root / "objects").iterdir())
    second = store.save(make_state([1, 2]), "learn")
    path = {
        "object": (set((store.root / "objects").iterdir()) - kept).pop(),
        "manifest": store.root / "versions" / f"{second.id}.json",
        "HEAD": store.root / "HEAD",
    }[which]
    damage(path)
    with pytest.raises(CorruptMemoryError) as error:
        store.load()
    text = one_line(error)
    assert path.name in text
    assert "'continual-learning memory rollback work'" in text
    intact = second if which == "HEAD" else first
    assert f"newest intact version is {intact.id}" in text
    assert any(path.name in problem or second.id in problem for problem in store.verify())
    if which != "HEAD":
        assert_same(store.load(first.id), make_state([1]))
    store.rollback()
    assert_same(store.load(), make_state([1, 2] if which == "HEAD" else [1]))
    assert store.head.undo == intact.undo
    unreadable = which == "manifest" and path.exists()
    assert [v.id for v in store.history() if v.action == "damaged"] == [second.id] * unreadable  # not hidden
    report = store.cleanup(keep=10, dry_run=False)
    assert report.versions == (second.id,) * unreadable
    if which != "object":
        assert store.verify() == []


def test_saving_again_heals_a_damaged_object(store):
    store.save(make_state([1, 2]), "learn")
    damage_flip(sorted((store.root / "objects").iterdir())[0])
    assert store.verify() != []
    store.save(make_state([1, 2]), "learn")
    assert store.verify() == []


def test_a_part_shared_by_all_versions_is_damaged(store):
    store.save(make_state([1]), "learn")
    store.save(make_state([1, 2]), "learn")
    for path in (store.root / "objects").iterdir():
        damage_cut(path)
    with pytest.raises(CorruptMemoryError, match="no version is intact"):
        store.load()
    with pytest.raises(CorruptMemoryError, match="no version"):
        store.rollback()


@pytest.mark.parametrize("field, value", [("note", "other"), ("parent", "000000-aaaaaa"), ("action", "clear")])
def test_an_edited_manifest_is_noticed(store, field, value):
    version = store.save(make_state([1]), "learn")
    path = store.root / "versions" / f"{version.id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(CorruptMemoryError, match="edited"):
        store.load()
    assert [v.action for v in store.history()] == ["damaged"]


@pytest.mark.parametrize(
    "data", [b"null", b"[]", b"3", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"layout":1,"checksum":0}']
)
def test_a_manifest_of_another_shape_is_damage(store, data):
    version = store.save(make_state([1]), "learn")
    (store.root / "versions" / f"{version.id}.json").write_bytes(data)
    with pytest.raises(CorruptMemoryError):
        store.load()


def test_a_renamed_manifest_is_noticed(store):
    first, second = (store.save(make_state([n]), "learn") for n in (1, 2))
    versions = store.root / "versions"
    (versions / f"{first.id}.json").replace(versions / f"{second.id}.json")
    with pytest.raises(CorruptMemoryError, match="renamed"):
        store.load()


@pytest.mark.parametrize("damage", [damage_cut, damage_empty])
def test_damaged_checkpoints_do_not_touch_versions(store, damage):
    store.save(make_state([1]), "learn")
    store.checkpoint("x")
    damage(store.root / "checkpoints.json")
    with pytest.raises(CorruptMemoryError, match=r"checkpoints\.json"):
        store.load("x")
    with pytest.raises(CorruptMemoryError, match=r"checkpoints\.json"):
        store.cleanup(dry_run=False)
    assert_same(store.load(), make_state([1]))


def test_a_save_on_a_lost_head_is_refused(store):
    store.save(make_state([1]), "learn")
    (store.root / "HEAD").unlink()
    before = contents(store.root)
    with pytest.raises(CorruptMemoryError, match="HEAD is missing"):
        store.save(make_state([2]), "learn")
    assert contents(store.root) == before


def test_cleanup_stops_at_a_damaged_checkpoint(store):
    version = store.save(make_state([1]), "learn")
    store.checkpoint("x")
    store.save(make_state([2]), "learn")
    damage_flip(store.root / "versions" / f"{version.id}.json")
    before = contents(store.root)
    with pytest.raises(CorruptMemoryError, match="checkpoint 'x'"):
        store.cleanup(keep=1, dry_run=False)
    assert contents(store.root) == before


# --- formats


def with_state_format(store: Store, number: int) -> None:
    """Rewrite HEAD's manifest as if it had been written with another state format."""
    path = store.root / "versions" / f"{store.head.id}.json"
    manifest = Manifest.from_bytes(path.read_bytes(), path.name)
    path.write_bytes(replace(manifest, state={**manifest.state, "format_version": number}).to_bytes())


def test_a_newer_format_is_a_mismatch_that_says_upgrade(store):
    store.save(make_state([1]), "learn")
    with_state_format(store, FORMAT_VERSION + 1)
    with pytest.raises(MismatchError, match="upgrade") as error:
        store.load()
    assert str(FORMAT_VERSION + 1) in one_line(error)


def test_a_newer_layout_is_a_mismatch_that_says_upgrade(store):
    version = store.save(make_state([1]), "learn")
    path = store.root / "versions" / f"{version.id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "layout": 99}))
    with pytest.raises(MismatchError, match="upgrade"):
        store.load()


def test_an_older_format_is_migrated_on_load(store, monkeypatch):
    store.save(make_state([1]), "learn")
    with_state_format(store, FORMAT_VERSION - 1)
    with pytest.raises(MismatchError, match="cannot be converted"):
        store.load()

    def migrate(meta, tensors):
        return {**meta, "format_version": FORMAT_VERSION, "extra": {"migrated": True}}, {
            name: tensor * 2 if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
        }

    monkeypatch.setitem(codec.MIGRATIONS, FORMAT_VERSION - 1, migrate)
    loaded = store.load()
    assert loaded.meta.extra == {"migrated": True}
    assert torch.equal(loaded.tensors["doc-0001/3.down"], 2 * make_state([1]).tensors["doc-0001/3.down"])
    store.save(loaded, "learn")
    monkeypatch.undo()
    assert_same(store.load(), loaded)


def test_check_compatible():
    state = make_state([1])
    check_compatible(state, "ttt", "f" * 64, "the same weights under another name")
    with pytest.raises(MismatchError) as error:
        check_compatible(state, "lora", "f" * 64, "tiny")
    assert "'ttt'" in one_line(error) and "'lora'" in one_line(error)
    with pytest.raises(MismatchError) as error:
        check_compatible(state, "ttt", "e" * 64, "other")
    assert all(s in one_line(error) for s in ("'tiny'", "'other'", "f" * 12, "e" * 12))


# --- locks and disks


HOLD = """
import sys
from pathlib import Path
from continual_learning.memory.store import Store
with Store.open("work", Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_memory_in_use_by_another_process(store, tmp_path):
    store.save(make_state([1]), "learn")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StorageError) as error, store.lock(timeout=0.05):
            pass
        assert "'work'" in one_line(error) and "another process holds it" in one_line(error)
        assert_same(store.load(), make_state([1]))  # reading needs no lock
        holder.kill()
        holder.wait()
        store.save(make_state([2]), "learn")  # a killed process does not hold it for ever
    finally:
        holder.kill()
        holder.communicate()


def test_the_lock_nests_and_excludes_threads(store):
    found = []

    def other_thread():
        with pytest.raises(StorageError) as error, store.lock(timeout=0.05):
            pass
        found.append(str(error.value))

    with store.lock():
        store.save(make_state([1]), "learn")
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
    assert len(found) == 1
    with store.lock(timeout=0):
        pass


@pytest.mark.parametrize(
    "code, words",
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied"), (errno.EIO, "")],
)
@pytest.mark.parametrize("call", ["open", "fsync", "replace", "write"])
def test_a_failing_disk_leaves_the_last_version(store, monkeypatch, code, words, call):
    store.save(make_state([1]), "learn")
    before = contents(store.root)

    def fail(*_args, **_kwargs):
        raise OSError(code, os.strerror(code), "/somewhere/file")

    with store.lock(), monkeypatch.context() as patch:  # the lock is taken before the disk fails
        if call == "write":
            real = os.fdopen

            class HalfWriter:
                def __init__(self, *args):
                    self.file = real(*args)

                def __enter__(self):
                    return self

                def __exit__(self, *_error):
                    self.file.close()

                def write(self, data):
                    self.file.write(data[: len(data) // 2])
                    fail()

            patch.setattr(files.os, "fdopen", HalfWriter)
        else:
            patch.setattr(files.os, call, fail)
        with pytest.raises(StorageError) as error:
            store.save(make_state([1, 2]), "learn")
        assert words in one_line(error) and "'work'" in one_line(error)
    assert contents(store.root) == before  # no temporary, no half version
    assert_same(store.load(), make_state([1]))
    store.save(make_state([1, 2]), "learn")
    assert store.verify() == []


def test_a_disk_that_is_really_full(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", tmp_path], check=False)
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        store = Store.open("work", tmp_path)
        saved = 0
        with pytest.raises(StorageError, match="disk is full"):
            for saved in range(50):
                store.save(make_state(list(range(saved + 1)), width=64), "learn")
        assert saved > 2
        assert_same(store.load(), make_state(list(range(saved)), width=64))
        assert store.verify() == []
        assert store.cleanup().temporary == ()
        assert_same(store.load("000001"), make_state([0], width=64))
    finally:
        subprocess.run(["umount", tmp_path], check=True)
