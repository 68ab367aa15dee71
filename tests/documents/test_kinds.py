"""Tables, data, mails, notebooks and office files: what comes out, so that a cell or a value can be asked for."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from document_makers import TEXT, notebook, odt, pdf

from continual_learning.documents import Document, read_documents
from continual_learning.documents.tables import table_text
from continual_learning.errors import DocumentError


def read(tmp_path: Path, name: str, data: bytes | str) -> tuple[list[Document], dict[str, str]]:
    """The documents, and what was left out by its part of the file."""
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    documents, skipped = read_documents(path)
    return documents, {s.source.partition(", ")[2]: s.reason for s in skipped}


def paragraphs(tmp_path: Path, name: str, data: bytes | str) -> list[str]:
    [document], left_out = read(tmp_path, name, data)
    assert left_out == {}
    return document.text.split("\n\n")


# -- tables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([["Name", "Phone"], ["Priya", "12"], ["Ann", ""]], ["Name: Priya; Phone: 12.", "Name: Ann."]),
        ([["Town", "Land", "Since"], ["Oslo", "Norway", "1048"]], ["Town: Oslo; Land: Norway; Since: 1048."]),
        ([["Name:", "Priya"], ["Town:", "Oslo"]], ["Name: Priya.", "Town: Oslo."]),
        ([["Sizes"], ["Kind", "Size"], ["jelly", "1.5 m"]], ["Sizes", "Kind: jelly; Size: 1.5 m."]),
        ([["", "2019", "2020"], ["Oslo", "1", "2"], ["Europe", None, None]], ["Oslo; 2019: 1; 2020: 2.", "Europe."]),
        ([["1", "2", "3"], ["4", "5", "6"]], ["1 | 2 | 3.", "4 | 5 | 6."]),
        ([["x", "x", "y"], ["4", "5", "6"]], ["x | x | y.", "4 | 5 | 6."]),
        ([["Name"], ["Priya"]], ["Name", "Priya"]),
        ([["Name", "Phone"]], ["Name: Phone."]),
        ([], []),
    ],
)
def test_rows_of_tables(rows: list[list[str | None]], expected: list[str]) -> None:
    assert table_text(rows) == expected


def test_names_in_two_rows_and_names_that_are_texts() -> None:
    assert table_text([["Year", "Oslo", None], ["", "in", "out"], ["2019", "1", "2"]], headers=2) == [
        "Year: 2019; Oslo in: 1; Oslo out: 2."
    ]
    assert table_text([["n" * 300, "b"], ["1", "2"]], headers=1) == [f"{'n' * 300}: b.", "1: 2."], "not in every row"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "Name,Phone\nPriya,12\n\nAnn,13\n"),
        ("a.csv", "\ufeffName;Phone\r\nPriya;12\r\nAnn;13\r\n"),
        ("a.csv", "sep=|\nName|Phone\nPriya|12\nAnn|13"),
        ("a.csv", 'Name;Phone\n"Priya";"12"\nAnn;13'),
        ("a.tsv", "Name\tPhone\nPriya\t12\nAnn\t13\n"),
        ("a.tab", "Name\tPhone\nPriya\t12\nAnn\t13\n"),
        ("a.json", '[{"Name": "Priya", "Phone": 12}, {"Name": "Ann", "Phone": 13, "Fax": null}]'),
        ("a.json", '[["Name", "Phone"], ["Priya", 12], ["Ann", 13]]'),
        ("a.html", "<table><tr><th>Name<th>Phone<tr><td>Priya<td>12<tr><td>Ann<td>13</table>"),
        ("a.html", "<table><thead><tr><td>Name<td>Phone<tbody><tr><td>Priya<td>12<tr><td>Ann<td>13</table>"),
        (
            "a.odt",
            odt(
                "<table:table><table:table-row><table:table-cell><text:p>Name</text:p></table:table-cell><table:table-cell>"
                "<text:p>Phone</text:p></table:table-cell></table:table-row><table:table-row><table:table-cell><text:p>Priya"
                "</text:p></table:table-cell><table:table-cell><text:p>12</text:p></table:table-cell></table:table-row>"
                "<table:table-row><table:table-cell><text:p>Ann</text:p></table:table-cell><table:table-cell><text:p>13"
                "</text:p></table:table-cell></table:table-row></table:table>"
            ),
        ),
        (
            "a.rtf",
            r"{\rtf1\trowd\pard\intbl Name\cell Phone\cell\row\trowd\intbl Priya\cell 12\cell\row"
            r"\trowd\intbl Ann\cell 13\cell\row\pard\par}",
        ),
    ],
)
def test_tables_of_every_kind_are_read_row_by_row(tmp_path: Path, name: str, content: bytes | str) -> None:
    assert paragraphs(tmp_path, name, content) == ["Name: Priya; Phone: 12.", "Name: Ann; Phone: 13."]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", 'a,b\n"x, ""y""",z\n"one\ntwo",3\n', ['a: x, "y"; b: z.', "a: one two; b: 3."]),
        ("a.csv", 'a,b\n"unmatched,1\nnext,2\n', ['a: "unmatched; b: 1.', "a: next; b: 2."]),
        ("a.csv", "a;b\n1,5;2,5\n3,5;4\n", ["a: 1,5; b: 2,5.", "a: 3,5; b: 4."]),
        ("a.csv", "a,b\n1,2,3\n4\n", ["a: 1; b: 2; 3.", "4."]),
        ("a.csv", "Name,Phone\n", ["Name | Phone"]),
        ("a.csv", "3,4\n5,6\n", ["3: 4.", "5: 6."]),
        ("a.csv", f"a,b\n1,{'x' * 200_000}\n", [f"a: 1; b: {'x' * 200_000}."]),
    ],
)
def test_csv_as_it_comes(tmp_path: Path, name: str, content: str, expected: list[str]) -> None:
    assert paragraphs(tmp_path, name, content) == expected


