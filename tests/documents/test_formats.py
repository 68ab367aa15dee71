"""Each kind of file: what comes out of it, and what is said when nothing can."""

from __future__ import annotations

import builtins
import io
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from document_makers import CHAPTERS, TEXT, archive, docx, epub, html, pdf

from continual_learning.documents import Document, Limits, Skipped, read_documents
from continual_learning.documents.formats import CODE, SUFFIXES, page_suffix
from continual_learning.documents.html import decode_html
from continual_learning.errors import DocumentError, MissingExtraError


def read(tmp_path: Path, name: str, data: bytes | str, **limits: Any) -> tuple[Document, list[Skipped]]:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    [document], skipped = read_documents(path, limits=Limits(**limits))
    assert document.source == str(path)
    return document, skipped


def refusal(tmp_path: Path, name: str, data: bytes | str, **limits: Any) -> str:
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, name, data, **limits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def words(text: str) -> str:
    return " ".join(text.split())


# -- PDF -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [True, False])
def test_pdf(tmp_path: Path, compress: bool) -> None:
    data = pdf("Page one of (two).\nIt goes on.", "The medi-\ncine is in the Nord-\nSee.", compress=compress)
    document, skipped = read(tmp_path, "a.pdf", data)
    assert words(document.text) == "Page one of (two). It goes on. The medicine is in the Nord- See."
    assert (document.title, skipped) == ("Comb jellies", [])
    assert read(tmp_path, "Named.PDF", pdf("Text.", title=""))[0].title == "Named"


def test_pdf_pages_without_text_are_named(tmp_path: Path) -> None:
    document, skipped = read(tmp_path, "a.pdf", pdf("One.", "", "Three."))
    assert words(document.text) == "One. Three."
    assert skipped == [Skipped(f"{tmp_path / 'a.pdf'}, page 2", "there is no text on it")]


@pytest.mark.parametrize(
    ("pages", "said"), [([""], "its only page has no text"), (["", ""], "none of its 2 pages has")]
)
def test_scanned_pdf_says_what_to_do(tmp_path: Path, pages: list[str], said: str) -> None:
    message = refusal(tmp_path, "scan.pdf", pdf(*pages))
    assert said in message and "OCR" in message


def test_a_sentence_goes_over_pages_without_what_stands_between(tmp_path: Path) -> None:
    data = pdf(
        "The founder of the archive was\nPage 1",
        "Annual report 2024\nAgnes Morrow, who came from a light-\nPage 2",
        "Annual report 2024\nhouse. She died in 1931.\nPage 3",
    )
    text = read(tmp_path, "a.pdf", data)[0].text
    assert words(text) == (
        "Annual report 2024 The founder of the archive was Agnes Morrow, who came from a lighthouse. She died in 1931."
    )


STAFF = "Name\tRole\tPhone\nPriya\tNurse\t12\nTom Berg\tHead of surgery\t4711\nLi\t\t7\nBo\tCook\t350"


