"""Reading documents: what comes out, and the one line that is said about what does not."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from continual_learning.documents import Document, Limits, is_url, names_source, read_documents, without_repeats
from continual_learning.errors import DocumentError


def refusal(source: str | Path, **limits: int) -> str:
    """The error for ``source``, which must be one line."""
    with pytest.raises(DocumentError) as caught:
        read_documents(source, limits=Limits(**limits))
    message = str(caught.value)
    assert "\n" not in message
    return message


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_id_is_the_hash_of_title_and_text() -> None:
    digest = hashlib.sha256("Wörter\0Ein Text".encode()).hexdigest()
    document = Document("Ein Text", "Wörter", "elsewhere.txt")
    assert (document.sha256, document.id) == (digest, f"doc-{digest[:12]}")
    assert Document("Ein Text", "Wörter").id == document.id, "the source takes no part"
    assert Document("TextEin ", "Wörter").id != document.id


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_a_document_holds_text(text: str) -> None:
    with pytest.raises(DocumentError, match="empty"):
        Document(text)


@pytest.mark.parametrize(("text", "title"), [("a\0b", ""), ("a", "\0"), ("\ud800", ""), ("a", "\udfff")])
def test_a_document_holds_nothing_that_a_tokenizer_cannot_take(text: str, title: str) -> None:
    with pytest.raises(DocumentError, match=r"NUL|surrogate"):
        Document(text, title)


def test_text_file_is_titled_by_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "Comb jellies.txt", "They eat plankton.\n")
    assert read_documents(path) == ([Document("They eat plankton.\n", "Comb jellies", str(path))], [])
    assert read_documents(str(path), title="  Other\n title ")[0][0].title == "Other title"


def test_byte_order_mark_and_newlines_make_no_difference(tmp_path: Path) -> None:
    plain = write(tmp_path / "a" / "t.txt", "one\ntwo\nthree")
    other = write(tmp_path / "b" / "t.txt", b"\xef\xbb\xbfone\r\ntwo\rthree")
    assert read_documents(plain)[0][0].id == read_documents(other)[0][0].id


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("intro\n\n## The *title* ##\n# Later\n", "The title"),
        ("```\n# a comment\n```\n~~~\n# another\n~~~\n# Real", "Real"),
        ("#hashtag\n    # code\nno heading", "notes"),
        ("# \n#\n", "notes"),
    ],
)
def test_markdown_is_titled_by_its_first_heading(tmp_path: Path, text: str, title: str) -> None:
    path = write(tmp_path / "notes.MD", text)
    document = read_documents(path)[0][0]
    assert (document.title, document.text) == (title, text)


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"text": "one"}, {"title": "Two\nlines", "text": "two\r\nrows", "other": 1}]
    path = write(tmp_path / "d.jsonl", "\n\n".join(json.dumps(r) for r in rows) + "\n\n")
    assert read_documents(path)[0] == [
        Document("one", "", f"{path}:1"),
        Document("two\nrows", "Two lines", f"{path}:3"),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"title": "x"}', ["line 2", "'text'", "missing"]),
        ('{"text": 3}', ["line 2", "'text'", "3", "a string"]),
        ('{"text": null}', ["line 2", "'text'"]),
        ('{"text": "a", "title": ["b"]}', ["line 2", "'title'", "a string"]),
        ('{"text": " "}', ["line 2", "empty"]),
        ('{"text": "\\u0000"}', ["line 2", "NUL"]),
        ('{"text": "\\ud800"}', ["line 2", "surrogate"]),
        ('["text"]', ["line 2", "object"]),
        ('{"text": ', ["line 2", "not JSON"]),
        ("[" * 100_000, ["line 2", "not JSON"]),
    ],
)
def test_a_bad_row_of_json_lines_costs_itself_alone_and_is_named(tmp_path: Path, line: str, words: list[str]) -> None:
    path = write(tmp_path / "d.jsonl", '{"text": "good"}\n' + line + '\n{"text": "fine"}')
    documents, [skipped] = read_documents(path)
    assert [(d.text, d.source) for d in documents] == [("good", f"{path}:1"), ("fine", f"{path}:3")]
    told = f"{skipped.source}: {skipped.reason}"
    assert skipped.source == f"{path}, line 2" and all(word in told for word in words), told
    message = refusal(write(tmp_path / "only.jsonl", "\n" + line))
    assert all(word in message for word in words), message


def test_a_row_without_a_title_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", '{"text": "one", "title": null}\n{"text": "two", "title": 1984}')
    documents, skipped = read_documents(path)
    assert ([d.title for d in documents], skipped) == (["", "1984"], [])


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", '{"text": "good"}\n' + '{"no": 1}\n' * 30)
    _, skipped = read_documents(path)
    assert len(skipped) == 21
    assert skipped[-1].source == f"{path}, lines 22 to 31" and "10 more" in skipped[-1].reason


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", ["a.txt", "empty"]),
        ("a.txt", b"\xef\xbb\xbf \r\n", ["a.txt", "empty"]),
        ("a.txt", b"abc\x00def", ["binary", "offset 3"]),
        ("a.txt", "über".encode("latin-1"), ["not UTF-8", "0xfc", "offset 0"]),
        ("a.txt", b"abc\xe2\x82", ["not UTF-8", "offset 3"]),
        ("a.txt", "text".encode("utf-16")[:-1], ["no whole UTF-16", "byte 8"]),
        ("a.png", b"PNG", ["'.png'", ".txt", ".pdf", "source code"]),
        ("README", b"te\0xt", ["binary", "offset 2"]),
        ("a.jsonl", b"\n \n", ["no lines"]),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, words: list[str]) -> None:
    message = refusal(write(tmp_path / name, content))
    assert all(word in message for word in words), message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.txt", "Die Mühle\r\n灯", "Die Mühle\n灯"),
        ("a.csv", "name;age\nKäthe;30\n", "name: Käthe; age: 30."),
        ("a.jsonl", '{"text": "Die Mühle"}\n', "Die Mühle"),
        ("a.json", '{"mill": "Die Mühle"}', "mill: Die Mühle."),
    ],
)
def test_a_byte_order_mark_tells_the_encoding(
    tmp_path: Path, encoding: str, name: str, content: str, text: str
) -> None:
    mark = "\ufeff" if encoding.endswith("-be") else ""
    [document], skipped = read_documents(write(tmp_path / name, (mark + content).encode(encoding)))
    assert (document.text, skipped) == (text, [])


def test_too_large_counts_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "äöü")
    assert read_documents(path, limits=Limits(max_bytes=6))[0][0].text == "äöü"
    message = refusal(path, max_bytes=5)
    assert "6 bytes" in message and "at most 5" in message


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.txt")
    assert "no such file" in refusal(tmp_path / "absent")
    assert "too long" in refusal("x" * 5000)
    assert "no path can" in refusal("a\0b.txt")
    assert "no path can" in refusal("\ud800.txt")
    assert "scheme" in refusal("ftp://example.org/page.txt")
    broken = tmp_path / "broken.txt"
    broken.symlink_to("nowhere.txt")
    assert "no such file" in refusal(broken)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    assert "regular file" in refusal(tmp_path / "pipe.txt")


@pytest.mark.skipif(os.name != "posix", reason="needs file names in bytes")
def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    with open(path, "wb") as file:
        file.write(b"text")
    document = read_documents(os.fsdecode(path))[0][0]
    assert document.title == "caf?"
    assert read_documents(tmp_path)[0] == [document]


def test_folder_is_read_in_order_and_says_what_it_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "bee")
    write(tmp_path / "a" / "z.md", "zed")
    write(tmp_path / "a" / "c.jsonl", '{"text": "one"}\n{"text": "two"}')
    write(tmp_path / "a" / "bad.txt", b"\xff")
    write(tmp_path / "bad.jsonl", '\n{"no": 1}')
    write(tmp_path / "photo.png", b"\x89PNG")
    write(tmp_path / ".hidden.txt", "secret")
    write(tmp_path / ".git" / "x.txt", "secret")
    documents, skipped = read_documents(tmp_path)
    assert [d.text for d in documents] == ["one", "two", "zed", "bee"]
    reasons = {Path(s.source).relative_to(tmp_path).as_posix(): s.reason for s in skipped}
    assert set(reasons) == {".git", ".hidden.txt", "a/bad.txt", "bad.jsonl", "photo.png"}
    assert reasons[".git"] == reasons[".hidden.txt"] == "hidden"
    assert "not UTF-8" in reasons["a/bad.txt"]
    assert "line 2" in reasons["bad.jsonl"]
    assert "'.png'" in reasons["photo.png"]
    assert read_documents(tmp_path) == (documents, skipped)


def test_folder_with_links_ends_and_reads_each_file_once(tmp_path: Path) -> None:
    write(tmp_path / "a" / "one.txt", "one")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "a")
    (tmp_path / "copy.txt").symlink_to(tmp_path / "a" / "one.txt")
    (tmp_path / "self").symlink_to("self")
    outside = write(tmp_path.parent / f"{tmp_path.name}-outside" / "two.txt", "two")
    (tmp_path / "z.txt").symlink_to(outside)
    documents, skipped = read_documents(tmp_path)
    assert [d.text for d in documents] == ["one", "two"]
    assert {Path(s.source).name for s in skipped} == {"loop", "again", "copy.txt", "self"}


def test_folder_without_documents_says_why(tmp_path: Path) -> None:
    assert "no readable document" in refusal(tmp_path)
    for number in range(4):
        write(tmp_path / f"{number}.png", "x")
    message = refusal(tmp_path)
    assert "0.png" in message and "and 2 more" in message


def test_what_may_not_be_opened_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "good.txt", "good")
    write(tmp_path / "closed.txt", "x")
    write(tmp_path / "shut" / "x.txt", "x")

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Path, *args: Any) -> Any:
            if self.name in ("closed.txt", "shut"):  # permissions do not bind root, who may run this
                raise PermissionError(errno.EACCES, "Permission denied", str(self))
            return function(self, *args)

        return call

    original = os.path.realpath

    def realpath(path: Any, **options: Any) -> str:
        if Path(path).name == "link":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path, **options)

    (tmp_path / "link").symlink_to("good.txt")
    monkeypatch.setattr(os.path, "realpath", realpath)
    monkeypatch.setattr(Path, "open", guarded(Path.open))
    monkeypatch.setattr(Path, "iterdir", guarded(Path.iterdir))
    documents, skipped = read_documents(tmp_path)
    assert [d.text for d in documents] == ["good"]
    assert {Path(s.source).name for s in skipped} == {"closed.txt", "link", "shut"}
    assert all("Permission denied" in s.reason for s in skipped)


def test_a_title_fits_one_document(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "a")
    assert read_documents(tmp_path, title="T")[0][0].title == "T"
    write(tmp_path / "b.txt", "b")
    with pytest.raises(DocumentError, match="2 documents"):
        read_documents(tmp_path, title="T")


@pytest.mark.parametrize(
    ("data", "expected"), [(b"a\r\nb", "a\nb"), (b"", "empty"), (b"\xff", "not UTF-8"), (b"x" * 11, "more than 10")]
)
def test_standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes, expected: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    if expected == "a\nb":
        assert read_documents("-", limits=Limits(max_bytes=10)) == ([Document(expected, "", "-")], [])
    else:
        assert expected in refusal("-", max_bytes=10)


def test_json_lines_keep_where_they_came_from(tmp_path: Path) -> None:
    rows = [{"text": "one", "source": "https://example.org/a"}, {"text": "two", "source": " "}]
    path = write(tmp_path / "d.jsonl", "\n".join(json.dumps(r) for r in rows))
    assert [d.source for d in read_documents(path)[0]] == ["https://example.org/a", f"{path}:2"]


def test_repeats_are_told_by_their_text() -> None:
    one, again, other = Document("a  b\n", "T", "1"), Document("a b", "Another", "2"), Document("a c", "T", "3")
    kept, skipped = without_repeats([one, again, other])
    assert kept == [one, other]
    assert [(s.source, s.reason) for s in skipped] == [("2", "the same text as 1")]


def test_deep_folders_and_links_to_folders_above(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*(f"level{i}" for i in range(30)))
    write(deep / "deep.txt", "deep")
    (deep / "up").symlink_to(tmp_path)
    (deep / "up too").symlink_to(deep.parent)
    steps: list[Any] = []
    documents, skipped = read_documents(tmp_path, progress=steps.append)
    assert [d.text for d in documents] == ["deep"]
    assert len(skipped) == 2 and all("the same as" in s.reason for s in skipped)
    assert [(s.done, s.total, s.message) for s in steps] == [(0, 1, "deep.txt")]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("https://example.org/a b", False),
        ("https://example.org/a", True),
        ("ftp://x", True),
        ("see https://example.org", False),
        ("absent.pdf", True),
        ("I like Node.js", False),
        ("Node.js", False),
        ("two\nlines.txt", False),
        ("x" * 2000, False),
    ],
)
def test_what_names_a_source(text: str, named: bool) -> None:
    assert names_source(text) is named
    assert is_url("C:\\a.txt") is False
