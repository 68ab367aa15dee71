"""`compare` and `benchmark` from the command line, on the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_tiny

from continual_learning.strategies.baselines.in_context import InContext
from continual_learning.types import QuestionAnswer

pytestmark = pytest.mark.slow

QUICK = ("--max-new-tokens", "4", "--no-flops")


@pytest.fixture(autouse=True)
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [QuestionAnswer("What is the capital of France?", ("Paris",))]
    monkeypatch.setattr("continual_learning.evaluation.sequence.general_questions", lambda: questions)
    monkeypatch.setattr("continual_learning.evaluation.sequence.unrelated_texts", lambda: ["A cat sat there."])


@pytest.fixture
def qa(tmp_path: Path) -> Path:
    path = tmp_path / "qa.jsonl"
    path.write_text('{"question": "What do comb jellies eat?", "answer": ["plankton", "krill"]}\n')
    return path


@pytest.fixture
def squad(tmp_path: Path) -> Path:
    path = tmp_path / "squad.jsonl"
    rows = [
        {
            "title": f"Article {a}",
            "context": f"Number {a}.{p} is the lazy dog of house {a}{p}.",
            "questions": [{"question": f"Which house {q}, {a}{p}?", "answer": f"{a}{p}"} for q in range(3)],
        }
        for a in range(6)
        for p in range(2)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_compare_a_document(cli: Any, tiny: Any, document: Path, qa: Path) -> None:
    done = cli("compare", document, "--qa", qa, "--strategies", "frozen,in_context", *QUICK, "--json")
    assert done.code == 0
    assert [r["strategy"] for r in done.json["results"]] == ["frozen", "in_context"]
    assert done.json["results"][0]["answers"][0]["answers"] == ["plankton", "krill"]
    assert done.json["command"].startswith("continual-learning")
    assert "plan: about" in done.err or "plan: nothing" in done.err
    shown = cli("compare", document, "--qa", qa, "--strategies", "frozen,in_context", *QUICK)
    assert shown.out.splitlines()[0].split()[:2] == ["strategy", "recall"] and "in_context" in shown.out


def test_reports(cli: Any, tiny: Any, document: Path, qa: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"report.{suffix}" for suffix in ("html", "md", "csv", "json")]
    flags = [flag for path in paths for flag in ("--report", path)]
    done = cli("compare", document, "--qa", qa, "--strategies", "frozen", *QUICK, *flags)
    assert done.code == 0 and all(f"wrote {path}" in done.err for path in paths)
    assert "<html" in paths[0].read_text() and paths[1].read_text().startswith("|")
    assert "frozen" in paths[2].read_text() and json.loads(paths[3].read_text())["protocol"] == "compare"
    bad = cli("compare", document, "--qa", qa, "--report", tmp_path / "report.pdf")
    assert bad.code == 2 and "report.pdf" in bad.err and ".html" in bad.err


def test_options_of_a_strategy(cli: Any, tiny: Any, document: Path, qa: Path) -> None:
    given = ("compare", document, "--qa", qa, "--strategies", "ttt,frozen", *QUICK, "--json")
    options = ("ttt.neurons=4", "ttt.passes=1", "ttt.guard=false")
    done = cli(*given, *(part for option in options for part in ("--set", option)))
    assert done.json["results"][0]["config"]["neurons"] == 4
    for text, expected in {
        "ttt.passez=4": "no option 'passez'",
        "in_context.style=chat": "not among the strategies of this run",
        "passes=4": "expected STRATEGY.KEY=VALUE",
    }.items():
        bad = cli(*given, "--set", text)
        assert bad.code == 2 and expected in bad.err, bad.err


def test_compare_on_two_models(cli: Any, tiny_llama_dir: Path, document: Path, qa: Path, tmp_path: Path) -> None:
    other = make_tiny("gemma3", tmp_path)
    given = (
        "compare",
        document,
        "--qa",
        qa,
        "-s",
        "frozen,in_context",
        *QUICK,
        "--models",
        f"{tiny_llama_dir},{other}",
    )
    done = cli(*given, "--json", "--report", tmp_path / "both.html")
    assert done.code == 0, done.err
    assert [row["model"] for row in done.json["results"]] == [str(tiny_llama_dir)] * 2 + [str(other)] * 2
    assert "2 of 2 models: about" in done.err and "in_context on gemma3" in (tmp_path / "both.html").read_text()
    head, *rows = cli(*given).out.splitlines()
    assert head.split()[:3] == ["strategy", "model", "recall"]
    assert [row.split()[:2] for row in rows[-4:]] == [
        [strategy, model] for model in ("llama", "gemma3") for strategy in ("frozen", "in_context")
    ]
    bad = cli(*given, "--model", "smollm2-135m")
    assert bad.code == 2 and "expected one of the two" in bad.err
    bad = cli(*given[:-1], f"{tiny_llama_dir},{other}.gguf")
    assert bad.code != 0 and "was not found" in bad.err and "plan:" not in bad.err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--strategies", "frozn"), "did you mean 'frozen'"),
        (("--seeds", "a"), "--seeds 'a'; expected whole numbers"),
        (("--strategies", ","), "0 strategies"),
    ],
)
def test_bad_flags(cli: Any, tiny: Any, document: Path, qa: Path, flags: tuple[str, ...], expected: str) -> None:
    done = cli("compare", document, "--qa", qa, *flags)
    assert done.code == 2 and expected in done.err


def test_a_data_set_brings_its_questions(cli: Any, tiny: Any, squad: Path) -> None:
    done = cli("compare", squad, "--each", "--strategies", "in_context", *QUICK, "--json")
    assert done.json["results"][0]["documents"] == 12 and done.json["results"][0]["questions"] == 36


def test_benchmark_squad(cli: Any, tiny: Any, squad: Path) -> None:
    given = ("benchmark", "squad", "--data", squad, "--documents", "2", "--strategies", "in_context", *QUICK, "--json")
    done = cli(*given, "--holdout-questions", "2")
    [result] = done.json["results"]
    assert result["documents"] == 2 and result["holdout_before"] is not None
    titles = {cli(*given, "--split", split).json["results"][0]["answers"][0]["title"] for split in ("first", "second")}
    assert len(titles) == 2
    few = cli("benchmark", "squad", "--data", squad, "--documents", "50")
    assert few.code == 2 and "50 documents" in few.err


@pytest.mark.parametrize("which", ["squad", "stream", "forgetting"])
def test_benchmarks_run_on_the_sample_that_ships(which: str, cli: Any, tiny: Any) -> None:
    done = cli("benchmark", which, "--documents", "2", "--strategies", "frozen", *QUICK, "--json")
    assert done.code == 0 and done.json["dataset"]["source"] == "squad_sample.jsonl"
    assert "50 passages of SQuAD 1.1 that ship with the package (Rajpurkar et al. 2016, CC BY-SA 4.0)" in done.err


def test_benchmark_stream(cli: Any, tiny: Any, squad: Path) -> None:
    done = cli("benchmark", "stream", "--data", squad, "--documents", "3", "-s", "in_context", *QUICK, "--json")
    [result] = done.json["results"]
    assert len(result["matrix"]) == 4 and {"final_recall", "bwt", "forgetting"} <= set(result)
    quick = ("benchmark", "stream", "--data", squad, "--documents", "3", "-s", "in_context", "--matrix", "ends")
    ends = cli(*quick, *QUICK, "--json").json["results"][0]
    assert ends["final_recall"] == result["final_recall"] and ends["forgetting"] is None
    assert "bwt" in cli(*quick, *QUICK).out


def test_benchmark_scale(cli: Any, tiny: Any, squad: Path) -> None:
    command = ("benchmark", "scale", "--data", squad, "--split", "all", "-s", "in_context", "--max-new-tokens", "4")
    done = cli(*command, "--sizes", "1,2", "--json")
    [result] = done.json["results"]
    assert [size["documents"] for size in result["sizes"]] == [1, 2] and 0 <= result["opened"] <= 1
    shown = cli(*command, "--sizes", "1,2").out
    assert "in_context: memories of 2: F1" in shown and "other questions left to the base" in shown
    assert cli(*command, "--sizes", "0,2").code == 2 and cli(*command, "--sizes", "few").code == 2


def test_benchmark_forgetting_and_needle(cli: Any, tiny: Any, squad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = cli("benchmark", "forgetting", "--data", squad, "--documents", "2", "-s", "frozen", *QUICK, "--json")
    assert done.json["results"][0]["holdout_before"] == done.json["results"][0]["holdout_after"]
    needle = ("benchmark", "needle", "--documents", "1", "-s", "frozen", *QUICK)
    assert cli(*needle, "--tokens", "60", "--json").json["results"][0]["needles"][0]["tokens"] == 60
    assert cli(*needle, "--tokens", "a").code == 2


def test_an_interruption_says_how_to_go_on(
    cli: Any, tiny: Any, document: Path, qa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(InContext, "learn", interrupt)
    done = cli("compare", document, "--qa", qa, "--strategies", "frozen,in_context", *QUICK)
    assert done.code == 130 and "the same command resumes from there" in done.err


def test_benchmark_everyday_scores_by_kind(cli: Any, tiny: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    table = tmp_path / "table.md"
    run = ("benchmark", "everyday", "--half", "tuning", "--strategies", "frozen", "--max-new-tokens", "4")
    done = cli(*run, "--report", page, "--report", table, "--json")
    assert done.code == 0, done.err
    [row] = done.json["results"]
    assert done.json["dataset"]["split"] == "tuning" and row["questions"] == 100 and row["documents"] == 10
    assert row["score_unknown"] == 0.0 and row["answered"] == 1.0, "the base alone never says that a document does not"
    assert row["score"] == pytest.approx(sum(a["score"] for a in row["answers"]) / 100)
    assert {a["kind"] for a in row["answers"] if a["origin"] == "model"} >= {"fact", "unknown", "summary"}
    assert row["recall"] is None and "score" in table.read_text() and page.exists()
    shown = cli(*run)
    assert shown.out.split()[:4] == ["strategy", "score", "95%", "fact"]
