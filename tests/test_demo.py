"""The demo: on the embedded model, and what it says when nothing was learned."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from continual_learning.documents.qa_files import load_qa
from continual_learning.errors import ModelNotFoundError
from continual_learning.text.scoring import contains_answer
from continual_learning.types import Answer, LearnReport, Progress

DEMO = Path(__file__).parent.parent / "examples" / "demo.py"


@pytest.fixture
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module
    spec.loader.exec_module(module)
    return module


class FakeLearner:
    """Knows "Paris" throughout, and ``learned`` once it has learned."""

    def __init__(self, accepted: bool, learned: str):
        self.accepted, self.learned, self.knows = accepted, learned, "Paris [/red]"

    def ask(self, questions: Sequence[str], max_new_tokens: int) -> list[Answer]:
        return [Answer(q, self.knows) for q in questions]

    def perplexity(self, texts: Sequence[str]) -> float:
        return 20.0 if self.knows == "Paris [/red]" else 20.2

    def learn(self, text: str, title: str, progress: Callable[[Progress], None]) -> LearnReport:
        progress(Progress("passes", 1, 2))
        if self.accepted:
            self.knows += f" {self.learned}"
        return LearnReport(self.accepted, "perplexity rose by 9%", "doc-1", title, 480, 1.0, 1234, timings={"fit": 0.5})


def run(demo: ModuleType, monkeypatch: pytest.MonkeyPatch, **learner: Any) -> tuple[int, str]:
    monkeypatch.setattr(demo, "Learner", SimpleNamespace(open=lambda **_: FakeLearner(**learner)))
    out = StringIO()
    return demo.demo("fake", Console(file=out, width=140)), out.getvalue()


def test_it_prints_recall_what_was_kept_and_the_time(demo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out = run(demo, monkeypatch, accepted=True, learned="Maren Holloway")
    assert code == 0
    assert re.search(r"Recall before +0 of 20 \(0%\)", out)
    assert re.search(r"Recall after +1 of 20 \(5%\)", out)
    assert re.search(r"General questions kept +2 of 2 .*\(100%\)", out)
    assert "20.00 before, 20.20 after (+1.0%)" in out
    assert "1,234 bytes for 480 tokens" in out
    assert re.search(r"  fit +0\.5", out) and re.search(r"^ *total +\d", out, re.MULTILINE)
    assert out.count("✓") == 1


@pytest.mark.parametrize(
    ("accepted", "learned", "reason"),
    [(False, "", "perplexity rose by 9%"), (True, "nonsense", "recall was 0 of 20 before and 0 after")],
)
def test_nothing_learned_is_exit_1_and_one_line(
    demo: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    accepted: bool,
    learned: str,
    reason: str,
) -> None:
    code, _ = run(demo, monkeypatch, accepted=accepted, learned=learned)
    assert code == 1
    assert capsys.readouterr().err == f"Nothing was learned: {reason}\n"


def test_an_error_is_one_line(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(**_: str) -> None:
        raise ModelNotFoundError("no model; install it")

    monkeypatch.setattr(demo, "Learner", SimpleNamespace(open=missing))
    assert demo.main() == 1
    assert capsys.readouterr().err == "no model; install it\n"


def test_the_questions_can_be_answered_from_the_text_and_only_from_it() -> None:
    text = (DEMO.parent / "tidewick.md").read_text(encoding="utf-8")
    questions = load_qa(DEMO.parent / "tidewick.qa.jsonl")
    assert 300 <= len(text.split()) <= 500
    assert 16 <= len(questions) <= 20
    for q in questions:
        assert contains_answer(text, q.answers[:1]), q
        assert not contains_answer(q.question, q.answers), q
        assert len(q.answers[0].split()) <= 4


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.usefixtures("loaded_base")
def test_the_demo_learns_without_forgetting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(DEMO), run_name="__main__")
    done = capsys.readouterr()
    assert ended.value.code == 0, done.out[-3000:] + done.err[-3000:]
    recall = {when: int(n) for when, n in re.findall(r"^Recall (before|after) +(\d+) of 20", done.out, re.MULTILINE)}
    kept = re.search(r"^General questions kept +(\d+) of (\d+)", done.out, re.MULTILINE)
    change = re.search(r"^Unrelated perplexity .*\(([+-][\d.]+)%\)", done.out, re.MULTILINE)
    assert kept is not None and change is not None
    assert recall["before"] <= 1
    assert recall["after"] >= recall["before"] + 5
    assert int(kept[1]) >= 0.95 * int(kept[2])
    assert float(change[1]) <= 3.0