def test_merged_cells_of_a_page(tmp_path: Path) -> None:
    table = (
        "<table><caption>Rooms</caption><tr><th>Room<th colspan=2>Keeper<tr><td rowspan=2>Archive<td>Priya<td>12"
        "<tr><td>Ann<td>13<tr><td colspan=3>All others are closed</table>"
        "<table><tr><th>Founder<td>Agnes<tr><th>Opened<td>1904</table>"
    )
    assert paragraphs(tmp_path, "a.html", table) == [
        "Rooms",
        "Room: Archive; Keeper: Priya; Keeper: 12.",
        "Room: Archive; Keeper: Ann; Keeper: 13.",
        "All others are closed.",
        "Founder: Agnes.",
        "Opened: 1904.",
    ]


@pytest.mark.slow
def test_tables_that_are_traps(tmp_path: Path) -> None:
    """Merged cells and long names say more than is there: neither time nor memory follows them."""
    started = time.monotonic()
    for trap in (
        "<table>" + "<tr><td colspan=1000 rowspan=1000>x<td>y" * 5000 + "</table>",
        "<table><tr><th>a<th>b" + f"<tr><td rowspan=1000>{'long ' * 2000}<td>c" + "<tr><td>d" * 5000 + "</table>",
        f"<table><tr><th>{'name ' * 2000}<th>b" + "<tr><td>c<td>d" * 5000 + "</table>",
        "<ol>" + "<li>x" * 20_000 + "</ol>",
        "<p>" + "<b>x</b>" * 50_000,
        "<div>" * 200 + "text in a page that is nested deeply",
    ):
        [document], _ = read(tmp_path, "a.html", trap)
        assert len(document.text) < 1_000_000
    read(tmp_path, "a.csv", "a\n" * 50_000 + "a,b\n")
    read(tmp_path, "a.rtf", r"{\rtf1 " + r"\'e4" * 200_000 + r"{\b x}" * 50_000 + "}")
    assert time.monotonic() - started < 20


# -- data ------------------------------------------------------------------------------------------


