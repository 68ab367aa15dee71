"""Every exception that this package raises on purpose.

    ContinualLearningError            anything below; carries `exit_code` for the command line
    ├── InputError                    the caller gave something unusable (exit 2)
    │   ├── ConfigError               an unknown setting, or a value out of its range
    │   ├── DocumentError             empty, binary, damaged, encrypted, too large, missing, not fetched
    │   ├── RequestFieldError         a field of a request to the server that is not supported
    │   ├── UnknownNameError          no such strategy, model, memory, checkpoint or document
    │   └── UnsafeNameError           a name that would leave its folder, such as ../../x
    ├── ModelError                    the base model cannot be used (exit 1)
    │   ├── ModelNotFoundError        not installed, not cached, not on the hub
    │   ├── UnsupportedModelError     its structure is not one that can be patched
    │   └── ChatModelError            a model on a server: unreachable, missing, timed out, or cut off
    ├── MemoryStoreError              the memory on disk cannot be used (exit 1)
    │   ├── CorruptMemoryError        truncated, edited or half-written
    │   ├── MismatchError             made with another base model, strategy or format
    │   └── StorageError              the disk is full, read-only, or the memory is in use
    ├── LearningError                 learning could not continue; the memory is unchanged (exit 1)
    │   └── DivergedError             a NaN or infinite loss
    ├── MissingExtraError             an optional dependency is not installed (exit 1)
    ├── BusyError                     too many requests wait for the model (exit 1)
    └── StoppedError                  the work was given up: its result is not wanted any more (exit 1)

Messages are one line: the value, what was expected, the next step.
"""

from __future__ import annotations


class ContinualLearningError(Exception):
    """Base class of every error that this package raises on purpose."""

    exit_code = 1


class InputError(ContinualLearningError):
    """The caller gave something unusable; nothing was changed."""

    exit_code = 2


class ConfigError(InputError):
    """An unknown setting, or a value that the setting does not take."""


class DocumentError(InputError):
    """A document that cannot be read: empty, binary, damaged, encrypted, too large, missing, or not fetched."""


class RequestFieldError(InputError):
    """A field of a request to the server holds what is not supported; ``field`` is its name."""

    def __init__(self, field: str, message: str):
        super().__init__(f"{field}: {message}")
        self.field = field


class UnknownNameError(InputError):
    """No strategy, model, memory, checkpoint or document has this name."""


class UnsafeNameError(InputError):
    """A name that would leave its folder, such as ``../../x``."""


class ModelError(ContinualLearningError):
    """The base model cannot be used."""


class ModelNotFoundError(ModelError):
    """The base model is not installed, not cached and not on the hub."""


class UnsupportedModelError(ModelError):
    """The model's structure is not one that a strategy can patch."""


class ChatModelError(ModelError):
    """A model on a server cannot be used: it is unreachable, missing, timed out, or its reply was cut off."""


class MemoryStoreError(ContinualLearningError):
    """The memory on disk cannot be used."""


class CorruptMemoryError(MemoryStoreError):
    """A file of the memory is truncated, edited or half-written."""


class MismatchError(MemoryStoreError):
    """The memory was made with another base model, strategy or format."""


class StorageError(MemoryStoreError):
    """The disk is full or read-only, or another process holds the memory."""


class LearningError(ContinualLearningError):
    """Learning could not continue; the memory is unchanged."""


class DivergedError(LearningError):
    """The loss became NaN or infinite; the memory is unchanged."""


class MissingExtraError(ContinualLearningError):
    """An optional dependency is not installed."""


class BusyError(ContinualLearningError):
    """Too many requests wait for the model; ``retry_after`` seconds later there may be room."""

    def __init__(self, message: str, retry_after: int):
        super().__init__(message)
        self.retry_after = retry_after


class StoppedError(ContinualLearningError):
    """The work was given up before its end, as nobody waits for its result; the memory is as it was."""


def first_line(error: BaseException | str) -> str:
    """The first line of another library's error that says something, in at most 160 characters."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    return line if len(line) <= 160 else line[:159] + "…"