def test_tables_of_a_pdf_are_read_row_by_row(tmp_path: Path) -> None:
    data = pdf(
        f"The staff of the clinic is small:\n{STAFF}\nAll others are reached over the desk.",
        "Harbour\tDepth\nOrsel\t4.5 m\nLund\t12 m",
        "Catch\t2019\t2020\nCod\t1,204\t988\nHerring\t77\t310",
        columns=(120, 300),
    )
    assert read(tmp_path, "a.pdf", data)[0].text.split("\n\n") == [
        "The staff of the clinic is small:",
        "Name: Priya; Role: Nurse; Phone: 12.",
        "Name: Tom Berg; Role: Head of surgery; Phone: 4711.",
        "Name: Li; Phone: 7.",
        "Name: Bo; Role: Cook; Phone: 350.",
        "All others are reached over the desk.",
        "Harbour: Orsel; Depth: 4.5 m.",
        "Harbour: Lund; Depth: 12 m.",
        "Catch: Cod; 2019: 1,204; 2020: 988.",
        "Catch: Herring; 2019: 77; 2020: 310.",
    ]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("Name\tRole\tTown\nPriya\tNurse\tOrsel\nTom\tDoctor\tLund", id="words alone"),
        pytest.param(
            "Name\tRole\tPhone\nLi\tNurse\t1\nBo\tNurse of the\t2\n\tnight\nAl\tCook\t3", id="cell of two lines"
        ),
        pytest.param("Section\tPage\nOne . . . . .\t3\nTwo . . . . .\t5\nThree . . . .\t9", id="contents"),
        pytest.param("Acme Ltd\tInvoice 7\n12 High St\tDate 1.2.2020\nLondon\tDue 3.4.2020", id="address"),
        pytest.param(
            "the old boats of the\tharbour were few and\nwere 9 in the year of\tthe storm, which took\n"
            "1912, and nobody had\t3 of them on the 4th",
            id="two columns of prose",
        ),
        pytest.param("Priya\t12\t7\nTom\t13\t8\nLi\t14\t9", id="no names"),
        pytest.param("Name\tPhone\nPriya\t12", id="one row"),
        pytest.param("Marit\t1974\t1999\nAud\t1980\t2004\nOle\t1990\t2011", id="years that name nothing"),
        pytest.param(f"{STAFF}\n{STAFF}", id="two tables in one"),
    ],
)
def test_what_is_no_clear_table_of_a_pdf_stays(tmp_path: Path, page: str) -> None:
    text = read(tmp_path, "a.pdf", pdf(page, columns=(200, 350)))[0].text
    assert text.split() == page.split()


@pytest.mark.parametrize("move", [999_999, 9_999_999])
def test_a_pdf_whose_pieces_are_far_apart_does_not_take_long(tmp_path: Path, move: int) -> None:
    pages = ["1\n2\n" + f"{letter}\t" * 700 for letter in "ab"]
    started = time.process_time()
    text = read(tmp_path, "a.pdf", pdf(*pages, columns=tuple(range(move, 701 * move, move))))[0].text
    assert (text.count("a"), text.count("b")) == (700, 700)
    assert time.process_time() - started < 5


def test_words_of_a_pdf_are_whole(tmp_path: Path) -> None:
    data = pdf("The light\xadhouse is a compli\xad\ncated one of the Nord-\nSee, well-\nknown.")
    assert (
        words(read(tmp_path, "a.pdf", data)[0].text)
        == "The lighthouse is a complicated one of the Nord- See, wellknown."
    )


@pytest.mark.parametrize(
    "title",
    [
        "untitled",
        "Untitled (2)",
        "Microsoft Word - x.doc",
        "Microsoft PowerPoint - Talk",
        "PowerPoint Presentation",
        "Document1",
        "slides.pptx",
        "/var/spool/x",
        "thesis.dvi",
    ],
)
def test_what_a_program_wrote_is_no_title(tmp_path: Path, title: str) -> None:
    assert read(tmp_path, "name.pdf", pdf(title=title))[0].title == "name"


@pytest.mark.parametrize("title", ["TCP/IP illustrated", "Untitled poems", "Documents of the archive", "Node.js"])
def test_a_title_that_looks_like_it_stays(tmp_path: Path, title: str) -> None:
    assert read(tmp_path, "name.pdf", pdf(title=title))[0].title == title


def scan(*texts: str) -> bytes:
    """A PDF whose pages without text are pictures."""
    import pypdf
    from pypdf.generic import DictionaryObject, NameObject, NumberObject, StreamObject

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf(*texts)))
    picture = StreamObject()
    picture[NameObject("/Subtype")] = NameObject("/Image")
    picture[NameObject("/Width")] = picture[NameObject("/Height")] = NumberObject(1)
    for text, page in zip(texts, writer.pages, strict=True):
        if not text:
            objects = DictionaryObject({NameObject("/Im0"): writer._add_object(picture)})
            page[NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): objects})
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def test_a_scan_is_named_as_one(tmp_path: Path) -> None:
    message = refusal(tmp_path, "a.pdf", scan("", ""))
    assert "it is scanned: all of its 2 pages are pictures" in message and "ocrmypdf" in message
    _, [skipped] = read(tmp_path, "b.pdf", scan("Text.", ""))
    assert skipped.source.endswith("page 2") and "OCR" in skipped.reason


