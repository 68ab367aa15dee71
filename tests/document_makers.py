"""Small valid documents of every kind, made here, and ways to damage them."""

from __future__ import annotations

import io
import json
import random
import zipfile
import zlib

TEXT = "Comb jellies eat plankton. They swim with eight rows of cilia. The largest is 1.5 metres long."
CHAPTERS = (
    "They eat plankton and live in every sea of the world.",
    "They swim with eight rows of cilia, all day long.",
)


def pdf(*pages: str, title: str = "Comb jellies", compress: bool = True, columns: tuple[int, ...] = ()) -> bytes:
    """A PDF 1.4 with one line of Helvetica for each line of each page; an empty page has no text.

    A tab in a line goes on at the next of ``columns``, in points from the left margin.
    """
    pages = pages or (TEXT,)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    kids = []
    for page in pages:
        lines = [
            line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") for line in page.split("\n") if line
        ]
        shown = []
        for line in lines:
            cells = line.split("\t")
            moves = [b - a for a, b in zip((0, *columns), columns[: len(cells) - 1], strict=False)]
            back = f"{-sum(moves)} 0 Td " if moves else ""
            rest = "".join(f"{move} 0 Td ({cell}) Tj " for move, cell in zip(moves, cells[1:], strict=True))
            shown.append(f"({cells[0]}) Tj {rest}{back}T*")
        body = "BT /F1 11 Tf 14 TL 50 750 Td " + " ".join(shown) + " ET" if lines else ""
        data = zlib.compress(body.encode("latin-1")) if compress else body.encode("latin-1")
        filter_ = b"/Filter /FlateDecode " if compress else b""
        objects.append(b"<< " + filter_ + b"/Length %d >>\nstream\n" % len(data) + data + b"\nendstream")
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
        kids.append(len(objects))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(b"%d 0 R" % k for k in kids))
    objects.append(f"<< /Title ({title}) >>".encode("latin-1"))
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    info = len(objects)
    return out + b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (info + 1, info, start)


def docx(*paragraphs: str, title: str = "", rows: list[list[str]] | None = None, heading: str = "") -> bytes:
    """A Word file."""
    import docx as library

    document = library.Document()
    document.core_properties.title = title
    if heading:
        document.add_heading(heading, 1)
    for paragraph in paragraphs or (TEXT,):
        document.add_paragraph(paragraph)
    if rows:
        table = document.add_table(len(rows), len(rows[0]))
        for y, row in enumerate(rows):
            for x, cell in enumerate(row):
                table.cell(y, x).text = cell
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def html(*paragraphs: str, title: str = "Comb jellies", head: str = "", links: str = "") -> str:
    """A page with a menu and a footer around its text."""
    body = "".join(f"<p>{p}</p>" for p in paragraphs or (TEXT, "They live in every sea of the world, at all depths."))
    return (
        f"<!DOCTYPE html><html><head>{head}<title>{title}</title></head><body>"
        f"<nav><ul><li><a href='/'>Home page</a></li><li><a href='/shop'>Shop</a></li></ul></nav>"
        f"<main><article><h1>{title}</h1>{body}</article></main>{links}"
        f"<footer><p>All rights reserved. Imprint.</p></footer></body></html>"
    )


