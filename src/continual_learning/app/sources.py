"""What a user gives to be learned, as documents and questions."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from continual_learning.documents import JSON_LINES, Document, is_url, names_source, read_documents, without_repeats
from continual_learning.documents.document import one_line
from continual_learning.errors import InputError
from continual_learning.text.checks import check_text
from continual_learning.types import QuestionAnswer

logger = logging.getLogger(__name__)

Source = str | Path | Document
QA = QuestionAnswer | Mapping[str, Any]


def documents_of(source: Source, title: str | None) -> tuple[list[Document], bool]:
    """The documents of a source, and whether it can hold several.

    What cannot be read or repeats another is skipped, with a warning in the log. Raises InputError for a source that is
    neither text nor a place, DocumentError for one that cannot be read.
    """
    if not isinstance(source, Path | Document):
        check_text(source, "the document")
    if title is not None:
        check_text(title, "the title")
    if isinstance(source, Document):
        return [source if title is None else Document(source.text, title, source.source)], False
    if isinstance(source, Path) or names_source(source):
        found, skipped = read_documents(source, title)
        found, repeats = without_repeats(found)
        for item in (*skipped, *repeats):
            logger.warning("skipped %s: %s", item.source, item.reason)
        if isinstance(source, str) and is_url(source):
            return found, len(found) > 1
        path = Path(source).expanduser()
        return found, len(found) > 1 or path.is_dir() or path.suffix.lower() in JSON_LINES
    return [Document(source, title or "")], False


def documents_and_questions(
    source: Source | Sequence[Source], title: str | None, qa: Sequence[QA] | None
) -> tuple[list[Document], list[QuestionAnswer], bool]:
    """The documents of all sources, the questions given with them, and whether a list of reports is expected."""
    many = isinstance(source, Sequence) and not isinstance(source, str | bytes)
    sources: Sequence[Source] = source if many else [source]  # type: ignore[list-item, assignment]
    documents: list[Document] = []
    for one in sources:
        found, listed = documents_of(one, title)
        documents += found
        many = many or listed
    return documents, [question_answer(q) for q in qa or ()], many


def question_answer(given: QA) -> QuestionAnswer:
    """A question with its answers. Raises InputError."""
    if isinstance(given, QuestionAnswer):
        return given
    try:
        answer = given["answer"]
        answers = (answer,) if isinstance(answer, str) else tuple(answer)
        question = str(given["question"])
    except (KeyError, TypeError):
        raise InputError(f"qa item {given!r}; expected 'question' and 'answer' (a string or a list)") from None
    return QuestionAnswer(check_text(question, "a question"), tuple(check_text(a, "an answer") for a in answers))


def text_sha256(text: str) -> str:
    """SHA-256 of a text, white space and title aside: two documents with the same one say the same."""
    return hashlib.sha256(one_line(text).encode()).hexdigest()
