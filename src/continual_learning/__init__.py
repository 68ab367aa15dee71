"""A small language model that reads your documents, keeps what it read, and answers from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from continual_learning.app.learner import Learner
    from continual_learning.documents import Document
    from continual_learning.types import Answer, LearnReport

__version__ = "0.1.0"
__all__ = ["Answer", "Document", "LearnReport", "Learner", "__version__"]

_HOMES = {
    "Answer": "continual_learning.types",
    "Document": "continual_learning.documents",
    "LearnReport": "continual_learning.types",
    "Learner": "continual_learning.app.learner",
}


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import: only when a name that needs them is used.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
