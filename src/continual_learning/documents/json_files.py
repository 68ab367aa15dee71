"""JSON lines and JSON: a document a row, where rows have a text; other JSON as text.

A row that is no document costs itself alone and is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from continual_learning.documents.document import (
    Document,
    Parsed,
    Skipped,
    clean_newlines,
    clean_text,
    one_line,
    shortened,
)
from continual_learning.documents.extra import damage
from continual_learning.documents.plain import decode
from continual_learning.documents.tables import sentence, table_text
from continual_learning.errors import DocumentError

_MOST_FIELDS = 30  # values of an object that is one paragraph
_NAMES = ("name", "title", "id")
_NAMED = 20  # rows that are named one by one before the rest is counted


def json_lines(data: bytes, source: str, skipped: list[Skipped]) -> list[Document]:
    """One document per line: ``text``, and ``title`` and ``source`` if they are known.

    A line that cannot be read goes to ``skipped`` with the reason. Raises DocumentError if none can be read.
    """
    lines = [(n, line) for n, line in enumerate(decode(data).split("\n"), 1) if line.strip()]
    if not lines:
        raise DocumentError('it has no lines; expected JSON lines with the field "text"')
    return documents_of_rows(((n, line) for n, line in lines), source, "line", skipped)


def json_documents(data: bytes, source: str, skipped: list[Skipped]) -> list[Document] | None:
    """The documents of a JSON list whose items have a ``text``; None if it is no such list. Raises DocumentError."""
    rows = _loaded(data)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return None
    if 2 * sum(isinstance(row.get("text"), str) for row in rows) < len(rows):
        return None
    return documents_of_rows(enumerate(rows, 1), source, "item", skipped)


def documents_of_rows(
    rows: Iterable[tuple[int, Any]], source: str, what: str, skipped: list[Skipped]
) -> list[Document]:
    """The documents of numbered rows, each an object or a line that holds one; ``what`` is a row's name: ``line``."""
    documents: list[Document] = []
    bad: list[tuple[int, str]] = []
    for number, row in rows:
        try:
            found = json_object(row, number) if isinstance(row, str) else row
            documents.append(_document(found, number, source, what))
        except DocumentError as error:
            bad.append((number, str(error).removeprefix(f"{what} {number}: ")))
    if not documents:
        more = f"; and {len(bad) - 1:,} more" if len(bad) > 1 else ""
        raise DocumentError(f"{what} {bad[0][0]}: {bad[0][1]}{more}")
    skipped += [Skipped(f"{source}, {what} {number}", reason) for number, reason in bad[:_NAMED]]
    if len(bad) > _NAMED:
        first, last = bad[_NAMED][0], bad[-1][0]
        skipped.append(
            Skipped(f"{source}, {what}s {first} to {last}", f"{len(bad) - _NAMED:,} more that are no document")
        )
    return documents


def _document(row: dict[str, Any], number: int, source: str, what: str) -> Document:
    at = f"{what} {number}"
    text, title = row.get("text"), row.get("title")
    if "text" not in row:
        fields = ", ".join(map(str, row)) or "no field"
        raise DocumentError(f"{at}: field 'text' is missing, found {shortened(fields)}; expected a string")
    if not isinstance(text, str):
        raise DocumentError(f"{at}: field 'text' is {shortened(repr(text))}; expected a string")
    if title is None:  # as programs write what has no title
        title = ""
    if isinstance(title, int | float) and not isinstance(title, bool):
        title = str(title)
    if not isinstance(title, str):
        raise DocumentError(f"{at}: field 'title' is {shortened(repr(title))}; expected a string")
    origin = row.get("source")
    place = one_line(origin) if isinstance(origin, str) and origin.strip() else f"{source}:{number}"
    try:
        return Document(clean_newlines(text), one_line(title), place)
    except DocumentError as error:
        raise DocumentError(f"{at}: {error}") from None


