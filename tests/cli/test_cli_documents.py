"""`documents`, and what `learn` does with files of many kinds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from document_makers import TEXT, damaged, docx, epub, html, pdf, sitemap, valid
from sites import Site

from continual_learning.cli import learn
from continual_learning.documents import formats
from continual_learning.memory.store import Store


@pytest.fixture
def product(site: Site) -> Site:
    """The documentation of a product: a sitemap, an absent page, a page twice, and a list that names them all."""
    pages = [
        site.put(f"/{n}.html", html(f"The {n} of the product is told here, at some length.", title=n)) for n in "ab"
    ]
    site.put("/sitemap.xml", sitemap(*pages, site.url + "/gone.html"), "application/xml")
    lines = (f"Step {number} of the manual says what to do then." for number in range(5))
    site.put("/manual.pdf", pdf("\n".join(lines)), "application/pdf")
    site.put("/copy.html", html("The a of the product is told here, at some length.", title="a"))
    sources = "".join(f"  - {site.url}/{name}\n" for name in ("sitemap.xml", "manual.pdf", "copy.html", "absent"))
    Path("product.yaml").write_text(f"title: The product\nsources:\n{sources}")
    return site


def test_the_pipeline_from_pages_to_a_memory(cli: Any, tiny: Any, product: Site) -> None:
    assert cli("config", "set", "documents.pause", "0").code == 0
    result = cli(
        "documents", "fetch", "product.yaml", "--words", "12", "-o", "product.jsonl", "--allow-private", "--json"
    )
    assert result.code == 0
    found = result.json
    assert [d["title"] for d in found["documents"]] == ["a", "b", "Comb jellies"]
    assert [Path(s["source"]).name for s in found["skipped"]] == ["gone.html", "absent", "copy.html"]
    assert "gone.html: the server answered 404" in result.err
    rows = [json.loads(line) for line in Path("product.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == found["chunks"] >= 4
    assert {row["source"] for row in rows} == {d["source"] for d in found["documents"]}
    learned = cli("learn", "product.jsonl", "--memory", "product", "--strategy", "in_context", "--json").json
    assert learned["accepted"] == len({row["text"] for row in rows})  # the same text is learned once
    assert {d.source for d in Store.open("product").load().meta.documents} == {row["source"] for row in rows}


def test_private_addresses_need_leave(cli: Any, product: Site) -> None:
    refused = cli("documents", "fetch", "product.yaml", "-o", "x.jsonl")
    assert refused.code == 2 and "--allow-private" in refused.err and not Path("x.jsonl").exists()
    assert cli("learn", product.url + "/a.html").code == 2
    Path("continual-learning.yaml").write_text("documents: {allow_private: true, pause: 0}\n")
    assert cli("documents", "fetch", "product.yaml", "--words", "0").out.endswith(
        "3 chunks of 3 documents in documents.jsonl; next: continual-learning learn documents.jsonl\n"
    )


def test_show_says_what_would_be_learned(cli: Any) -> None:
    Path("a.pdf").write_bytes(pdf(TEXT, ""))
    Path("b.docx").write_bytes(docx("Second."))
    result = cli("documents", "show", "a.pdf", "b.docx", "absent.txt", "--json")
    assert result.code == 0
    assert [(d["title"], d["words"]) for d in result.json["documents"]] == [
        ("Comb jellies", len(TEXT.split())),
        ("b", 1),
    ]
    assert [s["source"] for s in result.json["skipped"]] == ["a.pdf, page 2", "absent.txt"]
    assert "# b  (b.docx)\n\nSecond." in cli("documents", "show", "b.docx", "--text").out
    assert cli("documents", "show", "absent.txt").code == 1


def test_help_names_every_kind() -> None:
    assert learn.KINDS == formats.KINDS


def test_lists(cli: Any) -> None:
    [found] = cli("documents", "lists", "--json").json["lists"]
    assert found["name"] == "oracle" and found["sources"][0].startswith("https://docs.oracle.com/")
    assert "oracle" in cli("documents", "lists").out


def test_learn_takes_every_kind_and_one_bad_file_does_not_stop_the_rest(cli: Any, tiny: Any) -> None:
    Path("a.pdf").write_bytes(pdf("A pdf."))
    Path("b.docx").write_bytes(docx("A docx."))
    Path("c.epub").write_bytes(epub())
    Path("d.html").write_text(html("A page of some length, with a sentence in it."))
    Path("e.py").write_text("print('code')\n")
    Path("scan.pdf").write_bytes(pdf(""))
    Path("copy.txt").write_text("A pdf.")
    result = cli("learn", "a.pdf", "b.docx", "c.epub", "d.html", "e.py", "scan.pdf", "copy.txt", "--json")
    assert (result.code, result.json["accepted"]) == (0, 5)
    assert {s["source"]: s["reason"][:20] for s in result.json["skipped"]} == {
        "scan.pdf": "its only page has no",
        "copy.txt": "the same text as a.p",
    }
    assert cli("learn", "scan.pdf").code == 2, "alone it is the whole request"
    assert cli("learn", "scan.pdf", "scan.pdf").code == 2, "nothing was left"
    assert cli("learn", "a.pdf", "absent.pdf").code == 2, "a name that leads nowhere is a slip"


def test_learn_of_damaged_files_of_every_kind_keeps_what_is_whole(work: Any) -> None:
    rng = random.Random("learn damage")
    folder = Path("pile")
    folder.mkdir()
    for suffix, data in valid().items():
        for number in range(4):
            (folder / f"{number}{suffix}").write_bytes(damaged(data, number, rng))
    (folder / "whole.pdf").write_bytes(pdf("This file is whole."))
    result = work("learn", "pile", "--memory", "work", "--json")
    assert result.code == 0 and "Traceback" not in result.err
    named = {d["source"] for d in result.json["documents"]} | {s["source"] for s in result.json["skipped"]}
    assert [p for p in folder.iterdir() if not any(name.startswith(str(p)) for name in named)] == []
    assert result.err.count("\n") >= len(result.json["skipped"]) > 0
    kept = {d.source for d in Store.open("work").load().meta.documents}
    assert "pile/whole.pdf" in kept and {Path(source).name for source in kept} >= {"one.txt", "two.txt"}
