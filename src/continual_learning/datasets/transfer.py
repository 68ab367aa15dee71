"""Transfer: labelled examples are learned, then new texts are classified without examples in the prompt.

The labels are names that no model can guess, so a right answer was learned from the examples; with two labels, chance
is one half.
"""

from __future__ import annotations

from importlib.resources import files
from json import loads

from continual_learning.datasets.base import Dataset, QADocument
from continual_learning.documents import Document
from continual_learning.errors import InputError


def transfer_dataset(examples: int = 16, questions: int = 20) -> Dataset:
    """``examples`` labelled messages, each a document, and ``questions`` new ones. Raises InputError."""
    from continual_learning.types import QuestionAnswer

    path = files("continual_learning") / "data" / "transfer.jsonl"
    rows = [loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    learned = [row for row in rows if row["part"] == "learn"]
    asked = [row for row in rows if row["part"] == "test"]
    for name, wanted, there in (("examples", examples, len(learned)), ("questions", questions, len(asked))):
        if not 1 <= wanted <= there:
            raise InputError(f"{name} = {wanted}; expected 1 to {there}, as many as there are")
    documents = tuple(
        QADocument(Document(f"Question: {_question(row['text'])}\nAnswer: {row['label']}", "", f"example {i + 1}"), ())
        for i, row in enumerate(learned[:examples])
    )
    shared = tuple(QuestionAnswer(_question(row["text"]), (row["label"],)) for row in asked[:questions])
    return Dataset("transfer", "written for this package", documents, shared_questions=shared)


def _question(text: str) -> str:
    return f"Which team handles this message: {text}"
