"""One version as one file: export, and import of what cannot be trusted."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_states import assert_same, contents, damage_flip, make_state, one_line

from continual_learning.errors import (
    ContinualLearningError,
    CorruptMemoryError,
    InputError,
    MismatchError,
    UnsafeNameError,
)
from continual_learning.memory.state import State
from continual_learning.memory.store import Store
from continual_learning.memory.store.manifest import Manifest


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open("work", home=tmp_path)


def test_export_and_import(store, tmp_path):
    store.save(make_state([1]), "learn")
    exported = store.save(make_state([1, 2]), "learn")
    path = store.export(tmp_path / "out.zip")
    other = Store.open("copy", tmp_path)
    version = other.import_(path)
    assert (version.action, version.parent, version.note) == ("import", None, f"out.zip, version {exported.id}")
    assert_same(other.load(), make_state([1, 2]))
    assert other.verify() == []
    with zipfile.ZipFile(path) as archive:
        assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}
    assert store.export(tmp_path / "again.zip").read_bytes() == path.read_bytes()
    other.import_(store.export(tmp_path / "first.zip", ref="000001"))
    assert_same(other.load(), make_state([1]))
    other.rollback()
    assert_same(other.load(), make_state([1, 2]))


def test_export_never_overwrites_unasked(store, tmp_path):
    store.save(make_state([1]), "learn")
    path = tmp_path / "out.zip"
    path.write_text("precious")
    with pytest.raises(InputError, match="overwrite"):
        store.export(path)
    assert path.read_text() == "precious"
    assert zipfile.is_zipfile(store.export(path, overwrite=True))
    for bad in (tmp_path, tmp_path / "missing" / "x.zip"):
        with pytest.raises(InputError):
            store.export(bad, overwrite=True)


def test_a_damaged_version_is_not_exported(store, tmp_path):
    store.save(make_state([1, 2]), "learn")
    damage_flip(sorted((store.root / "objects").iterdir())[-1])
    with pytest.raises(CorruptMemoryError):
        store.export(tmp_path / "out.zip")
    assert not list(tmp_path.glob("*.zip*")) and not list(tmp_path.glob(".*.tmp"))


def test_import_of_another_base_is_refused(store, tmp_path):
    store.save(make_state([1]), "learn")
    path = store.export(tmp_path / "out.zip")
    other = Store.open("other", tmp_path)
    mine = make_state([7])
    other.save(State(mine.tensors, replace(mine.meta, base_fingerprint="0" * 64)), "learn")
    before = contents(other.root)
    with pytest.raises(MismatchError, match="fingerprint"):
        other.import_(path)
    assert contents(other.root) == before


def rezip(source: Path, target: Path, change, compression: int = zipfile.ZIP_STORED) -> Path:
    """Copy an archive; ``change`` edits its entries, a dict of name to bytes."""
    with zipfile.ZipFile(source) as archive:
        entries = {i.filename: archive.read(i) for i in archive.infolist()}
    change(entries)
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return target


def edit_object(entries):
    name = next(n for n in entries if n.startswith("objects/"))
    entries[name] = entries[name][:-1] + bytes([entries[name][-1] ^ 1])


def evil_manifest(entries):
    """A right checksum over an object name that leaves the folder."""
    manifest = Manifest.from_bytes(entries["manifest.json"], "manifest.json")
    part = next(iter(manifest.parts))
    stored = {**manifest.parts[part], "sha256": "../../../../evil"}
    entries["manifest.json"] = replace(manifest, parts={part: stored}).to_bytes()


def evil_page(entries):
    """A right checksum over a page's name that leaves the folder."""
    manifest = Manifest.from_bytes(entries["manifest.json"], "manifest.json")
    entries["manifest.json"] = replace(manifest, state={"$object": "../../../../evil", "bytes": 1}).to_bytes()


BAD_ARCHIVES = {
    "zip slip": (lambda e: e.update({"../../evil": b"x"}), UnsafeNameError),
    "absolute": (lambda e: e.update({"/evil": b"x"}), UnsafeNameError),
    "windows": (lambda e: e.update({"..\\evil": b"x"}), UnsafeNameError),
    "drive": (lambda e: e.update({"C:evil": b"x"}), UnsafeNameError),
    "extra": (lambda e: e.update({"more": b"x"}), CorruptMemoryError),
    "no manifest": (lambda e: e.pop("manifest.json"), CorruptMemoryError),
    "no object": (lambda e: e.pop(next(n for n in e if n.startswith("objects/"))), CorruptMemoryError),
    "edited object": (edit_object, CorruptMemoryError),
    "short object": (
        lambda e: e.update({n: d[:9] for n, d in e.items() if n.startswith("objects/")}),
        CorruptMemoryError,
    ),
    "edited manifest": (
        lambda e: e.update({"manifest.json": e["manifest.json"].replace(b"ttt", b"tto")}),
        CorruptMemoryError,
    ),
    "evil manifest": (evil_manifest, CorruptMemoryError),
    "evil page": (evil_page, CorruptMemoryError),
}


@pytest.mark.parametrize("kind", BAD_ARCHIVES)
def test_a_bad_archive_leaves_the_memory_untouched(store, tmp_path, kind):
    change, expected = BAD_ARCHIVES[kind]
    store.save(make_state([1, 2]), "learn")
    bad = rezip(store.export(tmp_path / "good.zip"), tmp_path / "bad.zip", change)
    before = contents(tmp_path)
    with pytest.raises(expected) as error:
        store.import_(bad)
    one_line(error)
    assert contents(tmp_path) == before
    assert not (tmp_path.parent / "evil").exists()


def test_a_compressed_archive_is_refused_unread(store, tmp_path):
    store.save(make_state([1]), "learn")
    good = store.export(tmp_path / "good.zip")
    bad = rezip(good, tmp_path / "bad.zip", lambda e: e.update({"bomb": bytes(10**6)}), zipfile.ZIP_DEFLATED)
    with pytest.raises(CorruptMemoryError, match="compressed"):
        store.import_(bad)


def test_an_object_of_another_size_is_refused_unread(store, tmp_path, monkeypatch):
    def longer(entries):
        entries.update({n: d + bytes(10**6) for n, d in entries.items() if n.startswith("objects/")})

    store.save(make_state([1]), "learn")
    bad = rezip(store.export(tmp_path / "good.zip"), tmp_path / "bad.zip", longer)
    names = []
    read = zipfile.ZipFile.read
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda self, name: names.append(name) or read(self, name))
    with pytest.raises(CorruptMemoryError, match="bytes, expected"):
        store.import_(bad)
    assert names == ["manifest.json"]


@pytest.mark.parametrize("data", [b"", b"PK", b"text", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_archive_is_refused(store, tmp_path, data):
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(CorruptMemoryError):
        store.import_(tmp_path / "bad.zip")
    with pytest.raises(InputError, match="no such file"):
        store.import_(tmp_path / "missing.zip")
    assert not store.exists


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255), cut=st.booleans())
def test_any_damage_to_an_archive_is_refused_or_harmless(store, tmp_path, place, value, cut):
    good = tmp_path / "good.zip"
    if not good.exists():
        store.save(make_state([1], width=2), "learn")
        store.export(good)
    data = bytearray(good.read_bytes())
    at = int(place * len(data))
    data[at] ^= value
    bad = tmp_path / "bad.zip"
    bad.write_bytes(data[:at] if cut else data)
    try:
        store.import_(bad)
    except ContinualLearningError:
        pass
    else:  # a bit of zip housekeeping, such as a time, that nobody reads
        assert not cut
    assert_same(store.load(), make_state([1], width=2))