def json_object(line: str, number: int, parse_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """One line of a JSON lines file as an object. Raises DocumentError that names the line."""
    try:
        row = json.loads(line, parse_float=parse_float)
    except json.JSONDecodeError as error:
        raise DocumentError(f"line {number}: not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise DocumentError(f"line {number}: not JSON that can be read (nested too deeply)") from None
    except ValueError as error:  # a number with more digits than Python reads
        raise DocumentError(f"line {number}: not JSON that can be read ({shortened(str(error))})") from None
    if not isinstance(row, dict):
        raise DocumentError(f"line {number}: {shortened(repr(row))} is not a JSON object; expected {{...}}")
    return row


# -- other JSON ------------------------------------------------------------------------------------


def parse_json(data: bytes) -> Parsed:
    """JSON as text: an object a paragraph, ``name: Priya; phone: 12.``, so that a value can be asked for.

    Raises DocumentError.
    """
    with damage("JSON file"):
        text = "\n\n".join(_paragraphs(_loaded(data), ""))
    return Parsed(clean_text(text))


def _loaded(data: bytes) -> Any:
    try:
        return json.loads(decode(data), parse_float=Decimal)  # 1.50 stays 1.50
    except (ValueError, RecursionError) as error:  # also a number with more digits than Python reads
        raise DocumentError(f"it is not JSON ({shortened(str(error))}); check it, or name it .txt") from None


def _paragraphs(value: Any, path: str) -> Iterator[str]:
    """``path`` is the names that lead to a value."""
    before = f"{path}: " if path else ""
    if isinstance(value, dict) and (_is_small(value) or _is_flat(value)):
        if fields := [f"{name}: {text}" for name, text in _fields(value)]:
            yield sentence(before + "; ".join(fields))
    elif isinstance(value, dict):
        yield from _paragraphs({k: v for k, v in value.items() if not isinstance(v, dict | list)}, path)
        name = next((_scalar(value[n]) for n in _NAMES if isinstance(value.get(n), str)), "")
        for key, inner in value.items():
            if isinstance(inner, dict | list):
                yield from _paragraphs(inner, " ".join(filter(None, (path, name, str(key)))))
    elif isinstance(value, list) and value and all(isinstance(row, list) and _is_flat(row) for row in value):
        yield from (before + row for row in table_text([[_scalar(cell) for cell in row] for row in value], named=True))
    elif isinstance(value, list) and _is_flat(value):
        yield sentence(before + ", ".join(filter(None, map(_scalar, value))))
    elif isinstance(value, list):
        for inner in value:
            yield from _paragraphs(inner, path)
    elif _scalar(value):
        yield sentence(before + _scalar(value)) if path else _scalar(value)


def _fields(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        name = f"{path} {key}".strip()
        if isinstance(inner, dict):
            yield from _fields(inner, name)
        elif isinstance(inner, list) and not _is_flat(inner):
            for item in inner:
                yield from _fields(item if isinstance(item, dict) else {"": item}, name)
        else:
            text = ", ".join(filter(None, map(_scalar, inner if isinstance(inner, list) else [inner])))
            if text:
                yield name, text


def _is_small(value: Any) -> bool:
    """Whether a value has few values in it, however deep."""
    waiting, count = [value], 0
    while waiting and count <= _MOST_FIELDS:
        inner = waiting.pop()
        count += 1 - isinstance(inner, dict | list)
        waiting += [*(inner.values() if isinstance(inner, dict) else inner)] if isinstance(inner, dict | list) else []
    return count <= _MOST_FIELDS


def _is_flat(value: Mapping[str, Any] | Sequence[Any]) -> bool:
    return not any(isinstance(inner, dict | list) for inner in (value.values() if isinstance(value, dict) else value))


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    return (
        clean_newlines(value)
        if isinstance(value, str)
        else json.dumps(value)
        if isinstance(value, bool)
        else str(value)
    )
