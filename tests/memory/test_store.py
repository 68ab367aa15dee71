"""The memory on disk: saving, loading, names, checkpoints, rollback, differences, cleanup."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from store_states import ALL_DTYPES, assert_same, contents, make_state, one_line

from continual_learning.errors import (
    InputError,
    UnknownNameError,
    UnsafeNameError,
)
from continual_learning.memory.state import State
from continual_learning.memory.store import Store
from continual_learning.memory.store.folder import MemoryFolder

UNSAFE = ["../../x", "/etc/passwd", "", ".", "..", ".hidden", "a/b", "a\\b", "C:x", "a b", "x" * 65, "é", "a\n", "a\0b"]
RESERVED = ["con", "NUL.txt", "Com1", "lpt9", "name."]


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open("work", home=tmp_path)


# --- saving and loading


def test_round_trip_is_exact_for_every_dtype_and_shape(store):
    tensors = {}
    for dtype in ALL_DTYPES:
        tensors[f"p-{dtype}/matrix"] = (torch.arange(12).view(3, 4) % 2).to(dtype)
        tensors[f"p-{dtype}/scalar"] = torch.tensor(1, dtype=dtype)
        tensors[f"p-{dtype}/empty"] = torch.empty(0, 3, dtype=dtype)
    tensors["odd/values"] = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    tensors["odd/__metadata__"] = torch.ones(1)
    whole = torch.arange(10.0)
    tensors["odd/view"], tensors["odd/overlap"], tensors["odd/transposed"] = whole[:6], whole[4:], whole.view(2, 5).t()
    state = State(tensors, make_state([1, 2]).meta)
    store.save(state, "learn")
    loaded = store.load()
    assert_same(loaded, state)
    assert loaded.digest() == state.digest()
    loaded.tensors["odd/view"].add_(1)  # what is loaded is the caller's own
    assert_same(store.load(), state)


def test_a_state_without_tensors_round_trips(store):
    store.save(make_state([]), "clear")
    assert_same(store.load(), make_state([]))


def test_equal_tensors_give_equal_files_in_any_order(tmp_path):
    state = make_state([1, 2, 3])
    shuffled = State(dict(reversed(list(state.tensors.items()))), state.meta)
    for name, value in (("a", state), ("b", shuffled)):
        Store.open(name, tmp_path).save(value, "learn")
    a, b = (contents(tmp_path / "memories" / name / "objects") for name in "ab")
    assert a == b
    assert len(a) == 3


def test_versions_share_the_parts_that_did_not_change(store):
    store.save(make_state([1, 2, 3]), "learn")
    first = set((store.root / "objects").iterdir())
    store.save(make_state([1, 2, 3, 4]), "learn")
    assert len(first) == 3
    assert len(set((store.root / "objects").iterdir()) - first) == 1


def test_version_record(store):
    first = store.save(make_state([1]), "learn", note="one")
    second = store.save(make_state([1, 2]), "learn")
    assert (first.parent, first.undo, first.action, first.note, first.documents) == (None, None, "learn", "one", 1)
    assert (second.parent, second.undo, second.documents) == (first.id, first.id, 2)
    assert second.bytes == sum(p.stat().st_size for p in (store.root / "objects").iterdir())
    assert first.id.startswith("000001-") and second.id.startswith("000002-")
    assert first.created_at.endswith("+00:00")
    assert store.head == second
    assert store.history() == [second, first]
    assert Store(store.root).history() == [second, first]


@pytest.mark.parametrize(
    "extra",
    [{"x": float("nan")}, {"x": (1, 2)}, {1: "x"}, {"x": object()}],
    ids=["nan", "tuple", "int key", "object"],
)
def test_metadata_that_json_cannot_hold_is_refused(store, extra):
    store.save(make_state([1]), "learn")
    before = contents(store.root)
    with pytest.raises(ValueError, match="JSON"):
        store.save(make_state([1], extra=extra), "learn")
    assert contents(store.root) == before


def test_a_file_name_that_is_not_utf8_survives(store):
    state = make_state([1], extra={"path": os.fsdecode(b"caf\xe9.txt")})
    store.save(state, "learn", note=os.fsdecode(b"\xff"))
    assert_same(store.load(), state)
    assert store.head.note == os.fsdecode(b"\xff")


@pytest.mark.parametrize("name", ["plain", "/x", "part/"])
def test_a_tensor_name_without_a_part_is_refused(store, name):
    with pytest.raises(ValueError, match="<part>/<name>"):
        store.save(State({name: torch.ones(1)}, make_state([]).meta), "learn")
    assert store.head is None


def test_an_empty_memory(store, tmp_path):
    assert store.head is None
    assert (store.history(), store.checkpoints(), store.verify(), store.bytes_on_disk()) == ([], {}, [], 0)
    with pytest.raises(UnknownNameError, match="empty"):
        store.load()
    with pytest.raises(UnknownNameError, match="empty"):
        store.checkpoint("x")
    assert not store.root.exists()  # looking creates no memory
    assert Store.list(tmp_path) == []


def test_list_and_open(tmp_path, monkeypatch):
    monkeypatch.setenv("CONTINUAL_LEARNING_HOME", str(tmp_path))
    for name in ("work", "home", "A.b_c-1"):
        Store.open(name).save(make_state([1]), "learn")
    assert Store.list() == Store.list(tmp_path) == ["A.b_c-1", "home", "work"]
    assert Store.open("work", create=False).root == tmp_path / "memories" / "work"
    with pytest.raises(UnknownNameError, match="did you mean 'work'"):
        Store.open("wrok", create=False)
    Store.open("home").delete()
    assert Store.list() == ["A.b_c-1", "work"]
    assert not [p for p in (tmp_path / "memories").iterdir() if p.name.endswith(".deleted")]
    with pytest.raises(UnknownNameError, match="no memory 'home'"):
        Store.open("home").delete()


# --- names


@pytest.mark.parametrize("name", UNSAFE + RESERVED)
def test_unsafe_names_are_refused(store, tmp_path, name):
    store.save(make_state([1]), "learn")
    before = contents(tmp_path)
    with pytest.raises(UnsafeNameError) as error:
        Store.open(name, tmp_path)
    assert "expected 1 to 64 letters" in one_line(error)
    with pytest.raises(UnsafeNameError):
        store.checkpoint(name)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("ref", ["../../x", "nothing", "", "000002", "/etc/passwd"])
def test_an_unknown_reference(store, ref):
    store.save(make_state([1]), "learn")
    store.checkpoint("lunch")
    with pytest.raises(UnknownNameError) as error:
        store.load(ref)
    assert "lunch" in one_line(error)


# --- checkpoints and references


def test_checkpoints(store):
    first = store.save(make_state([1]), "learn")
    assert store.checkpoint("before-lunch").checkpoints == ("before-lunch",)
    assert store.checkpoint("before-lunch").id == first.id  # naming the same version again is no conflict
    second = store.save(make_state([2]), "learn")
    with pytest.raises(InputError, match="overwrite"):
        store.checkpoint("before-lunch")
    assert_same(store.load("before-lunch"), make_state([1]))
    store.checkpoint("also")
    store.checkpoint("before-lunch", overwrite=True)
    assert_same(store.load("before-lunch"), make_state([2]))
    assert {n: v.id for n, v in store.checkpoints().items()} == {"also": second.id, "before-lunch": second.id}
    assert store.head.checkpoints == store.history()[0].checkpoints == ("also", "before-lunch")
    store.delete_checkpoint("also")
    with pytest.raises(UnknownNameError, match="before-lunch"):
        store.delete_checkpoint("also")
    with pytest.raises(UnknownNameError):
        store.load("also")


def test_references_by_id_and_unique_start(store):
    ids = [store.save(make_state([n]), "learn").id for n in range(3)]
    assert_same(store.load(ids[0]), make_state([0]))
    assert_same(store.load("000002"), make_state([1]))
    with pytest.raises(UnknownNameError, match="matches 3"):
        store.load("0000")
    with pytest.raises(InputError, match="version id"):
        store.checkpoint(ids[0])


# --- rollback


def test_repeated_rollback_goes_further_back(store):
    a, b, c = (store.save(make_state(list(range(n))), "learn") for n in (1, 2, 3))
    back = store.rollback()
    assert (back.action, back.parent, back.undo, back.note) == ("rollback", c.id, a.id, f"to {b.id}")
    assert_same(store.load(), make_state([0, 1]))
    store.rollback()
    assert_same(store.load(), make_state([0]))
    with pytest.raises(UnknownNameError, match="nothing before"):
        store.rollback()
    assert_same(store.load(), make_state([0]))
    assert len(store.history()) == 5  # nothing was rewritten
    store.rollback(c.id)  # forward again, by name
    assert_same(store.load(), make_state([0, 1, 2]))
    store.rollback()
    assert_same(store.load(), make_state([0, 1]))
    assert store.verify() == []


def test_learning_after_a_rollback_rolls_back_to_it(store):
    store.save(make_state([0]), "learn")
    store.save(make_state([0, 1]), "learn")
    store.rollback()
    store.save(make_state([0, 9]), "learn")
    store.rollback()
    assert_same(store.load(), make_state([0]))
    with pytest.raises(UnknownNameError, match="nothing before"):
        store.rollback()


def test_rollback_to_a_checkpoint_and_to_what_was_cleaned_up(store):
    for n in range(4):
        store.save(make_state([n]), "learn")
        if n == 1:
            store.checkpoint("second")
    store.cleanup(keep=1, dry_run=False)
    with pytest.raises(UnknownNameError, match="cleaned up"):
        store.rollback()
    store.rollback("second")
    assert_same(store.load(), make_state([1]))


# --- difference


def test_diff_counts_documents_and_distances(store):
    meta = make_state([]).meta
    x = torch.tensor([3.0, 4.0])
    doc_1, doc_2 = make_state([1]).meta.documents, make_state([2]).meta.documents
    a = State(
        {"same/x": x, "turned/x": x, "turned/rows": torch.tensor([1]), "gone/x": x}, replace(meta, documents=doc_1)
    )
    b = State(
        {"same/x": x, "turned/x": torch.tensor([-4.0, 3.0]), "turned/rows": torch.tensor([7]), "new/x": 2 * x},
        replace(meta, documents=doc_2),
    )
    a_id, b_id = store.save(a, "learn").id, store.save(b, "learn").id
    found = store.diff(a_id, b_id)
    assert (found["a"], found["b"]) == (a_id, b_id)
    assert [d["id"] for d in found["documents"]["added"]] == ["doc-0002"]
    assert [d["id"] for d in found["documents"]["removed"]] == ["doc-0001"]
    parts = found["parts"]
    assert {p: v["status"] for p, v in parts.items()} == {
        "gone": "removed",
        "new": "added",
        "same": "same",
        "turned": "changed",
    }
    assert (parts["same"]["l2"], parts["same"]["tensors_changed"]) == (0.0, 0)
    assert parts["same"]["cosine"] == pytest.approx(1)
    assert (parts["turned"]["tensors"], parts["turned"]["tensors_changed"]) == (2, 2)
    assert parts["turned"]["l2"] == pytest.approx(50**0.5)  # |(3,4) - (-4,3)|; the rows are indices
    assert parts["turned"]["cosine"] == pytest.approx(0)
    assert (parts["new"]["l2"], parts["new"]["cosine"]) == (pytest.approx(10), None)
    assert (parts["gone"]["l2"], parts["gone"]["cosine"]) == (pytest.approx(5), None)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_diff_of_another_shape_counts_as_removed_and_added(store):
    meta = make_state([]).meta
    store.save(State({"p/x": torch.ones(4)}, meta), "learn")
    store.save(State({"p/x": torch.ones(5)}, meta), "learn")
    assert store.diff("000001", "000002")["parts"]["p"]["l2"] == pytest.approx(3)


# --- cleanup


def test_cleanup_keeps_the_newest_head_and_checkpoints(store):
    for n in range(6):
        store.save(make_state([n]), "learn")
        if n == 1:
            store.checkpoint("keep-me")
    temporary = store.root / "objects" / ".x.safetensors.1.aa.tmp"
    temporary.write_bytes(b"12345")
    before = contents(store.root)
    planned = store.cleanup(keep=2)
    assert planned.dry_run and contents(store.root) == before
    assert [v[:6] for v in planned.versions] == ["000004", "000003", "000001"]
    assert (len(planned.objects), planned.temporary) == (3, (temporary.name,))
    size = store.bytes_on_disk()
    done = store.cleanup(keep=2, dry_run=False)
    assert replace(done, dry_run=True) == planned
    assert store.bytes_on_disk() == size - done.bytes
    assert [v.id[:6] for v in store.history()] == ["000006", "000005", "000002"]
    for ref, n in ((None, 5), ("000005", 4), ("keep-me", 1)):
        assert_same(store.load(ref), make_state([n]))
    assert store.verify() == []
    assert store.cleanup(keep=2).bytes == 0
    assert len(store.cleanup(keep=0, dry_run=False).versions) == 1
    assert_same(store.load(), make_state([5]))
    with pytest.raises(InputError, match="-1"):
        store.cleanup(keep=-1)


def test_reading_does_not_import_torch(tmp_path):
    Store.open("work", tmp_path).save(make_state([1]), "learn")
    code = (
        "import sys; from pathlib import Path; from continual_learning.memory.store import Store;"
        "s = Store.open('work', Path(sys.argv[1])); assert s.head and len(s.history()) == 1 and not s.verify();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)


def _learned(store: Store, count: int) -> int:
    """Bytes on disk after learning ``count`` short documents, one version each."""
    for number in range(1, count + 1):
        texts = {f"doc-{n:04d}": [f"{n} " * 200] for n in range(number)}
        store.save(make_state(list(range(number)), extra={"chunks": texts}), "learn")
    return store.bytes_on_disk()


@pytest.mark.slow
def test_bytes_on_disk_grow_with_the_documents_and_not_with_their_square(tmp_path):
    few, many = (_learned(Store.open(f"m{count}", tmp_path), count) for count in (40, 160))
    assert many < 6 * few  # 16 times as much where each version lists everything


def test_a_text_leaves_the_disk_with_its_document(tmp_path):
    store = Store.open("m", tmp_path)
    secret = "The eels of Lund are called Biko. " * 20
    store.save(make_state([1, 2], extra={"texts": {"doc-0001": secret, "doc-0002": "kept " * 200}}), "learn")
    store.save(make_state([2], extra={"texts": {"doc-0002": "kept " * 200}}), "forget")
    store.cleanup(keep=0, dry_run=False)
    assert not [path for path in store.root.rglob("*") if path.is_file() and b"Biko" in path.read_bytes()]


def test_a_memory_of_the_first_layout_opens_and_its_next_version_is_of_the_new_one(tmp_path):
    store = Store.open("m", tmp_path)
    state = make_state([1], extra={"texts": {"doc-0001": "long " * 300}})
    store.save(state, "learn")
    _make_first_layout(store)
    assert_same(store.load(), state)
    assert store.verify() == [] and store.history()[0].documents == 1
    store.export(tmp_path / "old.zip")
    assert_same(_imported(tmp_path), state)
    store.save(state, "learn")
    head = store.head
    assert head is not None and json.loads((store.root / "versions" / f"{head.id}.json").read_bytes())["layout"] == 2
    assert_same(store.load(), state)


def _imported(home):
    other = Store.open("other", home)
    other.import_(home / "old.zip")
    return other.load()


def _make_first_layout(store: Store) -> None:
    """Rewrite the only version as the first layout had it: all metadata in the manifest, no pages."""
    head = store.head
    path = store.root / "versions" / f"{head.id}.json"
    fields = json.loads(path.read_bytes())
    content = MemoryFolder(store.root).content(head.id)
    fields |= {"layout": 1, "state": content.meta, "parts": {n: asdict(p) for n, p in content.parts.items()}}
    for name in ("documents", "bytes", "checksum"):
        del fields[name]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps({**fields, "checksum": hashlib.sha256(text.encode()).hexdigest()}))
    for page in store.root.glob("objects/*.json"):
        page.unlink()
