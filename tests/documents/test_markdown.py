"""Titles of Markdown files."""

from __future__ import annotations

import pytest

from continual_learning.documents.document import Parsed, Skipped
from continual_learning.documents.markdown import parse_markdown


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("The Pell archive\n================\n\nIt opened in 1904.\n\n# Second\n", "The Pell archive"),
        ("Two lines\nof it\n---\n", "Two lines of it"),
        ("````\n```\n# no\n```\n````\n\n# Real title\n", "Real title"),
        ("~~~\n# no\n```\n# no\n~~~\n# Yes #\n", "Yes"),
        ("``` a`b\n# Yes\n", "Yes"),
        ("    # code\n\n# Yes\n", "Yes"),
        ("<!--\n# no\n-->\n\n# Yes\n", "Yes"),
        ('<h1 align="center">\n  <img src="x.png">The &amp; <b>tool</b>\n</h1>\n\n# No\n', "The & tool"),
        ("<!-- <h1>no</h1> -->\n\n# Yes\n", "Yes"),
        ("> # quoted\n\n- # listed\n\n# Yes\n", "Yes"),
        ("---\ntitle: 'A: b'\ndate: 2024-01-02\n---\n\n# No\n", "A: b"),
        ('+++\ntitle = "T"\n+++\n# No\n', "T"),
        ("---\ndraft: true\n---\n# Yes\n", "Yes"),
        ("---\n\n# After a rule\n", "After a rule"),
        ("---\ntags: [not yaml\ntitle: Long\n  title\n---\n# No\n", "Long title"),
        ("---\ntitle: [not, text\n---\n# Yes\n", "Yes"),
        ("# **Bold** *it* `code` ~~old~~ [link](http://x.org) <b>tag</b> &amp; \\*\n", "Bold it code old link tag & *"),
        ("# ![The logo](x.png) [Name][ref]\n\n[ref]: http://x.org\n", "The logo Name"),
        ("# ![](badge.svg)\n\n# Yes\n", "Yes"),
        ("# Title {#id .class}\n", "Title"),
        ("# C# and {braces}\n", "C# and {braces}"),
        ("No heading.\n", ""),
        ("#no heading\n", ""),
        ("# " + "a" * 3000 + "\n", "a" * 1000),
    ],
)
def test_the_title_is_what_a_reader_sees_first(text: str, title: str) -> None:
    found = parse_markdown(text.encode())
    assert found.title == title
    assert found.text == text


def test_a_picture_in_the_text_is_named_and_not_learned() -> None:
    picture = f"data:image/png;base64,{'iVBORw0KGgo' * 300}=="
    found = parse_markdown(f"# The mill\n\n![It]({picture})\n\nIt is red.\n\n[it]: {picture}\n".encode())
    text = "# The mill\n\n![It](data:image/png;base64,…)\n\nIt is red.\n\n[it]: data:image/png;base64,…\n"
    assert found == Parsed(text, "The mill", (Skipped("embedded files", "2 of them, written as base64"),))
    short = "Such as `data:text/plain;base64,SGVsbG8=`.\n"
    assert parse_markdown(short.encode()) == Parsed(short)