def test_json_with_texts_is_a_document_an_item(tmp_path: Path) -> None:
    rows = [{"text": "one", "title": "T"}, {"text": ""}, {"text": "two", "source": "https://e.org/"}]
    documents, left_out = read(tmp_path, "a.json", json.dumps(rows))
    assert [(d.title, d.text, d.source) for d in documents] == [
        ("T", "one", f"{tmp_path / 'a.json'}:1"),
        ("", "two", "https://e.org/"),
    ]
    assert list(left_out) == ["item 2"] and "empty" in left_out["item 2"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"name": "Priya", "at": {"town": "Oslo"}, "tags": ["a", "b"]}, ["name: Priya; at town: Oslo; tags: a, b."]),
        (["one", 2, True], ["one, 2, true."]),
        ([{"a": [{"b": 1}, {"b": 2}]}], ["a b: 1; a b: 2."]),
        ("a text", ["a text"]),
        (
            {"name": "Pell", "rooms": {str(i): {"keeper": f"K{i}"} for i in range(40)}},
            ["name: Pell.", *(f"Pell rooms {i}: keeper: K{i}." for i in range(40))],
        ),
    ],
)
def test_other_json_is_text(tmp_path: Path, value: object, expected: list[str]) -> None:
    assert paragraphs(tmp_path, "a.json", json.dumps(value)) == expected


def test_numbers_of_json_stay_as_they_are_written(tmp_path: Path) -> None:
    assert paragraphs(tmp_path, "a.json", '{"price": 1.50, "count": 10000000000000000000000}') == [
        "price: 1.50; count: 10000000000000000000000."
    ]


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "nothing", f"[{'1' * 5000}]", "", "{}", "null"])
def test_json_that_is_none_or_empty(tmp_path: Path, content: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, "a.json", content)
    assert "\n" not in str(caught.value) and "a.json" in str(caught.value)


# -- notebooks, mails, office files ----------------------------------------------------------------


def test_a_notebook_is_its_texts_its_code_and_what_it_printed(tmp_path: Path) -> None:
    cells = json.loads(notebook(("markdown", "# The mill\n\nIt closed."), ("code", "1 + 1", "\x1b[31m2\x1b[0m\n")))
    cells["cells"][1]["outputs"] += [
        {"output_type": "display_data", "data": {"image/png": "aGk=", "text/plain": ["<Figure>"]}},
        {"output_type": "error", "ename": "KeyError", "evalue": "'x'", "traceback": ["long"]},
    ]
    [document], left_out = read(tmp_path, "a.ipynb", json.dumps(cells))
    assert document.text.split("\n\n") == ["# The mill", "It closed.", "1 + 1", "2", "KeyError: 'x'"]
    assert (document.title, left_out) == ("The mill", {"pictures": "1 of them"})
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": "x = 1", "outputs": []}]}]}
    assert paragraphs(tmp_path, "b.ipynb", json.dumps(old)) == ["x = 1"]


MAIL = """From: Priya <priya@example.org>
To: =?utf-8?q?K=C3=A4the?= <kaethe@example.org>
Date: Mon, 5 Jan 2026 10:00:00 +0100
Subject: The =?iso-8859-1?q?M=FChle?=
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: multipart/alternative; boundary=c

--c
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Die M=FChle is closed.
--c
Content-Type: text/html

<p>The same again</p>
--c--
--b
Content-Type: text/plain

A second text.
--b
Content-Type: text/csv; name=rooms.csv
Content-Disposition: attachment; filename=rooms.csv

a,b
--b
Content-Type: message/rfc822

Subject: Inner
Content-Type: text/html; charset=utf-8

<p>Forwarded <b>text</b>.</p><ul><li>one</ul>
--b--
"""


def test_a_mail_is_its_head_and_its_texts_and_names_its_attachments(tmp_path: Path) -> None:
    [document], left_out = read(tmp_path, "a.eml", MAIL)
    assert document.text.split("\n\n") == [
        "From: Priya <priya@example.org>",
        "To: Käthe <kaethe@example.org>",
        "Date: Mon, 05 Jan 2026 10:00:00 +0100",
        "Subject: The Mühle",
        "Die Mühle is closed.",
        "A second text.",
        "Subject: Inner",
        "Forwarded text.",
        "- one",
    ]
    assert document.title == "The Mühle" and list(left_out) == ["attachment rooms.csv"]
    with pytest.raises(DocumentError, match="no mail"):
        read(tmp_path, "b.eml", "Just a text\nwithout a head\n")


