"""How each protocol measures an experiment, and its table.

A module has ``measure(experiment, bench) -> (figures, setting, answers)`` and ``table(results) -> Markdown``.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from continual_learning.model.base_model import BaseModel
from continual_learning.types import Progress

SEQUENCES = ("squad", "stream", "conversation", "needle", "repository", "transfer")
OWN = (
    "ace", "cold_start", "decoding", "doc2lora", "everyday", "jitrl", "learning_time", "long_document", "nested",
    "reading", "scale",
)  # fmt: skip


def protocol_module(name: str) -> ModuleType:
    """The module of a protocol."""
    if name not in SEQUENCES + OWN:
        raise ValueError(f"no protocol {name!r}; expected one of {', '.join(SEQUENCES + OWN)}")
    return importlib.import_module(f"protocols.{'sequences' if name in SEQUENCES else name}")


@dataclass(frozen=True)
class Bench:
    """The base and the data of all measurements."""

    base: BaseModel
    data: Path
    """Passages with questions: SQuAD's development file."""


def note(text: str) -> None:
    """Write a line to standard error."""
    print(f"  {text}", file=sys.stderr, flush=True)


def progress_notes(seconds: float = 30.0) -> Callable[[Progress], None]:
    """A progress callback that writes a line now and then."""
    last = [0.0]

    def show(step: Progress) -> None:
        if step.stage == "plan" or time.perf_counter() - last[0] > seconds:
            last[0] = time.perf_counter()
            note(f"{step.done}% {step.stage}: {step.message}")

    return show
