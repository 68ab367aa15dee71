"""Texts that ship with the package: what a model should still know, and ordinary text to calibrate on.

The files are described in ``data/README.md``. The texts for calibration (`background_texts`) share no topic with
those for evaluation (`general_questions`, `unrelated_texts`).
"""

from __future__ import annotations

import re
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from continual_learning.documents import read_documents
from continual_learning.documents.qa_files import load_qa
from continual_learning.errors import DocumentError

if TYPE_CHECKING:
    from continual_learning.types import QuestionAnswer


LESSONS = Path(str(files("continual_learning"))) / "data" / "lessons" / "lessons.jsonl.xz"
"""Texts with questions to train a reader and a hypernetwork on, from open sets; the folder's README names them."""


def general_questions() -> list[QuestionAnswer]:
    """60 simple general-knowledge questions that a model must not forget."""
    with as_file(files("continual_learning") / "data" / "general_questions.jsonl") as path:
        return load_qa(path)


def unrelated_texts() -> list[str]:
    """12 encyclopedic paragraphs of 120 to 160 words, for the perplexity of unrelated text."""
    return _shipped_texts("unrelated_texts.jsonl")


def background_texts(path: Path | None = None) -> list[str]:
    """Texts to calibrate on: how often a neuron is active on ordinary text, and what relevance is normal.

    Without ``path``, the 150 that ship with the package (30 to 60 words each). A ``.jsonl`` file gives the
    ``text`` of each line, a ``.txt`` or ``.md`` file its paragraphs (separated by empty lines), and a folder
    all of these. Raises DocumentError when it cannot be read or holds fewer than two texts.
    """
    if path is None:
        return _shipped_texts("background.jsonl")
    documents, _ = read_documents(path)
    texts: list[str] = []
    for document in documents:
        # Each line of a JSON lines file is a text already (its source ends in :number).
        whole = not document.source.lower().endswith((".txt", ".md"))
        parts = [document.text] if whole else re.split(r"\n\s*\n", document.text)
        texts += [part.strip() for part in parts if part.strip()]
    if len(texts) < 2:
        raise DocumentError(f"{path}: holds {len(texts)} text; expected at least 2 to calibrate on, better 100")
    return texts


def _shipped_texts(name: str) -> list[str]:
    with as_file(files("continual_learning") / "data" / name) as path:
        return [document.text for document in read_documents(path)[0]]
