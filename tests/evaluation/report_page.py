"""A strict reader of HTML for the tests of the reports: tags must be balanced and ids unique."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

VOID = {"br", "hr", "img", "input", "link", "meta", "wbr"}
# What a browser closes by itself when one of the others begins; here all of it must be written.
NESTING = {
    "li": {"ul", "ol"},
    "dt": {"div", "dl"},
    "dd": {"div", "dl"},
    "tr": {"thead", "tbody"},
    "td": {"tr"},
    "th": {"tr"},
}


class Node:
    """An element with its children and texts in order."""

    def __init__(self, name: str, attributes: dict[str, str | None], parent: Node | None):
        self.name, self.attributes, self.parent = name, attributes, parent
        self.content: list[Node | str] = []

    @property
    def text(self) -> str:
        """All text below, white space collapsed."""
        return " ".join(self.raw.split())

    @property
    def raw(self) -> str:
        """All text below."""
        return "".join(part if isinstance(part, str) else part.raw for part in self.content)

    @property
    def children(self) -> list[Node]:
        """The elements directly below."""
        return [part for part in self.content if isinstance(part, Node)]

    def all(self, name: str = "", **attributes: str) -> list[Node]:
        """Elements below with this name and these attributes; ``kind`` is one of the classes."""
        kind = attributes.pop("kind", None)
        return [
            node
            for node in self._below()
            if (not name or node.name == name)
            and (kind is None or kind in (node.attributes.get("class") or "").split())
            and all(node.attributes.get(key) == value for key, value in attributes.items())
        ]

    def one(self, name: str = "", **attributes: str) -> Node:
        """The only such element."""
        found = self.all(name, **attributes)
        assert len(found) == 1, f"{len(found)} elements {name} {attributes}"
        return found[0]

    def _below(self) -> Iterator[Node]:
        for child in self.children:
            yield child
            yield from child._below()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.at = Node("", {}, None)
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"attribute twice in <{tag}>: {names}"
        allowed = NESTING.get(tag)
        assert allowed is None or self.at.name in allowed, f"<{tag}> in <{self.at.name}>, line {self.getpos()[0]}"
        node = Node(tag, dict(attrs), self.at)
        identity = node.attributes.get("id")
        assert identity not in self.ids or identity is None, f"id {identity!r} twice"
        if identity:
            self.ids.add(identity)
        self.at.content.append(node)
        if tag not in VOID:
            self.at = node

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.at.name, f"</{tag}> closes <{self.at.name}>, line {self.getpos()[0]}"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.content.append(data)


def read(html: str) -> Node:
    """The document. Raises AssertionError for tags that do not match and ids that come twice."""
    assert html.startswith("<!DOCTYPE html>\n")
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.at is reader.root, f"<{reader.at.name}> is never closed"
    return reader.root
