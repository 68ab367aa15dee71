"""The documentation pipeline: a list of sources, fetched, parsed, cut by sentences, saved, learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from document_makers import TEXT, html, pdf

from continual_learning.documents import Document, Limits, read_documents
from continual_learning.documents.lists import chunk, gather, load_list, save_json_lines, shipped_lists
from continual_learning.errors import DocumentError, StorageError, UnknownNameError

OPEN = Limits(allow_private=True, pause=0)


def test_the_shipped_example_is_oracles_documentation() -> None:
    assert shipped_lists() == ["oracle"]
    found = load_list("oracle")
    assert len(found.sources) >= 10 == len(set(found.sources[:10]))
    assert {urlsplit(source)[:2] for source in found.sources} == {("https", "docs.oracle.com")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sources: {}", "a list of URLs"),
        ("sources: []", "a list of URLs"),
        ("sources: [1]", "a list of URLs"),
        ("- a", "a list of URLs"),
        ("a: b: c", "not YAML"),
        ("sources: [2001-13-01]", "not YAML"),
        ("[" * 500, "not YAML"),
    ],
)
def test_a_list_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(DocumentError, match=said):
        load_list(tmp_path / "a.yaml")


def test_lists_that_are_not_there() -> None:
    with pytest.raises(UnknownNameError, match=r"'orakel'; expected oracle"):
        load_list("orakel")
    with pytest.raises(DocumentError, match="cannot be read"):
        load_list("absent.yaml")


def test_sources_that_cannot_be_read_are_passed_over(site: Any, tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(pdf(""))
    (tmp_path / "a.txt").write_text(f"  {TEXT}\n")
    page = site.put("/a.html", html(TEXT))
    good = site.put("/b.txt", TEXT, "text/plain")
    sources = [site.url + "/absent", str(tmp_path / "scan.pdf"), page, str(tmp_path / "a.txt"), good, "one too many"]
    documents, skipped = gather(sources, OPEN.model_copy(update={"max_pages": 5}))
    assert [d.source for d in documents] == [page, str(tmp_path / "a.txt")]
    assert [s.source for s in skipped] == ["one too many", *sources[:2], good]
    assert skipped[3].reason == f"the same text as {tmp_path / 'a.txt'}"


def test_chunks_are_whole_sentences_and_lose_no_word() -> None:
    text = " ".join(f"Sentence number {i} says what it says about the sea." for i in range(50))
    pieces = chunk(Document(text, "The sea", "https://example.org/sea"), 60)
    assert " ".join(piece.text for piece in pieces) == text
    assert len(pieces) == 9 and all(len(piece.text.split()) <= 60 and piece.text.endswith(".") for piece in pieces)
    assert [piece.title for piece in pieces[:2]] == ["The sea (1/9)", "The sea (2/9)"]
    assert {piece.source for piece in pieces} == {"https://example.org/sea"}
    assert chunk(Document("Short.", "T", "s"), 60) == [Document("Short.", "T", "s")]


def test_text_without_spaces_is_cut_too_and_long_titles_keep_their_number() -> None:
    pieces = chunk(Document("灯塔建于一九零七年，站在港口。" * 100, "T" * 500), 60)
    assert len(pieces) > 2 and max(len(piece.text) for piece in pieces) < 600
    assert pieces[1].title.endswith(f"T… (2/{len(pieces)})")


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    documents = [Document("one\n“two”", "T", "https://e.org"), Document("three", "", "a.txt")]
    path = tmp_path / "new" / "d.jsonl"
    assert save_json_lines(documents, path) == 2
    assert read_documents(path) == (documents, [])
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [row["sha256"] for row in rows] == [d.sha256 for d in documents]
    assert [p.name for p in path.parent.iterdir()] == ["d.jsonl"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageError, match="No space left"):
        save_json_lines([Document("new")], path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
