"""The libraries of the extra ``documents``: imported when a file needs one, their errors reported in one line."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from typing import Any

from continual_learning.documents.document import shortened
from continual_learning.errors import ContinualLearningError, DocumentError, MissingExtraError


def library(module: str, what: str) -> Any:
    """A module of the extra. Raises MissingExtraError with the command that installs it."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"reading {what} needs {error.name or module}, which is not installed; "
            "install it with: pip install 'continual-learning-slm[documents]'"
        ) from None
    # These libraries log every oddity of a file; a program that wants to see that adds its own handler.
    logger = logging.getLogger(module.partition(".")[0])
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return found


@contextlib.contextmanager
def damage(what: str) -> Iterator[None]:
    """Turn whatever a parser raises for a damaged file into a DocumentError.

    Parsers of such formats raise nearly every class of error for damaged input (KeyError, IndexError, RecursionError,
    AttributeError, …) and document none of it, so the class of the error says nothing.
    """
    try:
        yield
    except ContinualLearningError:
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {shortened(str(error), 120)}" if str(error) else type(error).__name__
        raise DocumentError(f"it is damaged, or no {what} ({found}); save it again in its own program") from error