def encrypted(user: str) -> bytes:
    import pypdf

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf(TEXT)))
    writer.encrypt(user, "owner", algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def test_encrypted_pdf(tmp_path: Path) -> None:
    assert "encrypted" in refusal(tmp_path, "secret.pdf", encrypted("secret"))
    assert words(read(tmp_path, "open.pdf", encrypted(""))[0].text) == TEXT, "no password is needed to read it"


def test_pdf_that_unpacks_to_more_than_it_may(tmp_path: Path) -> None:
    assert "50,000 characters" in refusal(tmp_path, "a.pdf", pdf(*["word " * 20_000] * 3), max_bytes=5000)


# -- Word ------------------------------------------------------------------------------------------


def test_docx(tmp_path: Path) -> None:
    data = docx("First.", "Second.", heading="All of it", rows=[["name", "size"], ["jelly", "1.5\nm"]])
    document, skipped = read(tmp_path, "a.docx", data)
    assert document.text == "All of it\n\nFirst.\n\nSecond.\n\nname: jelly; size: 1.5 m."
    assert (document.title, skipped) == ("All of it", [])
    assert read(tmp_path, "b.docx", docx(title="Real title", heading="No"))[0].title == "Real title"
    assert read(tmp_path, "c.docx", docx())[0].title == "c"


def test_docx_without_text(tmp_path: Path) -> None:
    assert "no text" in refusal(tmp_path, "a.docx", docx(" "))
    assert "damaged, or no Word file" in refusal(tmp_path, "a.docx", archive({"a.txt": "x"}))
    assert "password" in refusal(tmp_path, "a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))


# -- books -----------------------------------------------------------------------------------------


def test_epub_is_read_in_the_order_of_its_spine(tmp_path: Path) -> None:
    document, skipped = read(tmp_path, "a.epub", epub())
    assert document.title == "The jelly book" and skipped == []
    assert document.text.index(CHAPTERS[0]) < document.text.index(CHAPTERS[1])


def test_a_bad_chapter_costs_only_itself(tmp_path: Path) -> None:
    document, skipped = read(
        tmp_path, "a.epub", epub("One is good.", "", "Three is good.", extra={"OPS/text/chapter 1.xhtml": ""})
    )
    assert "One is good." in document.text and "Three is good." in document.text
    assert [s.source for s in skipped] == [f"{tmp_path / 'a.epub'}, chapter 2"] and "empty" in skipped[0].reason


def test_protected_epub(tmp_path: Path) -> None:
    uris = "".join(f'<CipherReference URI="OPS/text/chapter%20{i}.xhtml"/>' for i in range(2))
    message = refusal(tmp_path, "a.epub", epub(extra={"META-INF/encryption.xml": f"<encryption>{uris}</encryption>"}))
    assert "DRM" in message and "none of its 2 chapters" in message


def test_epub_without_its_parts(tmp_path: Path) -> None:
    assert "META-INF/container.xml" in refusal(tmp_path, "a.epub", archive({"a": "b"}))
    assert "0 chapters" in refusal(tmp_path, "a.epub", epub(extra={"OPS/package.opf": "<package/>"}))


def test_epub_entities_read_no_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("TOP SECRET")
    title = f'<!DOCTYPE p [<!ENTITY x SYSTEM "{secret.as_uri()}">]><package><metadata><title>&x;</title></metadata>'
    manifest = '<manifest><item id="a" href="text/chapter%200.xhtml"/></manifest><spine><itemref idref="a"/></spine>'
    document, _ = read(tmp_path, "a.epub", epub(extra={"OPS/package.opf": f"{title}{manifest}</package>"}))
    assert "SECRET" not in document.title + document.text


def test_epub_keeps_headings_notes_asides_and_captions(tmp_path: Path) -> None:
    chapter = (
        "It closed<a epub:type='noteref' xmlns:epub='http://www.idpf.org/2007/ops' href='#n'>1</a>&nbsp;late.</p>"
        "<h2>Section</h2><aside id='n'><p>After a flood.</p></aside><header>By the keeper</header>"
        "<figure><figcaption>The mill</figcaption></figure><ul><li>one</li></ul><p>End."
    )
    contents = "<html xmlns='http://www.w3.org/1999/xhtml'><body><nav><ol><li>Chapter 0</li></ol></nav></body></html>"
    document, skipped = read(
        tmp_path, "a.epub", epub(chapter, "Not read", extra={"OPS/text/chapter 1.xhtml": contents})
    )
    assert document.text.split("\n\n") == [
        "Chapter 0",
        "It closed late.",
        "Section",
        "After a flood.",
        "By the keeper",
        "The mill",
        "- one",
        "End.",
    ]
    assert [(s.source.partition(", ")[2], s.reason) for s in skipped] == [("chapter 2", "it is a table of contents")]


# -- archives that are bombs -----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".docx", ".epub", ".odt"])
def test_zip_bombs_are_not_unpacked(tmp_path: Path, suffix: str) -> None:
    bomb = archive({f"{i}.xml": bytes(3_000_000) for i in range(4)})
    assert len(bomb) < 100_000
    message = refusal(tmp_path, f"a{suffix}", bomb, max_bytes=1_000_000)
    assert "unpacks to 12,000,000 bytes" in message and "at most 10,000,000" in message
    many = archive({str(i): b"" for i in range(10_001)})
    assert "10,001 parts" in refusal(tmp_path, f"a{suffix}", many)


def test_a_false_size_does_not_get_past_the_limit(tmp_path: Path) -> None:
    data = bytearray(epub(extra={"OPS/text/chapter 0.xhtml": "<p>" + "a" * 3_000_000}))
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"chapter 0.xhtml"))
    data[entry + 24 : entry + 28] = (100).to_bytes(4, "little")  # the size that the directory declares
    document, skipped = read(tmp_path, "a.epub", bytes(data), max_bytes=100_000)
    assert "chapter 1" in skipped[0].source and len(document.text) < 1000


