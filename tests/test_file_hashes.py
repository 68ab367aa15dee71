"""Hashes of files are kept until the file changes."""

from __future__ import annotations

import hashlib
import os

from continual_learning.io import file_hashes
from continual_learning.io.file_hashes import file_sha256

OLD = 1_600_000_000


def test_an_unchanged_file_is_hashed_once_and_a_changed_one_again(tmp_path, monkeypatch):
    file, known = tmp_path / "weights", tmp_path / "cache" / "hashes.json"
    hashed = []
    digest = hashlib.file_digest
    monkeypatch.setattr(file_hashes.hashlib, "file_digest", lambda *given: hashed.append(1) or digest(*given))
    file.write_bytes(b"one")
    os.utime(file, (OLD, OLD))
    assert file_sha256(file, known) == file_sha256(file, known) == hashlib.sha256(b"one").hexdigest()
    assert len(hashed) == 1
    file.write_bytes(b"two")  # the same size, a moment ago: not trusted until it has settled
    assert file_sha256(file, known) == file_sha256(file, known) == hashlib.sha256(b"two").hexdigest()
    assert len(hashed) == 3


def test_damaged_hashes_are_ignored(tmp_path):
    file, known = tmp_path / "weights", tmp_path / "hashes.json"
    file.write_bytes(b"one")
    known.write_text("[1")
    assert file_sha256(file, known) == hashlib.sha256(b"one").hexdigest()
