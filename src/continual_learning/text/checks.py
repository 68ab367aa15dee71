"""What a text has to be before anything is done with it."""

from __future__ import annotations

from continual_learning.errors import InputError


def check_text(value: object, what: str) -> str:
    """``value`` itself if it is a text that a tokenizer can take.

    Raises InputError, naming it ``what``, for another type and for half of a surrogate pair.
    """
    if not isinstance(value, str):
        hint = "; decode it first" if isinstance(value, bytes | bytearray) else ""
        raise InputError(f"{what} is {_shown(value)} of type {type(value).__name__}; expected a str{hint}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} has half of a surrogate pair at position {error.start}; expected whole Unicode characters"
        ) from None
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
