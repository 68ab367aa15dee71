"""Repository imprinting: the files of a small Python code base are learned, then questions ask what is where.

For each file a strategy gets notes that rules derive from its syntax tree: what is defined in it, and the first line of
each docstring. Questions ask where a name is defined, and which name a description belongs to.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from continual_learning.datasets.base import Dataset, QADocument
from continual_learning.documents import Document
from continual_learning.errors import DocumentError, InputError


def repository_dataset(folder: Path, most_files: int = 8, each: int = 4) -> Dataset:
    """A document for each Python file below ``folder``, with two questions about each of ``each`` definitions.

    Raises InputError if no file has a documented definition, DocumentError for one that does not parse.
    """
    from continual_learning.types import QuestionAnswer

    documents: list[QADocument] = []
    for path in sorted(Path(folder).rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        found = list(_definitions(path))[:each]
        if not found or len(documents) == most_files:
            continue
        sentences = [f"{d} is defined in {name}. {d} means: {summary}." for d, summary in found]
        questions = []
        for definition, summary in found:
            questions.append(QuestionAnswer(f"Where is {definition} defined?", (name,)))
            questions.append(QuestionAnswer(f"What is the name of: {summary}?", (definition,)))
        documents.append(QADocument(Document(" ".join(sentences), name, name), tuple(questions)))
    if not documents:
        raise InputError(f"{folder}: holds no Python file with a documented definition; expected at least one")
    return Dataset(f"repository-{Path(folder).name}", Path(folder).name, tuple(documents))


def _definitions(path: Path) -> Iterator[tuple[str, str]]:
    """The public functions and classes of a file that have a docstring, with its first line."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path.name}: not Python that can be parsed ({error}); leave it out") from None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            text = ast.get_docstring(node)
            if text:
                yield node.name, text.splitlines()[0].split(". ")[0].rstrip(".").replace("`", "")
