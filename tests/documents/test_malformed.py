"""A hundred damaged files of every kind: read, or refused in one line; nothing else, and nothing lost."""

from __future__ import annotations

import gzip
import random
import time
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from document_makers import TEXT, damaged, html, mutated, sitemap, valid
from sites import Site

from continual_learning.documents import Limits, read_documents
from continual_learning.documents.lists import gather, load_list
from continual_learning.documents.web import Page
from continual_learning.errors import DocumentError

COUNT = 100


@pytest.fixture(scope="module")
def originals() -> dict[str, bytes]:
    return valid()


@pytest.mark.parametrize(
    "suffix",
    [
        ".txt",
        ".md",
        ".jsonl",
        ".html",
        ".pdf",
        ".docx",
        ".epub",
        ".py",
        ".csv",
        ".json",
        ".ipynb",
        ".odt",
        ".rtf",
        ".eml",
    ],
)
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
    assert (
        suffix in (".md", ".txt", ".py", ".html", ".csv", ".rtf", ".eml")
        or len({Path(s.source).name for s in skipped}) > COUNT / 10
    )


@pytest.mark.parametrize("suffix", [".pdf", ".docx", ".epub", ".odt"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"PK\x03\x04", b"%PDF-1.7\n", TEXT.encode(), html().encode()])
def test_files_that_are_something_else(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(DocumentError) as caught:
        read_documents(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_damaged_sitemaps(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random("damage sitemap")
    root = "https://example.org"
    text = sitemap(*(f"{root}/{i}.txt" for i in range(5))).encode()
    served: dict[str, bytes] = {}

    def page(url: str, limits: Limits) -> Page:
        data = served.get(url, TEXT.encode())
        return Page(url, data, "text/xml" if url in served else "text/plain", None)

    monkeypatch.setattr("continual_learning.documents.sources.fetch", page)
    refused = 0
    for number in range(COUNT):
        served[f"{root}/sitemap.xml"] = mutated(text, rng) if number % 2 else mutated(gzip.compress(text), rng)
        try:
            documents, skipped = read_documents(f"{root}/sitemap.xml", limits=Limits(pause=0))
            assert documents and all("\n" not in s.reason for s in skipped)
        except DocumentError as error:
            assert "\n" not in str(error)
            refused += 1
    assert 0 < refused < COUNT


SERVED_AS = {
    ".html": "text/html; charset=utf-8",
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".epub": "application/epub+zip",
    ".md": "text/markdown",
    ".jsonl": "application/jsonl",
    ".txt": "text/plain",
}


def test_damaged_pages(site: Site, originals: dict[str, bytes]) -> None:
    """A sitemap of a hundred pages of every kind: half damaged in their content, half in the whole HTTP response."""
    rng = random.Random("damage pages")

    def response(suffix: str, data: bytes) -> bytes:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {SERVED_AS[suffix]}\r\nContent-Length: {len(data)}\r\n"
        if rng.random() < 0.5:
            return (head + "\r\n").encode() + data
        return (head + "Content-Encoding: deflate\r\n\r\n").encode() + zlib.compress(data)

    def page(suffix: str, number: int) -> Callable[[BaseHTTPRequestHandler], None]:
        data = originals[suffix]
        sent = mutated(response(suffix, data), rng) if number % 2 else response(suffix, damaged(data, 0, rng))

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(sent)  # and the connection is closed

        return answer

    urls = []
    for number in range(COUNT):
        suffix = list(SERVED_AS)[number // 2 % len(SERVED_AS)]
        path = f"/{number}{suffix}"
        site.pages[path] = page(suffix, number)
        urls.append(site.url + path)
    urls.append(site.put("/whole.html", originals[".html"]))
    start = site.put("/sitemap.xml", sitemap(*urls), "text/xml")
    limits = Limits(allow_private=True, pause=0, timeout=5, max_pages=COUNT + 1)
    documents, skipped = read_documents(start, limits=limits)
    read = {d.source for d in documents}
    assert site.url + "/whole.html" in read and COUNT / 10 < len(read) < COUNT
    told = {s.source.partition(", ")[0] for s in skipped}
    assert {url for url in urls if url not in told and not any(source.startswith(url) for source in read)} == set()
    assert all(s.reason.strip() and "\n" not in s.reason and len(s.reason) < 500 for s in skipped)


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
