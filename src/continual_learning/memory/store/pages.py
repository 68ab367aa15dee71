"""JSON as a tree of content-addressed pages, so that versions share what did not change.

A long text becomes an object of its own; a long list or mapping is cut into pages of about eight entries, and a long
list of pages is cut again. What marks the end of a page is the hash of its last entry, so an entry that is added or
removed changes its own page and the pages above it, and no others: a version costs what it changed, times the height
of the tree. In the result

    {"$object": sha256, "bytes": n}     is the value in ``objects/<sha256>.json``,
    {"$join": [value, ...]}             is these lists, or these mappings, one after another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from continual_learning.memory.store.manifest import DamagedFile, Manifest, StoredPart, is_sha256

_TEXT_BYTES = 256
"""A longer text is an object of its own."""
_INLINE_BYTES = 2048
"""A longer list or mapping is cut into pages."""
_SHORTEST, _MEAN, _LONGEST = 4, 8, 64
"""Entries of a page."""
_LIMIT_BYTES = 2**30
"""Most that is read for one value: a file from elsewhere can name one page again and again."""

Pages = dict[StoredPart, bytes]


@dataclass(frozen=True)
class Content:
    """What a manifest refers to, put together."""

    meta: dict[str, Any]
    """`StateMeta.to_json`."""
    parts: dict[str, StoredPart]
    pages: frozenset[StoredPart]
    """The pages that the two above were read from."""


def read_content(manifest: Manifest, read: Callable[[StoredPart], bytes], file: str) -> Content:
    """The metadata and parts of a version. ``read`` fetches and checks a page. Raises DamagedFile."""
    pages: set[StoredPart] = set()

    def noted(stored: StoredPart) -> bytes:
        pages.add(stored)
        return read(stored)

    meta, listed = manifest.state, manifest.parts
    if manifest.layout > 1:
        meta, listed = join(meta, noted, file), join(listed, noted, file)
    try:
        parts = {name: StoredPart(**part) for name, part in listed.items()}
        meta = dict(meta)
    except (TypeError, ValueError, AttributeError):
        raise DamagedFile(f"{file} does not have the fields of a manifest") from None
    # The checksum only guards against accidents: a file from elsewhere may carry a right one, and
    # this becomes a file name.
    if not all(is_sha256(p.sha256) and type(p.bytes) is int for p in parts.values()):
        raise DamagedFile(f"{file} holds an object name that is not a SHA-256")
    return Content(meta, parts, frozenset(pages))


def split_content(meta: dict[str, Any], parts: dict[str, StoredPart]) -> tuple[Any, Any, Pages]:
    """``state`` and ``parts`` of a manifest, and the pages they refer to."""
    state, pages = split(meta)
    listed, more = split({name: asdict(part) for name, part in parts.items()})
    return state, listed, pages | more


def split(value: Any) -> tuple[Any, Pages]:
    """A small JSON value that represents ``value``, and the pages it refers to. Raises ValueError for reserved keys."""
    pages: Pages = {}
    return _split(value, pages), pages


def join(value: Any, read: Callable[[StoredPart], bytes], file: str) -> Any:
    """Inverse of `split`. ``read`` fetches and checks a page. Raises DamagedFile; ``file`` is named in it."""
    left = _LIMIT_BYTES

    def fetch(stored: StoredPart) -> bytes:
        nonlocal left
        left -= stored.bytes
        if left < 0:
            raise DamagedFile(f"{file} holds more than {_LIMIT_BYTES} bytes of metadata")
        return read(stored)

    try:
        return _join(value, fetch)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedFile(f"{file} refers to a page that is not one") from None


def _bytes(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _object(value: Any, pages: Pages) -> dict[str, Any]:
    data = _bytes(value)
    stored = StoredPart(hashlib.sha256(data).hexdigest(), len(data))
    pages[stored] = data
    return {"$object": stored.sha256, "bytes": stored.bytes}


def _split(value: Any, pages: Pages) -> Any:
    if isinstance(value, str):
        return _object(value, pages) if len(value) > _TEXT_BYTES else value
    if isinstance(value, dict):
        if "$object" in value or "$join" in value:
            raise ValueError("the keys '$object' and '$join' are reserved; rename them")
        pairs = [(key, _split(entry, pages)) for key, entry in value.items()]
        return _paged([{key: entry} for key, entry in pairs], dict(pairs), pages, _merged)
    if isinstance(value, list):
        entries = [_split(entry, pages) for entry in value]
        return _paged(entries, entries, pages, list)
    return value


def _merged(page: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: entry for one in page for key, entry in one.items()}


def _paged(entries: list[Any], whole: Any, pages: Pages, page_of: Callable[[list[Any]], Any]) -> Any:
    """``whole`` where it is short, else its pages."""
    if len(entries) <= _SHORTEST or len(_bytes(whole)) <= _INLINE_BYTES:
        return whole
    parts = [_object(page_of(page), pages) for page in _cut(entries)]
    while len(parts) > _LONGEST // 4:
        parts = [_object({"$join": page}, pages) for page in _cut(parts)]
    return {"$join": parts}


def _cut(entries: list[Any]) -> Iterator[list[Any]]:
    page: list[Any] = []
    for entry in entries:
        page.append(entry)
        ends = len(page) >= _SHORTEST and hashlib.sha256(_bytes(entry)).digest()[0] % _MEAN == 0
        if ends or len(page) == _LONGEST:
            yield page
            page = []
    if page:
        yield page


def _join(value: Any, read: Callable[[StoredPart], bytes]) -> Any:
    if isinstance(value, list):
        return [_join(entry, read) for entry in value]
    if not isinstance(value, dict):
        return value
    if "$object" in value:
        stored = StoredPart(value["$object"], value["bytes"])
        if not is_sha256(stored.sha256) or type(stored.bytes) is not int or stored.bytes < 0:
            raise ValueError("not a page")
        return _join(json.loads(read(stored)), read)
    if "$join" in value:
        parts = [_join(part, read) for part in value["$join"]]
        if all(isinstance(part, dict) for part in parts):
            return _merged(parts)
        if not all(isinstance(part, list) for part in parts):
            raise TypeError("a page is neither a list nor a mapping")
        return [entry for part in parts for entry in part]
    return {key: _join(entry, read) for key, entry in value.items()}
