"""A hundred damaged files of every kind: read, or refused in one line; nothing else, and nothing lost."""

from __future__ import annotations

import gzip
import random
import time
from pathlib import Path

import pytest
from document_makers import TEXT, damaged, html, mutated, sitemap, valid

from continual_learning.documents import Limits, read_documents
from continual_learning.documents.lists import gather, load_list
from continual_learning.documents.sitemap import read_sitemap
from continual_learning.documents.web import Page
from continual_learning.errors import DocumentError

COUNT = 100


@pytest.fixture(scope="module")
def originals() -> dict[str, bytes]:
    return valid()


@pytest.mark.parametrize("suffix", [".txt", ".md", ".jsonl", ".html", ".pdf", ".docx", ".epub", ".py"])
def test_damaged_files(tmp_path: Path, originals: dict[str, bytes], suffix: str) -> None:
    rng = random.Random(f"damage {suffix}")
    for number in range(COUNT):
        (tmp_path / f"{number:03}{suffix}").write_bytes(damaged(originals[suffix], number, rng))
    (tmp_path / f"whole{suffix}").write_bytes(originals[suffix])
    started = time.monotonic()
    documents, skipped = read_documents(tmp_path)
    assert time.monotonic() - started < 60
    whole = [d for d in documents if "whole" in d.source]
    assert whole and TEXT[:20] in whole[0].text + TEXT * (suffix in (".py", ".epub")), "the good file is read as ever"
    # nothing lost: each file gave a document or a reason, and every reason is one line that names what is wrong
    told = {Path(s.source.partition(", ")[0].rpartition(":")[0] or s.source.partition(", ")[0]).name for s in skipped}
    told |= {Path(s.source.partition(", ")[0]).name for s in skipped}
    read = {Path(d.source).name.partition(":")[0] for d in documents}
    assert {p.name for p in tmp_path.iterdir()} <= told | read
    assert all(s.reason.strip() and "\n" not in s.reason and len(s.reason) < 500 for s in skipped)
    assert all(d.text.strip() for d in documents)
    assert suffix in (".md", ".txt", ".py", ".html") or len({Path(s.source).name for s in skipped}) > COUNT / 10


@pytest.mark.parametrize("suffix", [".pdf", ".docx", ".epub"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"PK\x03\x04", b"%PDF-1.7\n", TEXT.encode(), html().encode()])
def test_files_that_are_something_else(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(DocumentError) as caught:
        read_documents(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_damaged_sitemaps() -> None:
    rng = random.Random("damage sitemap")
    text = sitemap(*(f"https://example.org/{i}.html" for i in range(5))).encode()
    refused = 0
    for number in range(COUNT):
        data = mutated(text, rng)
        data = data if number % 2 else mutated(gzip.compress(text), rng)
        try:
            pages, further = read_sitemap(Page("https://example.org/sitemap.xml", data, "text/xml", None), Limits())
            assert pages or further
        except DocumentError as error:
            assert "\n" not in str(error)
            refused += 1
    assert 0 < refused < COUNT


def test_damaged_lists(tmp_path: Path) -> None:
    rng = random.Random("damage list")
    text = f"title: T\nsources:\n  - {tmp_path}/a.txt\n  - {tmp_path}/b.txt\n".encode()
    (tmp_path / "a.txt").write_text("one")
    outcomes = set()
    for number in range(COUNT):
        path = tmp_path / f"{number}.yaml"
        path.write_bytes(mutated(text, rng))
        try:
            found = load_list(path)
        except DocumentError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
            continue
        places = [source for source in found.sources if source.startswith(f"{tmp_path}/")]  # and nobody's else
        documents, skipped = gather(places, Limits(pause=0))
        assert len(documents) + len(skipped) >= len(set(places))
        outcomes.add("read" if documents else "skipped")
    assert outcomes == {"refused", "read", "skipped"}
