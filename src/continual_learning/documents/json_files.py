"""JSON lines: a document a line. A line that is no document costs itself alone and is named."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from continual_learning.documents.document import Document, Skipped, clean_newlines, one_line, shortened
from continual_learning.documents.plain import decode
from continual_learning.errors import DocumentError

_NAMED = 20  # rows that are named one by one before the rest is counted


def json_lines(data: bytes, source: str, skipped: list[Skipped]) -> list[Document]:
    """One document per line: ``text``, and ``title`` and ``source`` if they are known.

    A line that cannot be read goes to ``skipped`` with the reason. Raises DocumentError if none can be read.
    """
    lines = [(n, line) for n, line in enumerate(decode(data).split("\n"), 1) if line.strip()]
    if not lines:
        raise DocumentError('it has no lines; expected JSON lines with the field "text"')
    return documents_of_rows(((n, line) for n, line in lines), source, "line", skipped)


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


def json_object(line: str, number: int) -> dict[str, Any]:
    """One line of a JSON lines file as an object. Raises DocumentError that names the line."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DocumentError(f"line {number}: not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise DocumentError(f"line {number}: not JSON that can be read (nested too deeply)") from None
    except ValueError as error:  # a number with more digits than Python reads
        raise DocumentError(f"line {number}: not JSON that can be read ({shortened(str(error))})") from None
    if not isinstance(row, dict):
        raise DocumentError(f"line {number}: {shortened(repr(row))} is not a JSON object; expected {{...}}")
    return row
