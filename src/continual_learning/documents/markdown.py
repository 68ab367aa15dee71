"""Markdown files: the text as it is, and its title, by markdown-it's reading of CommonMark."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from html import unescape
from itertools import pairwise
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from continual_learning.documents.document import Parsed, Skipped, one_line
from continual_learning.documents.plain import decode

# A title stands near the beginning. What is parsed has a limit, so that no text takes long.
_SEARCHED = 50_000
_LONGEST_HEADING = 1000
_HTML_HEADING = re.compile(r"<h[1-6]\b[^>]{0,200}>(.{1,500}?)</h[1-6]", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]{0,300}>")
_SETTING = re.compile(r"[\w-]+\s*[:=]")
_EMBEDDED = re.compile(r"(\bdata:[\w/.+;=-]{0,100};base64,)[A-Za-z0-9+/=%]{100,}")
_FRONT_MATTER = {"---": ("---", "..."), "+++": ("+++",)}


def parse_markdown(data: bytes) -> Parsed:
    """A Markdown file, titled by its front matter, or else by its first heading.

    The text is unchanged, but for pictures and other files that are written into it as base64: these are named.
    """
    text, embedded = _EMBEDDED.subn(r"\1…", decode(data))
    title, body = _front_matter(text[:_SEARCHED])
    left_out = (Skipped("embedded files", f"{embedded:,} of them, written as base64"),) if embedded else ()
    return Parsed(text, title or _first_heading(body), left_out)


def _front_matter(text: str) -> tuple[str, str]:
    """The title in the YAML or TOML settings before the text, and the text after them."""
    lines = text.split("\n")
    mark = lines[0].rstrip()
    ends = _FRONT_MATTER.get(mark, ())
    end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() in ends), None)
    if end is None or not any(map(_SETTING.match, lines[1:end])):  # a rule, and text
        return "", text
    title = next((n for n in range(1, end) if lines[n].startswith("title")), end)
    last = next((n for n in range(title + 1, end) if not lines[n].startswith((" ", "\t"))), end)
    return _title_of("\n".join(lines[title:last])[:_LONGEST_HEADING], mark), "\n".join(lines[end + 1 :])


def _title_of(setting: str, mark: str) -> str:
    """The title in its own lines: what else is set, and may be wrong, is not read."""
    try:
        settings = tomllib.loads(setting) if mark == "+++" else yaml.safe_load(setting)
    except (yaml.YAMLError, ValueError, RecursionError):
        return ""
    title = settings.get("title") if isinstance(settings, dict) else None
    return one_line(str(title)) if isinstance(title, str | int | float) else ""


def _first_heading(text: str) -> str:
    parser = MarkdownIt("commonmark").enable("strikethrough")
    inline = MarkdownIt("commonmark").enable("strikethrough")
    parser.disable("inline")  # of the whole text only the blocks are wanted
    references: dict[str, Any] = {}
    tokens = parser.parse(text, references)
    for opening, content in pairwise([*tokens, Token("end", "", 0)]):
        if opening.type == "html_block" and opening.level == 0 and (title := _html_heading(opening.content)):
            return title
        if opening.type == "heading_open" and opening.level == 0:
            (line,) = inline.parseInline(_without_attributes(content.content)[:_LONGEST_HEADING], references)
            if title := one_line(_plain(line.children or ())):
                return title
    return ""


def _html_heading(block: str) -> str:
    """The text of the first heading in a block of HTML, as many a README begins with."""
    match = _HTML_HEADING.search(block[:_LONGEST_HEADING])
    return one_line(unescape(_TAG.sub("", match[1]))) if match and "<!--" not in block[: match.start()] else ""


def _without_attributes(heading: str) -> str:
    """A heading without ``{#id .class}`` at its end, as Pandoc and MkDocs have it."""
    text, brace, attributes = heading.rstrip().rpartition("{")
    return text if brace and attributes.endswith("}") and attributes[0] in "#.:" else heading


def _plain(tokens: Sequence[Token]) -> str:
    """What a reader sees of a line: without emphasis, targets of links and tags."""
    return "".join(
        _plain(token.children or ()) if token.type == "image"
        else " " if token.type in ("softbreak", "hardbreak")
        else "" if token.type == "html_inline"
        else token.content
        for token in tokens
    )  # fmt: skip
