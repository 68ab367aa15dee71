"""Documents that people really have, with questions as they type them: notes, a recipe, a contract, a timetable.

Ten documents of ten forms, with ten questions each, in each of two halves that ship with the package: settings are
tuned on the half ``tuning`` and figures are reported on ``report``. A question has a kind, and the kind has its rule of
scoring (`evaluation.everyday`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, get_args

import yaml

from continual_learning.datasets.base import Dataset, QADocument
from continual_learning.documents import Document
from continual_learning.errors import InputError
from continual_learning.types import QuestionAnswer

Half = Literal["tuning", "report"]
Kind = Literal["fact", "yes_no", "list", "count", "two_facts", "summary", "about", "unknown"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""fact: one thing, such as a name, a number or a command. list: all of several things. count: a number, stated or to be
counted. two_facts: a question with two answers. summary, about: of the whole document. unknown: about the document,
which does not say."""


@dataclass(frozen=True)
class EverydayQuestion(QuestionAnswer):
    """A question of a kind. ``answers`` holds all accepted wordings; none for the kind unknown."""

    kind: Kind = "fact"
    exact: bool = False
    """Whether an accepted wording must stand in the answer letter for letter: quantities, commands, identifiers."""
    parts: tuple[tuple[str, ...], ...] = ()
    """What is to be named, each part with its accepted wordings: the items of a list, two facts, key points."""
    enough: int = 0
    """Of a summary, how many of the key points are full marks."""


def everyday_dataset(half: Half = "report") -> Dataset:
    """The ten documents of a half, with `EverydayQuestion`s; the source of each is its form, such as ``recipe``.

    Raises InputError for another name.
    """
    if half not in get_args(Half):
        raise InputError(f"half {half!r}; expected {' or '.join(get_args(Half))}")
    path = files("continual_learning") / "data" / "everyday" / f"{half}.yaml"
    documents = tuple(
        QADocument(
            Document(row["text"], row["title"], row["form"]),
            tuple(_question(question) for question in row["questions"]),
        )
        for row in yaml.safe_load(path.read_text(encoding="utf-8"))
    )
    return Dataset("everyday", "written for this package", documents, split=half)


def _question(row: Mapping[str, Any]) -> EverydayQuestion:
    parts = tuple(tuple(wordings) for wordings in row.get("parts", ()))
    answers = (*row.get("answers", ()), *(wording for wordings in parts for wording in wordings))
    return EverydayQuestion(row["question"], answers, row["kind"], row.get("exact", False), parts, row.get("enough", 0))