def archive(parts: dict[str, str | bytes]) -> bytes:
    """A ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in parts.items():
            packed.writestr(name, content)
    return file.getvalue()


def epub(*chapters: str, title: str = "The jelly book", extra: dict[str, str | bytes] | None = None) -> bytes:
    """A book, whose package file lists the chapters in another order than the spine reads them."""
    texts = chapters or CHAPTERS
    items = "".join(
        f'<item id="c{i}" href="text/chapter%20{i}.xhtml" media-type="application/xhtml+xml"/>'
        for i in reversed(range(len(texts)))
    )
    spine = "".join(f'<itemref idref="c{i}"/>' for i in range(len(texts)))
    container = (
        '<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
        '<rootfiles><rootfile full-path="OPS/package.opf" media-type="application/oebps-package+xml"/></rootfiles>'
        "</container>"
    )
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        f'<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    parts: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": container,
        "OPS/package.opf": package,
    }
    for i, text in enumerate(texts):
        parts[f"OPS/text/chapter {i}.xhtml"] = (
            f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>Chapter {i}</title></head>'
            f"<body><h1>Chapter {i}</h1><p>{text}</p></body></html>"
        )
    return archive({**parts, **(extra or {})})


def sitemap(*places: str, kind: str = "urlset") -> str:
    """A sitemap of pages, or with ``kind="sitemapindex"`` of sitemaps."""
    entry = "url" if kind == "urlset" else "sitemap"
    body = "".join(f"<{entry}><loc>{place}</loc></{entry}>" for place in places)
    return f'<?xml version="1.0" encoding="UTF-8"?><{kind} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{body}</{kind}>'


def notebook(*cells: tuple[str, ...]) -> bytes:
    """A notebook of cells: kind, source, and what it printed."""
    made = [
        {"cell_type": kind, "source": source, "outputs": [{"output_type": "stream", "text": text} for text in printed]}
        for kind, source, *printed in cells
    ]
    return json.dumps({"nbformat": 4, "cells": made}).encode()


def odt(body: str, styles: str = "", title: str = "") -> bytes:
    """An OpenDocument text from the XML of its body and of its page styles."""
    names = "office text table draw style".split()
    spaces = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in names)
    dc = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
    return archive(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": f"<office:document {spaces}><office:body>{body}</office:body></office:document>",
            "styles.xml": f"<office:document-styles {spaces}>{styles}</office:document-styles>",
            "meta.xml": f"<office:document-meta {spaces} {dc}><dc:title>{title}</dc:title></office:document-meta>",
        }
    )


def valid() -> dict[str, bytes]:
    """One valid file of every kind, by its suffix."""
    return {
        ".txt": TEXT.encode(),
        ".md": f"# Comb jellies\n\n{TEXT}\n".encode(),
        ".jsonl": "".join(json.dumps({"title": f"T{i}", "text": TEXT[i:]}) + "\n" for i in range(3)).encode(),
        ".html": html(head="<meta charset=utf-8>").encode(),
        ".pdf": pdf(TEXT, "Second page.\nTwo lines."),
        ".docx": docx(TEXT, title="Comb jellies", rows=[["a", "b"], ["c", "d"]]),
        ".epub": epub(),
        ".csv": b"Name;Text\nfirst;" + TEXT.encode() + b'\nsecond;"two, 2"\n',
        ".json": json.dumps({"text": TEXT, "more": [{"a": 1, "b": [True, None]}, 2.5]}).encode(),
        ".ipynb": notebook(("markdown", "# Jellies"), ("code", f"print({TEXT!r})", TEXT)),
        ".odt": odt(f"<text:h>Jellies</text:h><text:p>{TEXT}</text:p>"),
        ".rtf": rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}}\pard " + TEXT.encode() + rb"\par\u8364?\'e4{\footnote x}}",
        ".eml": b"From: a@b.c\nSubject: Jellies\nContent-Type: text/plain; charset=utf-8\n\n" + TEXT.encode(),
        ".py": b"def eat(what):\n    return f'eats {what}'\n",
    }


def mutated(data: bytes, rng: random.Random) -> bytes:
    """``data`` damaged in one to four ways: bytes changed, cut out, doubled, put elsewhere, or cut off."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not found:
            break
        at = rng.randrange(len(found))
        length = min(len(found) - at, 1 + int(rng.expovariate(1 / 40)))
        match rng.randrange(7):
            case 0:
                for _ in range(rng.randint(1, 20)):
                    found[rng.randrange(len(found))] = rng.randrange(256)
            case 1:
                del found[at : at + length]
            case 2:
                found[at:at] = found[at : at + length]
            case 3:
                found[at:at] = rng.randbytes(length)
            case 4:
                del found[at:]
            case 5:
                piece = found[at : at + length]
                del found[at : at + length]
                to = rng.randrange(len(found) + 1)
                found[to:to] = piece
            case _:  # a number becomes another, as lengths and offsets are
                digits = [i for i, byte in enumerate(found) if 48 <= byte <= 57]
                for i in rng.sample(digits, min(len(digits), 5)):
                    found[i] = rng.randrange(48, 58)
    return bytes(found)


def damaged(data: bytes, number: int, rng: random.Random) -> bytes:
    """``data`` mutated; of every second archive or PDF something inside, so that the damage gets past the wrapping."""
    if number % 2 and data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            parts: dict[str, str | bytes] = {name: packed.read(name) for name in packed.namelist()}
        # the last ones hold the text, the first ones the structure; each is hit in its turn
        for name in rng.sample(sorted(parts), 3):
            parts[name] = mutated(bytes(parts[name]), rng)  # type: ignore[arg-type]
        return archive(parts)
    if number % 2 and data.startswith(b"%PDF"):
        return mutated(pdf(TEXT, "Second page.\nTwo lines.", compress=False), rng)
    return mutated(data, rng)


def word(body: str, **parts: str) -> bytes:
    """A Word file from the XML of its body, and of parts such as ``footnotes`` and ``header``; no prefix but ``w:``."""
    namespaces = (
        'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
        'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships" '
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
        'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    )
    kinds = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    relations = "".join(f'<Relationship Id="{n}" Type="{kinds}/{n}" Target="{n}.xml"/>' for n in parts)
    files: dict[str, str | bytes] = {
        "word/document.xml": f"<w:document {namespaces}><w:body>{body}</w:body></w:document>",
        "word/_rels/document.xml.rels": f"<Relationships>{relations}</Relationships>",
    }
    files |= {f"word/{n}.xml": f"<w:part {namespaces}>{content}</w:part>" for n, content in parts.items()}
    return archive(files)


def w(*texts: str, properties: str = "") -> str:
    """A paragraph of a Word file; what begins with ``<`` is XML, the rest are runs."""
    runs = "".join(t if t.startswith("<") else f'<w:r><w:t xml:space="preserve">{t}</w:t></w:r>' for t in texts)
    return f"<w:p>{f'<w:pPr>{properties}</w:pPr>' if properties else ''}{runs}</w:p>"
