"""Files of questions: JSON lines, a JSON list or CSV, with ``question`` and ``answer``.

An answer is a string, or a list of the strings that count as right. The files are UTF-8.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from continual_learning.documents import json_object
from continual_learning.errors import DocumentError, InputError

if TYPE_CHECKING:
    from continual_learning.strategy import QuestionAnswer

T = TypeVar("T")

SUFFIXES = (".jsonl", ".json", ".csv")
QUESTION_SUFFIXES = (".txt", *SUFFIXES)


def load_qa(path: str | Path) -> list[QuestionAnswer]:
    """Questions with their accepted answers, in the file's order.

    Raises InputError, one line with the line and the field, for a file that cannot be used.
    """
    from continual_learning.strategy import QuestionAnswer  # imports torch

    found = [QuestionAnswer(_question(row, at), _answers(row, at)) for at, row in _rows(Path(path), SUFFIXES)]
    return _not_empty(found, path)


def load_questions(path: str | Path) -> list[str]:
    """Questions alone: one a line of a ``.txt`` file, or the ``question`` fields of a QA file."""
    path = Path(path)
    if path.suffix.lower() == ".txt":
        return _not_empty(question_lines(_read(path, QUESTION_SUFFIXES)), path)
    return _not_empty([_question(row, at) for at, row in _rows(path, QUESTION_SUFFIXES)], path)


def question_lines(text: str) -> list[str]:
    """One question a line; empty lines do not count."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _rows(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with words that say where it stands, for messages."""
    text = _read(path, suffixes)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        try:
            for row in reader:
                yield f"{path}, line {reader.line_num}", {k: v for k, v in row.items() if k and v is not None}
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: not CSV ({error}); expected question,answer") from None
    elif suffix == ".json":
        try:
            rows = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{path}: not JSON ({error}); expected a list of {{question, answer}}") from None
        if not isinstance(rows, list):
            raise InputError(f"{path}: found {_short(rows)}; expected a list of {{question, answer}}")
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict):
                raise InputError(f"{path}, item {number}: found {_short(row)}; expected {{question, answer}}")
            yield f"{path}, item {number}", row
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    yield f"{path}, line {number}", json_object(line, number)
                except DocumentError as error:
                    raise InputError(f"{path}, {error}") from None


def _question(row: dict[str, Any], at: str) -> str:
    if "question" not in row:
        raise InputError(f"{at}: field 'question' is missing; found {', '.join(map(str, row)) or 'no field'}")
    return _text(row["question"], at, "question")


def _answers(row: dict[str, Any], at: str) -> tuple[str, ...]:
    if "answer" not in row:
        raise InputError(f"{at}: field 'answer' is missing; expected a string or a list of strings")
    value = row["answer"]
    if isinstance(value, list):
        if not value:
            raise InputError(f"{at}: field 'answer' is an empty list; expected at least one string")
        return tuple(_text(v, at, "answer") for v in value)
    return (_text(value, at, "answer"),)


def _text(value: Any, at: str, field: str) -> str:
    if not isinstance(value, str) or not value.strip():
        expected = "a string or a list of strings" if field == "answer" else "a string"
        raise InputError(f"{at}: field {field!r} is {_short(value)}; expected {expected}, not empty")
    return value.strip()


def _read(path: Path, suffixes: tuple[str, ...]) -> str:
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: suffix {path.suffix!r} is not supported; expected one of {', '.join(suffixes)}")
    try:
        return path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (at byte {error.start}); save it as UTF-8 and try again") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {reason}; expected a file of questions") from None


def _not_empty(found: list[T], path: str | Path) -> list[T]:
    if not found:
        raise InputError(f"{path}: holds no question; expected at least one")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
