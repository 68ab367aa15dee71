"""Learning a long document with ttt goes on where it was interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from continual_learning import Learner
from continual_learning.documents import Document
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.methods import ttt as module
from continual_learning.strategies.methods.ttt import documents
from continual_learning.strategies.methods.ttt.learning import Lesson, learn_passages
from continual_learning.types import LearnReport

pytestmark = pytest.mark.slow

BOOK = Document(" ".join(f"Dog number {n} lives in a house with {n + 2} cats and eats rice." for n in range(6)), "Dogs")
OPTIONS: dict[str, Any] = {
    "neurons": 4, "passes": 1, "passage_tokens": 16, "passages_together": 2, "guard": False
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "data_home", lambda: tmp_path)
    monkeypatch.setattr(module, "_SHORT", 2)
    return tmp_path / "unfinished"


def learn(base: BaseModel, **options: Any) -> tuple[State, LearnReport]:
    strategy = make_strategy("ttt", {**OPTIONS, **options})
    return strategy.learn(base, strategy.init(base), BOOK)


def stopping(monkeypatch: pytest.MonkeyPatch, after: int | None) -> list[int]:
    """How many passages each call learns; the call after so many is interrupted."""
    sizes: list[int] = []

    def counted(lesson: Lesson, passages: Sequence[Any], *given: Any) -> Any:
        if len(sizes) == after:
            raise KeyboardInterrupt
        sizes.append(len(passages))
        return learn_passages(lesson, passages, *given)

    monkeypatch.setattr(documents, "learn_passages", counted)
    return sizes


def test_it_goes_on_where_it_stopped(tiny_base: BaseModel, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, told = learn(tiny_base)
    assert not list(home.iterdir()), "nothing is left of a document that is done"
    stopping(monkeypatch, after=2)
    with pytest.raises(
        KeyboardInterrupt, match=r"4 of \d+ passages are kept for a week; learn the same again to resume"
    ):
        learn(tiny_base)
    assert len(list(home.iterdir())) == 4
    strategy = make_strategy("ttt", OPTIONS)
    work = strategy.workload(tiny_base, strategy.init(tiny_base), [BOOK])
    assert (work.passages_kept, work.tokens) == (4, told.tokens)
    sizes = stopping(monkeypatch, after=None)
    resumed, report = learn(tiny_base)
    passages = resumed.meta.documents[0].details["passages"]
    assert sum(sizes) == passages - 4 > 0 and work.passages == passages
    assert strategy.workload(tiny_base, resumed, [BOOK]).passages == 0, "the memory holds it"
    assert resumed.digest() == whole.digest()
    assert (report.recall_after, report.loss, report.warnings) == (told.recall_after, told.loss, told.warnings)
    assert not list(home.iterdir())


KILLED = """
import os, signal, sys
from continual_learning import Document, Learner
from continual_learning.strategies.methods import ttt
from continual_learning.strategies.methods.ttt import documents
from continual_learning.strategies.methods.ttt.learning import learn_passages

calls = []

def counted(*given):
    calls.append(given)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return learn_passages(*given)

ttt._SHORT, documents.learn_passages = 2, counted
options = eval(sys.argv[2])
Learner.open(sys.argv[1], "ttt", "work", device="cpu", **options).learn(Document(*eval(sys.argv[3])))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_loses_no_finished_batch_and_another_resumes(
    tiny_llama_dir: Path, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [str(tiny_llama_dir), repr(OPTIONS), repr((BOOK.text, BOOK.title))]
    killed = subprocess.run([sys.executable, "-c", KILLED, *given], check=False, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    learner = Learner.open(tiny_base, "ttt", "work", **OPTIONS)
    assert learner.documents == ()
    monkeypatch.setattr(module, "_SHORT", 2)
    expected = learner.estimate(BOOK)
    assert expected.passages is not None and expected.passages_kept == 4
    sizes = stopping(monkeypatch, after=None)
    report = learner.learn(BOOK)
    assert isinstance(report, LearnReport) and report.accepted and sum(sizes) == expected.passages - 4
    again = learner.learn(BOOK)
    assert isinstance(again, LearnReport) and not again.accepted and sum(sizes) == expected.passages - 4
    assert [v.action for v in learner.history] == ["learn", "init"]
    assert learner.estimate(BOOK).passages == 0


def test_other_settings_and_damaged_files_are_learned_anew(
    tiny_base: BaseModel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping(monkeypatch, after=2)
    with pytest.raises(KeyboardInterrupt):
        learn(tiny_base)
    for path in home.iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    sizes = stopping(monkeypatch, after=None)
    learn(tiny_base)
    everything = sum(sizes)
    stopping(monkeypatch, after=2)
    with pytest.raises(KeyboardInterrupt):
        learn(tiny_base)
    sizes = stopping(monkeypatch, after=None)
    learn(tiny_base, seed=1)
    assert sum(sizes) == everything
    assert len(list(home.iterdir())) == 4, "those of the other settings stay"
    old = time.time() - 8 * 24 * 3600
    for path in home.iterdir():
        os.utime(path, (old, old))
    learn(tiny_base, seed=2)
    assert not list(home.iterdir()), "but for a week at most"


def test_short_documents_and_limits_write_nothing(
    tiny_base: BaseModel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in ({"passages_together": 20}, {"max_seconds": 60.0}):
        stopping(monkeypatch, after=1)
        if "max_seconds" in options:
            with pytest.raises(KeyboardInterrupt):
                learn(tiny_base, **options)
        else:
            learn(tiny_base, **options)
        assert not home.exists()
