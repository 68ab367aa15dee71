"""Markdown files: the text as it is, and its title, by markdown-it's reading of CommonMark."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from continual_learning.documents.document import Parsed, one_line
from continual_learning.documents.plain import decode

# A title stands near the beginning. What is parsed has a limit, so that no text takes long.
_SEARCHED = 50_000
_LONGEST_HEADING = 1000
_FRONT_MATTER = {"---": ("---", "..."), "+++": ("+++",)}


def parse_markdown(data: bytes) -> Parsed:
    """A Markdown file, unchanged, titled by its front matter, or else by its first heading."""
    text = decode(data)
    head = text[:_SEARCHED]
    front, body = _front_matter(head)
    return Parsed(text, one_line(str(front.get("title") or "")) or _first_heading(body))


def _front_matter(text: str) -> tuple[Mapping[str, Any], str]:
    """The settings in YAML or TOML before the text, and the text after them."""
    lines = text.split("\n")
    mark = lines[0].rstrip()
    ends = _FRONT_MATTER.get(mark, ())
    end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() in ends), None)
    if end is None:
        return {}, text
    block = "\n".join(lines[1:end])
    try:
        settings = tomllib.loads(block) if mark == "+++" else yaml.safe_load(block)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}, text  # a line that only looks like it
    return (settings, "\n".join(lines[end + 1 :])) if isinstance(settings, dict) else ({}, text)


def _first_heading(text: str) -> str:
    parser = MarkdownIt("commonmark").enable("strikethrough")
    inline = MarkdownIt("commonmark").enable("strikethrough")
    parser.disable("inline")  # of the whole text only the blocks are wanted
    references: dict[str, Any] = {}
    tokens = parser.parse(text, references)
    for opening, content in pairwise(tokens):
        if opening.type == "heading_open" and opening.level == 0:
            (line,) = inline.parseInline(_without_attributes(content.content)[:_LONGEST_HEADING], references)
            if title := one_line(_plain(line.children or ())):
                return title
    return ""


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
