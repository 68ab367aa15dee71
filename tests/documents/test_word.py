"""Word files: all of their text, and the names of what is left out."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from document_makers import archive, w, word

from continual_learning.documents import Document, Skipped, read_documents


def read(tmp_path: Path, name: str, data: bytes) -> tuple[Document, list[Skipped]]:
    path = tmp_path / name
    path.write_bytes(data)
    [document], skipped = read_documents(path)
    return document, skipped


def run(text: str, properties: str) -> str:
    return f"<w:r><w:rPr>{properties}</w:rPr><w:t>{text}</w:t></w:r>"


def changed(kind: str, content: str) -> str:
    return f'<w:{kind} w:id="1" w:author="A">{content}</w:{kind}>'


CONTROL = f"<w:sdt><w:sdtContent>{run('control', '')}</w:sdtContent></w:sdt>"
BOX = f"<w:r><w:pict><shape><textbox><w:txbxContent>{w('In a box.')}</w:txbxContent></textbox></shape></w:pict></w:r>"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(w("It is ", changed("ins", run("Wilma Tarn", "")), "."), "It is Wilma Tarn.", id="insertion"),
        pytest.param(changed("ins", w("New.")) + w("Old."), "New.\n\nOld.", id="inserted paragraph"),
        pytest.param(
            changed("moveFrom", w("Moved.")) + w("Stays.") + changed("moveTo", w("Moved.")),
            "Stays.\n\nMoved.",
            id="move",
        ),
        pytest.param(
            w("One ", properties="<w:rPr><w:del/></w:rPr>")
            + w("two.")
            + w("Last", properties="<w:rPr><w:del/></w:rPr>"),
            "One two.\n\nLast",
            id="deleted ends of paragraphs",
        ),
        pytest.param(
            f"<w:sdt><w:sdtPr/><w:sdtContent>{w('In ', CONTROL)}</w:sdtContent></w:sdt>",
            "In control",
            id="content controls",
        ),
        pytest.param(
            w("Name: ", "<w:sdt><w:sdtPr><w:showingPlcHdr/></w:sdtPr><w:r><w:t>Enter a name</w:t></w:r></w:sdt>"),
            "Name:",
            id="prompt of a content control",
        ),
        pytest.param(w("Note: ", BOX) + w("After."), "Note:\n\nIn a box.\n\nAfter.", id="text box"),
        pytest.param(
            w(
                f"<mc:AlternateContent><mc:Choice>{BOX}</mc:Choice><mc:Fallback>{BOX}</mc:Fallback></mc:AlternateContent>"
            ),
            "In a box.",
            id="given twice",
        ),
        pytest.param(
            w("See ", f"<w:hyperlink><w:smartTag>{run('the guide', '')}</w:smartTag></w:hyperlink>"),
            "See the guide",
            id="link",
        ),
        pytest.param(
            w("A", "<w:r><w:tab/><w:t>b</w:t><w:noBreakHyphen/><w:t>c</w:t><w:softHyphen/><w:br/></w:r>", "d"),
            "A\tb-c\nd",
            id="marks",
        ),
        pytest.param(
            w("Half is ", "<m:oMath><m:f><m:num><m:t>1</m:t></m:num><m:den><m:t>2</m:t></m:den></m:f></m:oMath>"),
            "Half is 1/2",
            id="formula",
        ),
    ],
)
def test_all_of_the_text_of_a_word_file_is_read(tmp_path: Path, body: str, text: str) -> None:
    assert read(tmp_path, "a.docx", word(body)) == (Document(text, "a", str(tmp_path / "a.docx")), [])


def test_what_a_word_file_loses_is_named(tmp_path: Path) -> None:
    body = w(
        "Seen.",
        changed("del", "<w:r><w:delText>Oskar Brandt</w:delText></w:r>"),
        run("not seen at all", "<w:vanish/>"),
        run(" And this.", '<w:vanish w:val="0"/>'),
        "<w:r><w:commentReference/><w:object><OLEObject/></w:object></w:r>",
    )
    document, skipped = read(
        tmp_path, "a.docx", word(body + "<w:altChunk/>" + w("One\t1", properties='<w:pStyle w:val="TOC1"/>'))
    )
    assert document.text == "Seen. And this."
    assert {s.source.partition(", ")[2]: s.reason for s in skipped} == {
        "deleted text": "2 words",
        "hidden text": "4 words",
        "comments": "there is one",
        "embedded files": "there is one",
        "inserted files": "there is one",
        "entries of the table of contents": "there is one",
    }


def test_notes_headers_and_footers_of_a_word_file(tmp_path: Path) -> None:
    page = "<w:r><w:fldChar w:fldCharType='begin'/><w:instrText> PAGE </w:instrText></w:r>" + run("3", "")
    page += "<w:r><w:fldChar w:fldCharType='end'/></w:r>"
    sections = "<w:sectPr><w:headerReference r:id='header'/><w:footerReference r:id='footer'/></w:sectPr>"
    data = word(
        w("It closed", "<w:r><w:footnoteReference w:id='2'/></w:r>", " in 1887.")
        + w("Next.", properties=sections)
        + sections,
        header=w("Pell archive") + w("Page ", page, " of ", "<w:fldSimple w:instr='NUMPAGES'/>"),
        footer=w("Founded by Agnes Morrow, page ", page),
        footnotes=f"<w:footnote w:id='0' w:type='separator'>{w('-')}</w:footnote>"
        f"<w:footnote w:id='2'>{w('After a flood.')}</w:footnote>",
    )
    document, skipped = read(tmp_path, "a.docx", data)
    assert document.text.split("\n\n") == [
        "Pell archive",
        "It closed in 1887.",
        "After a flood.",
        "Next.",
        "Founded by Agnes Morrow, page",
    ]
    assert skipped == []


def cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{w(text)}</w:tc>"


def test_rows_of_a_word_table_are_read_with_the_names_of_their_columns(tmp_path: Path) -> None:
    top, below = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    rows = [
        ("<w:tblHeader/>", cell("Room") + cell("Keeper", '<w:gridSpan w:val="2"/>') + cell("Note")),
        ("", cell("Archive", top) + cell("Priya") + cell("12") + cell("")),
        ("", cell("", below) + cell("Ann") + cell("13") + cell("ill")),
        ("<w:del/>", cell("Gone") + cell("Old") + cell("1") + cell("")),
    ]
    table = "".join(f"<w:tr><w:trPr>{properties}</w:trPr>{cells}</w:tr>" for properties, cells in rows)
    document, skipped = read(tmp_path, "a.docx", word(f"<w:tbl>{table}</w:tbl>"))
    assert document.text.split("\n\n") == [
        "Room: Archive; Keeper: Priya; Keeper: 12.",
        "Room: Archive; Keeper: Ann; Keeper: 13; Note: ill.",
    ]
    assert [s.reason for s in skipped] == ["3 words"]
    layout = "<w:tbl><w:tr>" + cell("Left of all.") + cell("Right.") + "</w:tr></w:tbl>"
    assert read(tmp_path, "b.docx", word(layout))[0].text == "Left of all.\n\nRight.", "a table for its looks"


def test_parts_that_a_program_on_windows_named_with_backslashes(tmp_path: Path) -> None:
    sections = "<w:sectPr><w:footerReference r:id='footer'/></w:sectPr>"
    data = word(w("Wilma Tarn keeps it.") + sections, footer=w("Kept since 1990."))
    for name in (b"word/document.xml", b"word/_rels/document.xml.rels", b"word/footer.xml"):
        assert name in data
        data = data.replace(name, name.replace(b"/", b"\\"))
    document, skipped = read(tmp_path, "a.docx", data)
    assert (document.text, skipped) == ("Wilma Tarn keeps it.\n\nKept since 1990.", [])


@pytest.mark.parametrize("kind", ["styles", "footnotes", "header", "image"])
def test_a_reference_to_a_part_that_is_not_there_costs_nothing(tmp_path: Path, kind: str) -> None:
    sections = f"<w:sectPr><w:headerReference r:id='{kind}'/></w:sectPr>"
    data = word(w("Wilma Tarn keeps it.") + sections, **{kind: ""})
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        left = {name: packed.read(name) for name in packed.namelist() if name != f"word/{kind}.xml"}
        assert len(left) == len(packed.namelist()) - 1
    document, skipped = read(tmp_path, "a.docx", archive(left))
    assert (document.text, skipped) == ("Wilma Tarn keeps it.", [])
