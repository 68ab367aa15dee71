"""Estimates how long a run will take, from earlier runs on this machine or else from a reference machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from continual_learning import __version__
from continual_learning.io.files import make_folder, storage_errors, write_atomic
from continual_learning.io.paths import data_home
from continual_learning.model.base_model import BaseModel
from continual_learning.model.machine import machine_key, matmul_gflops
from continual_learning.model.quantised import parameter_count
from continual_learning.strategies.base import strategy_class

# The machine and the model for which `Strategy.cost` was measured.
_REFERENCE_GFLOPS, _REFERENCE_PARAMETERS = 60.0, 134.5e6
_RETENTION_QUESTIONS = 55
"""Number of general questions, plus the unrelated texts, counted as questions."""


@dataclass
class Speed:
    """The measurements of one strategy, as sums, so that a mean can be taken at any time."""

    learn_seconds: float = 0.0
    learn_tokens: int = 0
    answer_seconds: float = 0.0
    answers: int = 0


@dataclass
class Estimate:
    """Estimates in seconds. ``gflops`` is the machine's matmul speed, ``parameters`` the base's size."""

    gflops: float
    parameters: int
    speeds: dict[str, Speed] = field(default_factory=dict)
    """Measured speeds by strategy; filled by `learned` and `answered`."""

    @classmethod
    def here(cls, base: BaseModel) -> Estimate:
        """For this machine, whose speed is measured now, with the speeds that were recorded on it."""
        return cls(matmul_gflops(base.device), parameter_count(base.model), recorded_speeds(base))

    def learned(self, strategy: str, tokens: int, seconds: float) -> None:
        """Record a document that was learned."""
        speed = self.speeds.setdefault(strategy, Speed())
        speed.learn_seconds += seconds
        speed.learn_tokens += tokens

    def answered(self, strategy: str, questions: int, seconds: float) -> None:
        """Record questions that were answered."""
        speed = self.speeds.setdefault(strategy, Speed())
        speed.answer_seconds += seconds
        speed.answers += questions

    def learn(self, strategy: str, tokens: int) -> float:
        """Estimated seconds to learn ``tokens`` tokens."""
        speed = self.speeds.get(strategy, Speed())
        if speed.learn_tokens:
            return tokens * speed.learn_seconds / speed.learn_tokens
        return tokens * strategy_class(strategy).cost.learn_token * self._scale

    def answer(self, strategy: str, questions: int, tokens: int = 0) -> float:
        """Estimated seconds to answer ``questions`` questions in a memory of documents of this many ``tokens``.

        They matter to a strategy that reads all documents for every question.
        """
        cost = strategy_class(strategy).cost
        speed = self.speeds.get(strategy, Speed())
        seconds = speed.answer_seconds / speed.answers if speed.answers else cost.answer * self._scale
        return questions * (seconds + tokens * cost.answer_token * self._scale)

    def retention(self, strategy: str) -> float:
        """Estimated seconds to measure retention: an upper bound, as a memory that affects few questions asks few."""
        return self.answer(strategy, _RETENTION_QUESTIONS)

    @property
    def _scale(self) -> float:
        return (_REFERENCE_GFLOPS / self.gflops) * (self.parameters / _REFERENCE_PARAMETERS)


def recorded_speeds(base: BaseModel) -> dict[str, Speed]:
    """What `record_speeds` kept of this base on this machine, by strategy; empty if nothing that can be read."""
    with storage_errors("recorded speeds"):
        try:
            found = json.loads(_speeds_file(base).read_text(encoding="utf-8"))
            return {name: Speed(**speed) for name, speed in found.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError):  # damaged: the next run overwrites it
            return {}


def record_speeds(base: BaseModel, speeds: Mapping[str, Speed]) -> None:
    """Keep speeds measured on this machine, in place of what was recorded before."""
    path = _speeds_file(base)
    data = json.dumps({name: dataclasses.asdict(speed) for name, speed in speeds.items()}).encode()
    with storage_errors("recorded speeds"):
        make_folder(path.parent)
        write_atomic(path, data, sync=False)


def _speeds_file(base: BaseModel) -> Path:
    """Its name holds everything that speeds depend on besides the strategy."""
    key = [__version__, base.fingerprint, str(base.model.dtype), base.linears.precision, machine_key(base)]
    return data_home() / "speeds" / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]}.json"


def duration(seconds: float) -> str:
    """Seconds in human-readable form: ``40 s``, ``12 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