def test_encrypted_archive(tmp_path: Path) -> None:
    data = bytearray(epub())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in refusal(tmp_path, "a.epub", bytes(data))


# -- pages -----------------------------------------------------------------------------------------


def test_what_is_nested_too_deep_to_be_read_is_named(tmp_path: Path) -> None:
    def page(depth: int) -> str:
        return f"<body><p>The ferry leaves at nine.</p>{'<div>' * depth}It is red.{'</div>' * depth}<p>It is old.</p>"

    document, skipped = read(tmp_path, "deep.html", page(2000))
    assert (document.text, skipped) == ("The ferry leaves at nine.\n\nIt is red.\n\nIt is old.", [])
    document, [rest] = read(tmp_path, "deeper.html", page(3000))
    assert document.text == "The ferry leaves at nine."
    assert rest.source.endswith("deeper.html, the rest") and "nested more than 2,048 deep" in rest.reason
    assert "nested more than 2,048 deep" in refusal(tmp_path, "deepest.html", f"<body>{'<div>' * 3000}It is red.")


def test_html_is_its_main_text(tmp_path: Path) -> None:
    document, _ = read(tmp_path, "a.html", html())
    assert TEXT in document.text and document.title == "Comb jellies"
    assert not any(word in document.text for word in ("Shop", "Imprint", "<p>"))
    assert "no main text" in refusal(tmp_path, "a.htm", "<html><script>var x = 1</script></html>")
    assert "empty" in refusal(tmp_path, "a.htm", " \n")