@pytest.mark.parametrize("kind", ["mixed", "alternative"])
def test_a_mail_whose_boundary_is_lost_keeps_its_text(tmp_path: Path, kind: str) -> None:
    mail = f"Subject: The mill\nContent-Type: multipart/{kind};\n\nboundary=b\n\n--b\n\nIt is closed.\n--b--\n"
    [document], left_out = read(tmp_path, "a.eml", mail)
    assert "It is closed." in document.text and left_out == {}


def test_an_opendocument_text(tmp_path: Path) -> None:
    note = (
        "<text:note><text:note-citation>1</text:note-citation>"
        "<text:note-body><text:p>A note.</text:p></text:note-body></text:note>"
    )
    body = (
        "<text:tracked-changes><text:changed-region><text:deletion><text:p>Gone.</text:p></text:deletion>"
        "</text:changed-region></text:tracked-changes>"
        "<text:table-of-content><text:p>Rooms 1</text:p></text:table-of-content>"
        f"<text:h>The <text:span>archive</text:span></text:h>"
        f"<text:p>It<text:s text:c='2'/>closed{note} in<text:line-break/>1887."
        "<office:annotation><text:p>Sure?</text:p></office:annotation></text:p>"
        "<text:list><text:list-item><text:p>Item<draw:frame><draw:text-box><text:p>In a box.</text:p></draw:text-box>"
        "</draw:frame></text:p></text:list-item></text:list>"
    )
    styles = (
        "<style:header><text:p>Pell archive</text:p>"
        "<text:p>Page <text:page-number>1</text:page-number></text:p></style:header>"
        "<style:footer-first><text:p>Oslo</text:p></style:footer-first>"
    )
    [document], left_out = read(tmp_path, "a.odt", odt(body, styles))
    assert document.text.split("\n\n") == [
        "Pell archive",
        "The archive",
        "It  closed in\n1887.",
        "A note.",
        "Item",
        "In a box.",
        "Oslo",
    ]
    assert document.title == "The archive"
    assert left_out == {name: "there is one" for name in ("comments", "deleted passages", "table of contents")}
    assert read(tmp_path, "b.odt", odt(body, title="T"))[0][0].title == "T"


RTF = rb"""{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fswiss Arial;}{\f1\fcharset204 Arial Cyr;}}{\colortbl;\red0;}
{\*\generator Riched;}{\info{\title The mill}{\author X}}
{\header Pell archive\par}{\footer Page {\field{\*\fldinst PAGE}{\fldrslt 3}}\par}
\pard Die M\'fchle {\f1\'ec\'ee\'f0\'e5} is \u8364?5, \uc0\u-10179\u-8704 .{\footnote After a flood.} It
 burned.\par
{\deleted gone away}stays{\v secret} \emdash  here\~x\line next\par
\pard after {\pict 0102ab}{\shp{\*\shpinst{\sp{\sn a}{\sv b}}{\shptxt In a box.\par}}}end
{\field{\*\fldinst{HYPERLINK "x"}}{\fldrslt link}}\par}"""


def test_rich_text(tmp_path: Path) -> None:
    [document], left_out = read(tmp_path, "a.rtf", RTF)
    assert document.text.split("\n\n") == [
        "Pell archive",
        "Die Mühle море is €5, 😀. It burned.",
        "After a flood.",
        "stays — here x\nnext",
        "after endlink",
        "In a box.",
    ]
    assert (document.title, left_out) == ("The mill", {"deleted text": "2 words", "hidden text": "1 word"})
    _, left_out = read(tmp_path, "b.rtf", RTF[:-1])
    assert any("cut off" in name for name in left_out)
    with pytest.raises(DocumentError, match="no rich text"):
        read(tmp_path, "c.rtf", "text")


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["README", "app.log", "Chapter 1. The sea", "notes.org"])
def test_texts_by_other_names(tmp_path: Path, name: str) -> None:
    [document], _ = read(tmp_path, name, TEXT)
    assert (document.text, document.title) == (TEXT, name.removesuffix(".log").removesuffix(".org"))


def test_a_file_without_a_suffix_is_told_by_its_content(tmp_path: Path) -> None:
    assert read(tmp_path, "paper", pdf("A text."))[0][0].text == "A text."
    assert paragraphs(tmp_path, "letter", odt("<text:p>A letter.</text:p>")) == ["A letter."]
    with pytest.raises(DocumentError, match="binary"):
        read(tmp_path, "core", b"\x7fELF\0")
