"""SQuAD in three layouts: the official JSON (1.1 and 2.0), passages as JSON lines, and the Hugging Face hub.

Rajpurkar et al. 2016, arXiv 1606.05250 (1.1); Rajpurkar et al. 2018, arXiv 1806.03822 (2.0, which adds questions
that the passage does not answer: those are left out and counted). In every layout a passage becomes a document, titled
with its article, with its questions and their distinct gold answers.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from continual_learning.documents import Document, json_object
from continual_learning.documents.qa_files import COMPRESSED, question_answer, read_text, short_repr
from continual_learning.errors import DocumentError, InputError, MissingExtraError

if TYPE_CHECKING:
    from continual_learning.types import QuestionAnswer

    Passage = tuple[Document, list[QuestionAnswer]]

SUFFIXES = (".json", ".jsonl", *COMPRESSED)
HUB_NAMES: Mapping[str, str] = {"squad": "rajpurkar/squad", "squad_v2": "rajpurkar/squad_v2"}
"""Short name -> repository on the hub."""
_OFFICIAL = '{"version", "data": [{"title", "paragraphs": [{"context", "qas"}]}]}'
_KINDS: Mapping[type, str] = {str: "a string", list: "a list", dict: "an object"}


def read_squad(path: Path) -> tuple[list[Passage], int]:
    """Read the passages of a file in the official JSON or in JSON lines; the content decides which.

    Returns them with the number of unanswerable questions that were left out. Raises InputError, one line with the
    line or item and the field.
    """
    text = read_text(path, SUFFIXES)
    reason = ""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        whole, reason = None, f" ({error})"
    if isinstance(whole, dict) and "data" in whole:
        return _official(whole, path)
    if path.suffix.lower() == ".json":
        raise InputError(f"{path}: is not SQuAD's JSON{reason}; expected {_OFFICIAL}")
    return _json_lines(text, path)


def hub_squad(name: str, split: str) -> tuple[list[Passage], int]:
    """A split (``train`` or ``validation``) of a dataset of `HUB_NAMES`, from the hub or its local cache.

    Returns what `read_squad` does, one passage per question: the caller joins equal ones. Raises
    MissingExtraError without the package ``datasets``, InputError if the hub does not provide the data.
    """
    try:
        library = importlib.import_module("datasets")
    except ImportError:
        install = "pip install 'continual-learning-slm[hub]'"
        raise MissingExtraError(
            f"{name}: the package 'datasets', which reads the Hugging Face hub, is not installed; {install}, "
            "or give a local file"
        ) from None
    repository = HUB_NAMES[name]
    try:
        rows = library.load_dataset(repository, split=split)
    except Exception as error:  # of four libraries, with no base class in common
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"{name}: the Hugging Face hub did not give {repository}, split {split!r} ({reason}); check the "
            "connection, or give a local file"
        ) from error
    passages: list[Passage] = []
    unanswerable = 0
    for number, row in enumerate(rows, 1):
        at = f"{repository}, {split}, row {number}"
        golds = _field(_field(row, "answers", dict, at), "text", list, f"{at}, answers")
        if golds:
            question = question_answer({"question": row.get("question"), "answer": list(golds)}, at)
            passages.append((_document(row, row.get("title"), at, f"{repository}:{split}"), [question]))
        else:
            unanswerable += 1
    return passages, unanswerable


def _official(whole: dict[str, Any], path: Path) -> tuple[list[Passage], int]:
    passages: list[Passage] = []
    unanswerable = 0
    for article, place in _items(_field(whole, "data", list, str(path)), "data", path):
        title = _field(article, "title", str, f"{path}, {place}")
        paragraphs = _field(article, "paragraphs", list, f"{path}, {place}")
        for paragraph, where in _items(paragraphs, f"{place}.paragraphs", path):
            document = _document(paragraph, title, f"{path}, {where}", f"{path.name}:{where}")
            questions = []
            for qa, which in _items(_field(paragraph, "qas", list, f"{path}, {where}"), f"{where}.qas", path):
                if qa.get("is_impossible") is True:
                    unanswerable += 1
                else:
                    questions.append(_official_question(qa, which, path))
            passages.append((document, questions))
    return passages, unanswerable


def _official_question(qa: dict[str, Any], place: str, path: Path) -> QuestionAnswer:
    at = f"{path}, {place}"
    answers = _items(_field(qa, "answers", list, at), f"{place}.answers", path)
    golds = [_field(answer, "text", str, f"{path}, {where}") for answer, where in answers]
    if not golds:
        raise InputError(f"{at}: field 'answers' is an empty list; expected a gold answer, or is_impossible: true")
    return question_answer({k: v for k, v in qa.items() if k == "question"} | {"answer": golds}, at)


def _json_lines(text: str, path: Path) -> tuple[list[Passage], int]:
    passages: list[Passage] = []
    unanswerable = 0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json_object(line, number)
        except DocumentError as error:
            raise InputError(f"{path}, {error}") from None
        at = f"{path}, line {number}"
        document = _document(row, row.get("title", ""), at, f"{path.name}:{number}")
        items = _items(_field(row, "questions", list, at), f"line {number}, questions", path)
        questions = []
        for qa, place in items:
            if "answer" not in qa and "answers" in qa:
                qa = {**qa, "answer": qa["answers"]}
                if qa["answer"] == []:
                    unanswerable += 1
                    continue
            questions.append(question_answer(qa, f"{path}, {place}"))
        passages.append((document, questions))
    return passages, unanswerable


def _document(row: Mapping[str, Any], title: Any, at: str, source: str) -> Document:
    if not isinstance(title, str):
        raise InputError(f"{at}: field 'title' is {short_repr(title)}; expected a string")
    text = _field(row, "context", str, at).replace("\r\n", "\n").replace("\r", "\n")
    try:
        return Document(text, " ".join(title.replace("_", " ").split()), source)
    except DocumentError as error:
        raise InputError(f"{at}: fields 'context' and 'title': {error}") from None


def _items(items: Iterable[Any], name: str, path: Path) -> list[tuple[dict[str, Any], str]]:
    """The objects of a list with their places, such as ``data[0].paragraphs[2]``."""
    found = [(item, f"{name}[{number}]") for number, item in enumerate(items)]
    for item, place in found:
        if not isinstance(item, dict):
            raise InputError(f"{path}, {place}: found {short_repr(item)}; expected an object")
    return found


def _field(row: Mapping[str, Any], name: str, kind: type, at: str) -> Any:
    value = row.get(name)
    if not isinstance(value, kind):
        found = f"is {short_repr(value)}" if name in row else "is missing"
        raise InputError(f"{at}: field {name!r} {found}; expected {_KINDS[kind]}")
    return value
