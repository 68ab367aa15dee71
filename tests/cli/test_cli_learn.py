"""`learn`."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from continual_learning.app.learner import Learner
from continual_learning.app.learning_estimate import LearningEstimate
from continual_learning.cli.learn import in_words
from continual_learning.cli.output import progress_bar
from continual_learning.errors import DivergedError, StorageError
from continual_learning.memory.store import Store
from continual_learning.types import LearnReport, Progress, QuestionAnswer

pytestmark = pytest.mark.slow


def documents(memory: str) -> list[str]:
    return [d.title for d in Store.open(memory).load().meta.documents]


def test_one_document(cli: Any, tiny: Any, document: Path) -> None:
    result = cli("learn", document, "--memory", "work")
    assert (result.code, result.err) == (0, "")
    header, row, last = result.out.splitlines()
    assert header.split()[:3] == ["document", "learned", "tokens"]
    assert row.startswith("Comb jellies  yes")
    assert last == f"memory 'work' (in_context, {tiny.name}): 1 of 1 document learned"
    assert documents("work") == ["Comb jellies"]


def test_json_says_everything(cli: Any, tiny: Any, document: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.png").write_bytes(b"x")
    (tmp_path / "folder" / "b.md").write_text("# Bees\nThey hum.")
    result = cli("learn", document, tmp_path / "folder", "--json")
    assert result.code == 0
    found = result.json
    assert (found["memory"], found["strategy"]) == ("default", "in_context")
    assert [d["title"] for d in found["documents"]] == ["Comb jellies", "Bees"]
    assert [d["source"] for d in found["documents"]] == [str(document), str(tmp_path / "folder" / "b.md")]
    assert all(d["accepted"] and d["document_id"].startswith("doc-") and d["tokens"] for d in found["documents"])
    assert [Path(s["source"]).name for s in found["skipped"]] == ["photo.png"]
    assert (found["accepted"], found["refused"]) == (2, 0)
    assert found["seconds"] > 0
    assert "photo.png: suffix '.png'" in result.err


def test_title_and_standard_input(cli: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"They hum.")))
    assert cli("learn", "-", "--title", " Bees ").code == 0
    assert documents("default") == ["Bees"]


def test_what_is_refused_is_shown_and_the_rest_goes_on(cli: Any, tiny: Any, document: Path, tmp_path: Path) -> None:
    other = tmp_path / "Bees.txt"
    other.write_text("They hum.")
    again = tmp_path / "again.jsonl"
    again.write_text(json.dumps({"text": document.read_text(), "title": "Comb jellies"}))
    assert cli("learn", document).code == 0
    result = cli("learn", again, other)
    assert result.code == 0, "some were accepted"
    lines = result.out.splitlines()
    assert lines[0].startswith("refused  Comb jellies: ") and "already" in lines[0]
    assert lines[1].startswith("learned  Bees: ")
    assert documents("default") == ["Comb jellies", "Bees"]
    assert cli("learn", document, again).code == 1, "none was accepted"
    assert cli("learn", document, document).out.count("refused") == 1, "the same text twice is one document"
    only = cli("learn", document)
    assert only.code == 1 and "already" in only.out
    assert cli("learn", document, "--json").json["accepted"] == 0


def test_frozen_learns_nothing(cli: Any, tiny: Any, document: Path) -> None:
    result = cli("learn", document, "--strategy", "frozen", "--memory", "still")
    assert result.code == 1
    assert Store.list() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.txt"], ["absent.txt", "no such file"]),
        (["{document}", "absent.txt"], ["absent.txt"]),
        (["{document}", "--strategy", "in_contxt"], ["'in_contxt'", "did you mean 'in_context'"]),
        (["{document}", "--memory", "../../x"], ["'../../x'"]),
        (["{document}", "--set", "instruction"], ["'instruction'", "KEY=VALUE"]),
        (["{document}", "--set", "instructon=x"], ["'instructon'", "did you mean 'instruction'"]),
        (["{document}", "--qa", "absent.jsonl"], ["absent.jsonl"]),
        (["{document}", "other.txt", "--qa", "q.jsonl"], ["q.jsonl", "one document"]),
        (["{document}", "other.txt", "--title", "T"], ["'T'", "one document"]),
        (["ftp://example.org/a.txt"], ["scheme 'ftp'"]),
        (["http://127.0.0.1/a.txt"], ["not a public address"]),
    ],
)
def test_bad_input_changes_nothing(cli: Any, tiny: Any, document: Path, arguments: list[str], words: list[str]) -> None:
    Path("other.txt").write_text("Another text.")
    result = cli("learn", *(str(document) if a == "{document}" else a for a in arguments))
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert all(word in result.err for word in words), result.err
    assert Store.list() == []


def test_a_memory_keeps_its_strategy_and_options(cli: Any, tiny: Any, work: Any, document: Path) -> None:
    result = cli("learn", document, "--memory", "work", "--strategy", "frozen")
    assert result.code == 2
    assert all(word in result.err for word in ("'work'", "'in_context'", "frozen", "--strategy"))
    Path("continual-learning.yaml").write_text("strategy: frozen\n")
    assert cli("learn", document, "--memory", "work", "--set", "instruction=Answer.").code == 0
    assert documents("work") == ["one", "two", "Comb jellies"]


def test_options_reach_the_strategy(cli: Any, tiny: Any, document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTINUAL_LEARNING_STRATEGY")
    Path("continual-learning.yaml").write_text('strategy: in_context\nstrategies: {in_context: {instruction: "a"}}')
    assert cli("learn", document, "--memory", "set").code == 0
    assert cli("learn", document, "--memory", "flag", "--set", "instruction=b").code == 0
    assert Store.open("set").load().meta.config["instruction"] == "a"
    assert Store.open("flag").load().meta.config["instruction"] == "b"


def test_model_device_and_dtype_reach_the_model(
    cli: Any, tiny: Any, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def load(*arguments: str) -> Any:
        seen.append(arguments)
        return tiny

    monkeypatch.setattr("continual_learning.model.base_model.BaseModel.load", load)
    monkeypatch.delenv("CONTINUAL_LEARNING_MODEL__NAME")
    Path("continual-learning.yaml").write_text("model: {name: other, device: cpu, dtype: float32}")
    cli("learn", document)
    cli("learn", document, "--memory", "new", "--model", "third")
    assert seen == [("other", "cpu", "float32", "full", "full"), ("third", "cpu", "float32", "full", "full")]


def test_questions_reach_the_learner(cli: Any, tiny: Any, document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    original = Learner.learn

    def learn(self: Learner, source: Any, **options: Any) -> Any:
        seen.append(options["qa"])
        return original(self, source, **options)

    monkeypatch.setattr(Learner, "learn", learn)
    Path("q.jsonl").write_text('{"question": "What?", "answer": ["a", "b"]}')
    assert cli("learn", document, "--qa", "q.jsonl").code == 0
    assert seen == [[QuestionAnswer("What?", ("a", "b"))]]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make learning the document called ``Two`` raise."""

    def put(error: BaseException) -> None:
        original = Learner.learn

        def learn(self: Learner, source: Any, **options: Any) -> Any:
            if source.title == "Two":
                raise error
            return original(self, source, **options)

        monkeypatch.setattr(Learner, "learn", learn)

    rows = [{"title": title, "text": f"{title} otters"} for title in ("One", "Two", "Three")]
    Path("three.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return put


def test_a_document_that_cannot_be_learned_is_refused(cli: Any, tiny: Any, failing: Any) -> None:
    failing(DivergedError("the loss became NaN"))
    result = cli("learn", "three.jsonl")
    assert result.code == 0
    assert "refused  Two: the loss became NaN" in result.out
    assert documents("default") == ["One", "Three"]


def test_an_interruption_keeps_what_was_learned_before(cli: Any, tiny: Any, failing: Any) -> None:
    failing(KeyboardInterrupt())
    result = cli("learn", "three.jsonl")
    assert result.code == 130
    assert result.err == "interrupted; 1 of 3 documents were learned before that and are kept\n"
    assert documents("default") == ["One"]


def test_an_interruption_of_the_first_document(cli: Any, tiny: Any, failing: Any) -> None:
    failing(KeyboardInterrupt())
    Path("two.txt").write_text("Two")
    result = cli("learn", "two.txt", "--title", "Two", "--json")
    assert result.code == 130
    assert result.err == "interrupted; the memory is as it was\n"
    assert result.json["error"]["exit_code"] == 130
    assert Store.list() == []


def test_a_full_disk_says_what_is_kept(cli: Any, tiny: Any, failing: Any) -> None:
    failing(StorageError("the disk is full"))
    result = cli("learn", "three.jsonl")
    assert result.code == 1
    assert result.err == "error: the disk is full; 1 of 3 documents were learned before that and are kept\n"


def test_warnings_and_left_out_tokens_are_said(
    cli: Any, tiny: Any, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = LearnReport(
        True, "learned", "doc-1", "T\x1b[1m", 5, 1.5, 2048, tokens_left_out=7, recall_after=0.5, warnings=("careful",)
    )
    monkeypatch.setattr(Learner, "learn", lambda *_, **__: report)
    result = cli("learn", document)
    assert "careful" in result.err and "7 tokens were left out" in result.err
    row = result.out.splitlines()[1].split()
    assert row == ["T[1m", "yes", "5", "-", "50%", "-", "-", "2.0", "kB", "1.5"]


def test_strategy_auto_chooses_and_the_memory_keeps_it(cli: Any, tiny: Any, document: Path) -> None:
    shown = cli("learn", document, "--strategy", "auto", "--dry-run")
    assert (shown.code, Store.list()) == (0, [])
    header, first, *_, last = shown.out.splitlines()
    assert header.split()[:4] == ["strategy", "F1", "learn,", "s"] and first.startswith("jitrl_mvp  ")
    assert last.startswith("strategy auto: jitrl_mvp for 1 document of ")

    result = cli("learn", document, "--strategy", "auto", "--memory", "work", "--json", "--set", "uses=3")
    assert result.err.startswith("strategy auto: jitrl_mvp for 1 document of ") and result.err.count("\n") == 1
    found = result.json
    assert (found["strategy"], found["accepted"]) == ("jitrl_mvp", 1)
    costs = {row["strategy"]: row for row in found["auto"]["strategies"]}
    assert "3 questions a document" in found["auto"]["reason"] and costs["jitrl_mvp"]["ruled_out"] == []
    assert costs["ttt"]["keeps_text"] is False and costs["ttt"]["learn_seconds"] > 0
    assert Store.open("work").load().meta.strategy == "jitrl_mvp"

    other = document.with_name("Bees.txt")
    other.write_text("They hum.")
    again = cli("learn", other, "--strategy", "auto", "--memory", "work", "--json", "--set", "keep_text=false")
    assert (again.json["strategy"], "auto" in again.json, again.err) == ("jitrl_mvp", False, "")
    assert "keeps its strategy, jitrl_mvp" in cli("learn", other, "--memory", "work", "--dry-run").out


def test_strategy_auto_refuses_in_one_line(cli: Any, tiny: Any, document: Path) -> None:
    for wrong, word in (("keep_txt=no", "'keep_text'"), ("uses=0", "uses = 0"), ("uses", "KEY=VALUE")):
        result = cli("learn", document, "--strategy", "auto", "--set", wrong)
        assert result.code == 2 and word in result.err and result.err.count("\n") == 1
    nothing = cli("learn", document, "--strategy", "auto", "--set", "keep_text=false", "--set", "seconds=1e-9")
    assert nothing.code == 2 and "no strategy is left" in nothing.err and nothing.err.count("\n") == 1
    assert Store.list() == []


def test_an_empty_memory_of_strategy_auto(cli: Any, tiny: Any) -> None:
    assert cli("memory", "new", "work", "--strategy", "auto", "--json").json["strategy"] == "jitrl_mvp"
    assert Store.open("work").load().meta.strategy == "jitrl_mvp"


LONG = LearningEstimate(documents=1, tokens=50_120, bytes=52_100_000, passages=265, seconds=1500.0)
IN_WORDS = "learning 50,120 tokens in 265 passages takes about 25 min and 52.1 MB"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learner, "estimate", lambda *_: LONG)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.usefixtures("tiny", "long")
def test_long_learning_needs_yes_where_nobody_can_be_asked(
    cli: Any, document: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, as_json: bool
) -> None:
    flags = ["--json"] if as_json else []
    if terminal and not as_json:
        monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
        result = cli("learn", document)
        assert (result.code, result.out) == (1, "nothing was learned\n")
        assert result.err == f"{IN_WORDS}; learn now? [y/N] "
    else:
        monkeypatch.setattr(sys, "stdin", Terminal("y\n") if terminal else io.StringIO("y\n"))
        result = cli("learn", document, *flags)
        assert result.code == 2 and result.err == f"error: {IN_WORDS}; add --yes to learn, or give less\n"
    assert Store.list() == []
    result = cli("learn", document, "--yes", *flags)
    assert (result.code, result.err) == (0, f"{IN_WORDS}\n")
    assert documents("default") == ["Comb jellies"]
    if as_json:
        assert result.json["estimate"] == {
            "documents": 1, "tokens": 50_120, "passages": 265, "passages_kept": 0, "seconds": 1500.0,
            "bytes": 52_100_000,
        }  # fmt: skip


@pytest.mark.usefixtures("tiny", "long")
def test_yes_on_a_terminal_learns(cli: Any, document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert cli("learn", document).code == 0
    assert documents("default") == ["Comb jellies"]


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (LONG, IN_WORDS),
        (
            replace(LONG, passages_kept=40),
            "in 265 passages, 40 of them done before an interruption, takes about 25 min",
        ),
        (replace(LONG, documents=12, passages=None), "learning 50,120 tokens of 12 documents takes about 25 min"),
    ],
)
def test_an_estimate_in_words(expected: LearningEstimate, words: str) -> None:
    assert words in in_words(expected)


def test_an_interruption_in_a_long_document_says_how_to_resume(cli: Any, tiny: Any, failing: Any) -> None:
    failing(KeyboardInterrupt("4 of 9 passages are kept"))
    result = cli("learn", "three.jsonl")
    assert (
        result.err == "interrupted; 1 of 3 documents were learned before that and are kept; 4 of 9 passages are kept\n"
    )


def test_a_progress_bar_shows_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with progress_bar("book") as show:
        assert show is not None
        show(Progress("learn", 10, 100))
        assert " left" not in screen.getvalue(), "not known yet"
        for done in (20, 30):
            time.sleep(0.05)
            show(Progress("learn", done, 100))
    assert re.search(r"0:0[01] left", screen.getvalue())