@pytest.mark.parametrize(
    ("data", "charset", "expected"),
    [
        ("<p>naïve café</p>".encode(), None, "naïve café"),
        ("<p>naïve</p>".encode("latin-1"), None, "naïve"),
        ("<p>“naïve” €</p>".encode("cp1252"), "iso-8859-1", "“naïve” €"),
        ("<meta charset='shift_jis'><p>日本語</p>".encode("shift_jis"), None, "日本語"),
        ("<meta http-equiv=x content='text/html; charset=koi8-r'><p>море</p>".encode("koi8-r"), None, "море"),
        ("<?xml version='1.0' encoding='iso-8859-2'?><p>łąka</p>".encode("iso-8859-2"), None, "łąka"),
        ("<meta charset=utf-8><p>море</p>".encode("koi8-r"), "koi8-r", "море"),
        ("<meta charset=latin1><p>море</p>".encode("utf-16"), "latin1", "море"),
        ("<meta charset=iso-8859-8-i><p>שלום</p>".encode("iso8859-8"), None, "שלום"),
        ("<p>ไทย</p>".encode("cp874"), "windows-874", "ไทย"),
        ("<p>日本語</p>".encode("shift_jis"), "X-SJIS", "日本語"),
        ("<p>naïve</p>".encode("cp850"), "cp-850", "naïve"),
        ("<meta charset=zlib><p>naïve</p>".encode(), "no-such-thing", "naïve"),
        (b"\xef\xbb\xbf<meta charset=koi8-r><p>na\xc3\xafve</p>", None, "naïve"),
        ("<meta charset=utf-8><p>naïve</p>".encode("latin-1"), None, "na\ufffdve"),
    ],
)
def test_odd_encodings_of_pages(data: bytes, charset: str | None, expected: str) -> None:
    assert expected in decode_html(data, charset)


def test_characters_that_no_document_may_hold_are_taken_out(tmp_path: Path) -> None:
    page = html("One &#0; two &#xD800; three, and this sentence is here to be long enough to count.")
    document, _ = read(tmp_path, "a.html", page)
    assert "\0" not in document.text and document.text.encode()


LONG = " ".join(
    f"Sentence {number} of the article tells what the keeper of the light did that year." for number in range(20)
)


def test_a_page_keeps_its_headings_lists_tables_and_definitions(tmp_path: Path) -> None:
    body = (
        "<h1>Tools</h1><p>All are at hand.</p><ul><li>Hammer<li>Wick <b>trimmer</b><ul><li>of brass</ul></ul>"
        "<ol start=3><li>Light<li>Watch</ol><h2>Hours</h2><dl><dt>Open<dd>at six</dl>"
        "<blockquote>Never leave.</blockquote><figure><img><figcaption>The lamp</figcaption></figure><pre>a\n  b</pre>"
        "<p>The area of the tower is 5 m<sup>2</sup>"
        "<sup><a href='#n1'>1</a></sup>.<p hidden>Not seen<br><select><option>No</select>"
    )
    parts = [
        "Tools",
        "All are at hand.",
        "- Hammer\n- Wick trimmer\n- of brass\n3. Light\n4. Watch",
        "Hours",
        "Open: at six",
        "Never leave.",
        "The lamp",
        "a\n  b",
        "The area of the tower is 5 m2.",
    ]
    document, skipped = read(tmp_path, "short.html", f"<title>T</title><nav><a href=/>Home</a></nav>{body}")
    assert (document.text.split("\n\n"), skipped) == (parts, [])
    data = html(LONG, head="<meta charset=utf-8>").replace(
        "</article>", f"{body.replace('h1', 'h3')}<p>{LONG}</article>"
    )
    document, _ = read(tmp_path, "long.html", data)
    kept = document.text.split("\n\n")
    assert set(parts) - set(kept) <= {"All are at hand.", "The lamp"}, "trafilatura is sure that these are no text"
    assert not any(word in document.text for word in ("Shop", "Imprint", "Not seen"))


def test_the_heading_of_a_page_may_be_in_its_header(tmp_path: Path) -> None:
    page = "<header><h1>The mill</h1><p>Welcome</p></header><p>It closed.</p><footer>Imprint</footer>"
    assert read(tmp_path, "a.html", page)[0].text == "The mill\n\nIt closed."
    assert read(tmp_path, "b.html", f"<header><h1>Pell</h1></header>{page}")[0].text.count("Pell") == 1


