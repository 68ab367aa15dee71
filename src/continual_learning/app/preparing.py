"""What is made once for a base: which of it there is, how long the rest takes, and making it.

A reader (`reading.reader`), and whatever strategies offer (`PREPARES` in their ``commands.py``). Everything is made by
the functions that the `train` commands call, in run folders that are resumed, and put in place when it is complete
(`model.prepared`).
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from continual_learning import __version__
from continual_learning.documents.shipped import LESSONS, background_texts
from continual_learning.errors import UnknownNameError
from continual_learning.io.checkpointing import CHECKPOINT_FILE
from continual_learning.model import inventory
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import linear_sizes
from continual_learning.model.prepared import find_prepared, note, prepared, prepared_folder, put, run_folder
from continual_learning.reading.reader.adapter import adapted_layers
from continual_learning.reading.reader.lessons import apart, read_lessons
from continual_learning.reading.reader.reader import READER_FILE, packaged_reader
from continual_learning.reading.reader.training import ReaderTraining, first_block, train_reader
from continual_learning.strategies.commands import Preparation, Work
from continual_learning.strategies.registry import command_modules
from continual_learning.types import Progress, ProgressCallback

State = Literal["ships", "ready", "quick", "begun", "missing"]
"""ships: with the package; ready, quick: was made, in full or quickly; begun: a run can be resumed; missing."""

_READ_TOKENS, _WARM_UP_TOKENS, _PASSES = 256, 32, 3  # of the measurement of speed

# -- the reader ------------------------------------------------------------------------------------

READER_SETTINGS: dict[bool, dict[str, Any]] = {True: {"steps": 150}, False: {"steps": 420, "falling": 0.6}}
READER_HELD_OUT = {True: 40, False: 226}
"""Of a quick run (True) and of a full one; all else is as `train reader` has it."""
# In tokens that the base reads in the same time: a step learns from up to 1,500, forwards through all blocks and
# backwards through four fifths of them; a text held out is read, and asked its questions and others.
_STEP_TOKENS, _HELD_OUT_TOKENS = 3_300, 1_000


def _reader_training(quick: bool) -> ReaderTraining:
    return ReaderTraining.model_validate(READER_SETTINGS[quick])


def _reader_ships(base: BaseModel) -> bool:
    return packaged_reader(base) is not None


def _reader_work(base: BaseModel, quick: bool) -> Work:
    config = _reader_training(quick)
    layers = adapted_layers(base, first_block(base, config)).values()
    size = config.rank * sum(sum(linear_sizes(layer)) for layer in layers)
    tokens = config.steps * _STEP_TOKENS + READER_HELD_OUT[quick] * _HELD_OUT_TOKENS
    return Work(tokens, 2 * size)


def _reader_command(quick: bool, folder: Path) -> Sequence[str]:
    given = [part for name, value in READER_SETTINGS[quick].items() for part in ("--set", f"{name}={value}")]
    return ("train", "reader", "--out", str(folder), "--held-out", str(READER_HELD_OUT[quick]), *given)


def _train_reader(base: BaseModel, quick: bool, folder: Path, progress: ProgressCallback | None) -> Path:
    def show(stage: str, done: int, total: int, message: str) -> None:
        if progress:
            progress(Progress(stage, done, total, message))

    learned, held_out = apart(read_lessons(LESSONS), READER_HELD_OUT[quick])
    trained = train_reader(base, learned, held_out, _reader_training(quick), folder, on_progress=show)
    assert trained is not None  # no limit of time was given
    return trained.path


READER = Preparation(
    name="reader",
    file=READER_FILE,
    serves="answers quoted from a text, by every strategy that reads one",
    ships=_reader_ships,
    work=_reader_work,
    command=_reader_command,
    train=_train_reader,
)


# -- the plan --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """One thing that can be prepared for a base."""

    name: str
    serves: str
    state: State
    wanted: bool
    """Whether it is to be made now."""
    seconds: float
    """How long it takes to make, estimated for a run from its beginning."""
    bytes: int
    command: tuple[str, ...]
    """The `train` command that makes the same, with its model and its folder."""
    path: Path
    """Where it is found."""


@dataclass(frozen=True)
class Plan:
    """What is there for a base, and what is to be made."""

    items: tuple[Item, ...]
    quick: bool
    speed: float
    """Tokens a second that the base reads here, measured now: what the estimates go by."""

    @property
    def wanted(self) -> tuple[Item, ...]:
        """What is to be made."""
        return tuple(item for item in self.items if item.wanted)

    @property
    def seconds(self) -> float:
        """Estimate for all of it."""
        return sum(item.seconds for item in self.wanted)


def preparations() -> list[Preparation]:
    """Everything that can be prepared for a base."""
    return [READER, *(one for _, module in command_modules() for one in getattr(module, "PREPARES", ()))]


def states(base: BaseModel) -> dict[str, State]:
    """What there is for a base, by name."""
    return {one.name: _state(base, one, quick=False) for one in preparations()}


def plan(base: BaseModel, quick: bool = False, only: Sequence[str] = (), overwrite: bool = False) -> Plan:
    """Find out what there is, and how long the rest takes.

    What was made is not made again, except by a full run after a quick one, or with ``overwrite``. ``only``: the names
    of what to make. Raises UnknownNameError for others.
    """
    known = {one.name: one for one in preparations()}
    if unknown := [name for name in only if name not in known]:
        raise UnknownNameError(f"--only {unknown[0]}: nothing of this name is prepared; expected {', '.join(known)}")
    speed = reading_speed(base)
    items = []
    for one in known.values():
        state, work = _state(base, one, quick), one.work(base, quick)
        new = state in ("begun", "missing") or (state == "quick" and not quick) or (state != "ships" and overwrite)
        folder = run_folder(base.fingerprint, one.name, quick)
        items.append(
            Item(
                one.name,
                one.serves,
                state,
                new and (not only or one.name in only),
                work.tokens / speed,
                work.bytes,
                (*one.command(quick, folder), "--model", base.name),
                prepared_folder(base.fingerprint) / one.file,
            )
        )
    return Plan(tuple(items), quick, speed)


def make(
    base: BaseModel,
    planned: Plan,
    overwrite: bool = False,
    progress: Callable[[Item], ProgressCallback | None] = lambda _: None,
) -> dict[str, float]:
    """Make what is wanted, one after another; the seconds that each took in this call.

    An interrupted run is resumed by the next call. ``overwrite`` begins it anew.
    """
    known = {one.name: one for one in preparations()}
    described = inventory.describe(base.name)
    facts = {"name": base.name, "source": described["source"], "licence": described["licence"]}
    taken: dict[str, float] = {}
    for item in planned.wanted:
        one, started = known[item.name], time.perf_counter()
        folder = run_folder(base.fingerprint, one.name, planned.quick)
        if overwrite:
            shutil.rmtree(folder, ignore_errors=True)
        note(base.fingerprint, facts, {})
        result = one.train(base, planned.quick, folder, progress(item))
        taken[item.name] = time.perf_counter() - started
        if result == folder:
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        how: dict[str, Any] = {
            "file": one.file,
            "quick": planned.quick,
            "command": shlex.join(item.command),
            "seconds": round(taken[item.name], 1),
            "version": __version__,
        }
        put(result, base.fingerprint, one.file)
        note(base.fingerprint, facts, {one.name: how})
        # with a full one, an unfinished quick one is of no use
        for done in (folder, run_folder(base.fingerprint, one.name, quick=True)):
            shutil.rmtree(done, ignore_errors=True)
    return taken


@torch.no_grad()
def reading_speed(base: BaseModel) -> float:
    """Tokens a second that the base reads, the best of some passes over ordinary text."""
    ids = base.encode("\n".join(background_texts()))[: min(_READ_TOKENS, base.window)]
    best = 0.0
    for count in (_WARM_UP_TOKENS, *[len(ids)] * _PASSES):
        ids_1T = torch.tensor([ids[:count]], device=base.device)
        started = time.perf_counter()
        hidden_1TD = base.backbone(input_ids=ids_1T, use_cache=False).last_hidden_state
        float(hidden_1TD[0, -1, 0])  # waits for a GPU
        best = max(best, ids_1T.shape[1] / (time.perf_counter() - started))
    return best


def _state(base: BaseModel, one: Preparation, quick: bool) -> State:
    if one.ships(base):
        return "ships"
    if find_prepared(base.fingerprint, one.file) is not None:
        noted = prepared(base.fingerprint)
        return "quick" if noted and noted.made.get(one.name, {}).get("quick") else "ready"
    return "begun" if (run_folder(base.fingerprint, one.name, quick) / CHECKPOINT_FILE).exists() else "missing"
