"""Files of questions: JSON lines, a JSON list or CSV, with ``question`` and ``answer``.

An answer is a string or a number, or a list of accepted ones; in CSV, several answers are in several columns named
``answer``, of which some may be empty. A row may have a ``document``: the file name, path or title of the one document
that it is about. Case plays no part in the names (``Question``), and the delimiter of CSV may be ``,``, ``;`` or a tab.
The files are UTF-8, or UTF-16 with a byte order mark.
"""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from continual_learning.documents import json_object
from continual_learning.documents.plain import as_utf8
from continual_learning.documents.tables import csv_rows
from continual_learning.errors import DocumentError, InputError
from continual_learning.text.checks import check_text

if TYPE_CHECKING:
    from continual_learning.types import QuestionAnswer

T = TypeVar("T")

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
QUESTION_SUFFIXES = (".txt", *SUFFIXES)
COMPRESSED: Mapping[str, Callable[[bytes], bytes]] = {".xz": lzma.decompress, ".gz": gzip.decompress}
"""Suffixes of compressed files, for callers of `read_text` that take them."""


@dataclass(frozen=True)
class QARow:
    """One row of a QA file."""

    qa: QuestionAnswer
    document: str
    """The document that it is about, as the file names it; empty for a question about all of them."""
    at: str
    """Its place, for messages: file and line or item."""


def load_qa(path: str | Path) -> list[QuestionAnswer]:
    """Questions with their accepted answers, in the file's order.

    Raises InputError, one line with the line and the field, for a file that cannot be used.
    """
    return _not_empty([question_answer(row, at) for at, row in _rows(Path(path), SUFFIXES)], path)


def load_qa_rows(path: str | Path) -> list[QARow]:
    """The rows of a QA file with the document that each names. Raises InputError as `load_qa` does."""
    rows = _rows(Path(path), SUFFIXES)
    return _not_empty([QARow(question_answer(row, at), _document(row, at), at) for at, row in rows], path)


def question_answer(row: dict[str, Any], at: str) -> QuestionAnswer:
    """The ``question`` and ``answer`` of one row, repeated answers removed; ``at`` is its place, for InputError."""
    from continual_learning.types import QuestionAnswer

    return QuestionAnswer(_question(row, at), _answers(row, at))


def load_questions(path: str | Path) -> list[str]:
    """Questions alone: one per line of a ``.txt`` file, or the ``question`` fields of a QA file."""
    path = Path(path)
    if path.suffix.lower() == ".txt":
        return _not_empty(question_lines(read_text(path, QUESTION_SUFFIXES)), path)
    return _not_empty([_question(row, at) for at, row in _rows(path, QUESTION_SUFFIXES)], path)


def question_lines(text: str) -> list[str]:
    """One question per line; empty lines are ignored."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _rows(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with a description of its place, for messages."""
    text = read_text(path, suffixes)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        try:
            cells = csv_rows(text, "\t" if suffix == ".tsv" else None, strict=True)
            header = [_name(cell) for cell in next(cells, (0, []))[1]]
            for number, row in cells:
                yield f"{path}, line {number}", _csv_row(header, row)
        except DocumentError as error:
            raise InputError(f"{path}, {error}; expected question,answer") from None
    elif suffix == ".json":
        try:
            rows = json.loads(text, parse_float=Decimal)
        except (ValueError, RecursionError) as error:  # also a number with more digits than Python reads
            raise InputError(f"{path}: not JSON ({error}); expected a list of {{question, answer}}") from None
        if not isinstance(rows, list):
            raise InputError(f"{path}: found {short_repr(rows)}; expected a list of {{question, answer}}")
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict):
                raise InputError(f"{path}, item {number}: found {short_repr(row)}; expected {{question, answer}}")
            yield f"{path}, item {number}", _named(row)
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    yield f"{path}, line {number}", _named(json_object(line, number, Decimal))
                except DocumentError as error:
                    raise InputError(f"{path}, {error}") from None


def _name(field: str) -> str:
    """The name of a field, as it is known here if it is known."""
    name = field.strip().lower()
    name = {"questions": "question", "answers": "answer"}.get(name, name)
    return name if name in ("question", "answer", "document") else field


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, **{_name(field): value for field, value in row.items() if _name(field) not in row}}


def _csv_row(header: list[str], cells: list[str]) -> dict[str, Any]:
    named = [(name, cell) for name, cell in zip(header, cells, strict=False) if name]
    answers = [cell for name, cell in named if name == "answer"]
    row: dict[str, Any] = dict(named)
    if header.count("answer") > 1 and any(cell.strip() for cell in answers):
        row["answer"] = [cell for cell in answers if cell.strip()]
    return row


def _question(row: dict[str, Any], at: str) -> str:
    if "question" not in row:
        raise InputError(f"{at}: field 'question' is missing; found {', '.join(map(str, row)) or 'no field'}")
    return _text(row["question"], at, "question")


def _answers(row: dict[str, Any], at: str) -> tuple[str, ...]:
    if "answer" not in row:
        raise InputError(f"{at}: field 'answer' is missing; expected a string, a number or a list of them")
    value = row["answer"]
    if isinstance(value, list):
        if not value:
            raise InputError(f"{at}: field 'answer' is an empty list; expected at least one string")
        return tuple(dict.fromkeys(_text(v, at, "answer") for v in value))
    return (_text(value, at, "answer"),)


def _document(row: dict[str, Any], at: str) -> str:
    value = row.get("document")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{at}: field 'document' is {short_repr(value)}; expected the name of a file or a title")
    return value.strip()


def _text(value: Any, at: str, field: str) -> str:
    if field == "answer" and isinstance(value, int | Decimal) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        expected = "a string, a number or a list of them" if field == "answer" else "a string"
        raise InputError(f"{at}: field {field!r} is {short_repr(value)}; expected {expected}, not empty")
    return check_text(value.strip(), f"{at}: field {field!r}")


def read_text(path: Path, suffixes: tuple[str, ...]) -> str:
    """The text of a file with one of these suffixes, decompressed if it is one of `COMPRESSED`. Raises InputError."""
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise InputError(f"{path}: suffix {path.suffix!r} is not supported; expected one of {', '.join(suffixes)}")
    try:
        data = path.read_bytes()
        data = COMPRESSED[suffix](data) if suffix in COMPRESSED else data
        return as_utf8(data).decode("utf-8").removeprefix("\ufeff")
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path}: cannot be decompressed ({error}); compress it again, or give it without") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (at byte {error.start}); save it as UTF-8 and try again") from None
    except DocumentError as error:
        raise InputError(f"{path}: {error}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {reason}; expected a file of questions") from None


def _not_empty(found: list[T], path: str | Path) -> list[T]:
    if not found:
        raise InputError(f"{path}: holds no question; expected at least one")
    return found


def short_repr(value: Any) -> str:
    """A value for a message: its repr, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