def test_text_beside_the_main_text_is_named(tmp_path: Path) -> None:
    beside = "<div class=teaser><p>Our newsletter comes every week and tells all that happened at the sea.</p></div>"
    menu = "".join(f"<li><a href=/{number}>Other article {number}</a>" for number in range(5))
    data = html(*LONG.split(". "), links=f"<div><ul>{menu}</ul></div>{beside}")
    document, [skipped] = read(tmp_path, "a.html", data)
    assert "newsletter" not in document.text and "Other article" not in document.text
    assert skipped.source.endswith(", outside the main text") and "13 words" in skipped.reason
    assert "newsletter" in skipped.reason


# -- source code and kinds -------------------------------------------------------------------------


def test_source_code_is_text_titled_by_its_name(tmp_path: Path) -> None:
    code = "if x:\n    y = 1  # naïve\n"
    for suffix in CODE:
        document, _ = read(tmp_path, f"main{suffix}", code)
        assert (document.text, document.title) == (code, "main"), suffix


@pytest.mark.parametrize(
    ("content_type", "url", "suffix"),
    [
        ("text/html", "https://e.org/a.pdf", ".html"),
        ("application/pdf", "https://e.org/", ".pdf"),
        ("application/octet-stream", "https://e.org/a.docx?x=1", ".docx"),
        ("", "https://e.org/b.md", ".md"),
        ("text/plain", "https://e.org/a/b.py", ".py"),
        ("text/plain", "https://e.org/a/b.html", ".html"),
        ("text/plain", "https://e.org/a/b.pdf", ".txt"),
        ("text/x-python", "https://e.org/b", ".txt"),
        ("text/plain", "https://e.org/b", ".txt"),
        ("text/csv", "https://e.org/b", ".csv"),
        ("application/json", "https://e.org/b.html", ".json"),
        ("application/ld+json", "https://e.org/b", ".json"),
        ("application/javascript", "https://e.org/b", ".py"),
    ],
)
def test_the_kind_of_a_page(content_type: str, url: str, suffix: str) -> None:
    assert page_suffix(content_type, url, b"a") == suffix and suffix in SUFFIXES


@pytest.mark.parametrize(("content_type", "url"), [("image/png", "https://e.org/a.txt"), ("", "https://e.org/a")])
def test_a_page_of_another_kind(content_type: str, url: str) -> None:
    with pytest.raises(DocumentError, match="type"):
        page_suffix(content_type, url, b"\0")


# -- what is not installed -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "module", "data"),
    [
        ("a.pdf", "pypdf", pdf()),
        ("a.docx", "lxml.etree", b"PK"),
        ("a.html", "trafilatura", html().encode()),
        ("a.epub", "lxml.etree", b"PK"),
        ("a.odt", "lxml.etree", b"PK"),
    ],
)
def test_a_missing_library_names_its_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, data: bytes
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(data)
    (tmp_path / "good.txt").write_text("good")
    with pytest.raises(MissingExtraError, match=r"pip install 'continual-learning-slm\[documents\]'") as caught:
        read_documents(tmp_path / name)
    assert module in str(caught.value)
    documents, skipped = read_documents(tmp_path)
    assert [d.text for d in documents] == ["good"], "a folder goes on without it"
    assert "pip install" in skipped[0].reason


def test_text_needs_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        assert name.partition(".")[0] not in ("pypdf", "docx", "trafilatura", "lxml", "httpx"), name
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    assert read(tmp_path, "a.txt", "text")[0].text == "text"


def test_a_zip_that_claims_to_be_split() -> None:
    from continual_learning.documents.archive import open_archive

    with pytest.raises(DocumentError, match="damaged"):
        open_archive(b"PK\x05\x06" + b"\xff" * 18, Limits(), "book")
    assert zipfile.is_zipfile(io.BytesIO(epub()))
