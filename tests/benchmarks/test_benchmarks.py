"""The benchmarks: experiments that can be run, results of one schema, tables that are those of the results."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from continual_learning.strategies.base import make_strategy, strategy_class, strategy_names
from continual_learning.strategies.choosing import F1_NOISE

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def records() -> ModuleType:
    import records  # type: ignore[import-not-found]

    return records  # type: ignore[no-any-return]


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, records: ModuleType) -> Iterator[ModuleType]:
    """The runner, with two experiments on made-up passages."""
    import run  # type: ignore[import-not-found]

    setting = {"documents": 2, "split": "all", "holdout_questions": 0, "retention_documents": 0, "count_flops": False}
    made = [records.Experiment("squad", name, label=name, setting=setting) for name in ("frozen", "rag")]
    monkeypatch.setattr(run, "experiments", lambda: {e.name: e for e in made})
    yield run
    sys.modules.pop("run")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "passages.jsonl"
    rows = [
        {"title": f"House {n}", "context": f"The dog of house {n} was born in 190{n}. It has {n} cats and a red ball.",
         "questions": [{"question": f"{word} of house {n}?", "answer": f"190{n}"} for word in ("Dog", "Year", "Born")]}
        for n in range(3)
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_every_experiment_is_one_that_its_strategy_takes(records: ModuleType) -> None:
    from protocols import protocol_module  # type: ignore[import-not-found]

    for experiment in records.experiments().values():
        assert callable(protocol_module(experiment.protocol).measure)
        assert experiment.strategy in strategy_names(), experiment.name
        make_strategy(experiment.strategy, experiment.options)


def test_results_have_one_schema_and_are_small(records: ModuleType) -> None:
    results = records.results()
    assert len(results) > 60
    files = [p for p in BENCHMARKS.rglob("*") if p.is_file() and not {"answers", "__pycache__"} & set(p.parts)]
    assert sum(p.stat().st_size for p in files) < 1e6


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"figures": 3}, "figures = 3; expected dict"),
        ({"extra": 1}, "'extra'"),
        ({"variant": "other"}, "holds squad/quote--other"),
        ({"notes": ["x" * 30_000]}, "expected at most 20000"),
    ],
)
def test_a_result_of_another_form_is_refused(
    records: ModuleType, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    [(name, result)] = [(n, r) for n, r in records.results().items() if n == "squad/quote--default"]
    path = tmp_path / f"{name}.json"
    path.parent.mkdir()
    path.write_text(json.dumps({**result, **change}))
    with pytest.raises(ValueError, match=says):
        records.results(folder=tmp_path)


def test_the_tables_are_those_of_the_results() -> None:
    import report  # type: ignore[import-not-found]

    assert report.main(["--check"]) == 0, "run python benchmarks/report.py"


def test_a_difference_is_paired() -> None:
    from protocols import sequences

    def row(*right: str) -> dict[str, object]:
        return {"figures": {"right_by_document": list(right)}}

    better = row("111", "110", "111", "101")
    assert sequences.difference(row("110", "100", "110", "100"), better) == "-0.33 [-0.33, -0.33]"
    assert sequences.difference(better, better) == ""
    assert sequences.difference(row("11", "1"), better) == "", "other questions"


def test_reading_compares_f1_on_the_texts_that_both_rows_have() -> None:
    from protocols import reading

    quote = {"f1_by_document": ["1 0.5", "0", "1 1 1"]}
    assert reading.difference({"f1_by_document": ["0.5 0", "0.25"]}, quote) == "-0.25 [-0.50, +0.25]"
    assert reading.difference(quote, quote) == ""
    assert reading.difference({"f1_by_document": ["0.5 0 1", "0.25"]}, quote) == "", "other questions"


def test_a_trial_changes_settings_and_options_and_is_written_elsewhere(
    records: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    import run

    rows = [
        records.Experiment("reading", "quote", "plain", options={"reader": None}, setting={"squad": 60}),
        records.Experiment("reading", "quote", setting={"squad": 60}),
        records.Experiment("reading", "frozen", setting={"timed": 1}),
    ]
    found = run.changed(rows, ["squad=3", "reader=my.safetensors"])
    assert [dict(e.setting) for e in found] == [{"squad": 3}, {"squad": 3}, {"timed": 1}]
    assert [dict(e.options) for e in found] == [{"reader": None}, {"reader": "my.safetensors"}, {}]
    with pytest.raises(ValueError, match="--set squat=3: changes nothing"):
        run.changed(rows, ["squat=3"])
    with pytest.raises(SystemExit):
        run.main(["reading", "--set", "squad=3"])
    assert "give --out FOLDER" in capsys.readouterr().err


def test_reading_measures_texts_and_tables_show_them(records: ModuleType, data: Path, tiny_llama_dir: Path) -> None:
    from protocols import Bench, reading

    from continual_learning.model.base_model import BaseModel

    sets = {"squad": 1, "fairytaleqa": 2, "covid_qa": 0}
    setting = {**sets, "questions": 2, "data_seed": 0, "max_new_tokens": 4, "timed": 2}
    row = records.Experiment("reading", "rag", "no-reader", "rag, plain", {"reader": None}, setting)
    data.with_name("fairytaleqa.jsonl").write_text(data.read_text())
    figures, told, answers = reading.measure(row, Bench(BaseModel.load(str(tiny_llama_dir)), data))
    assert {name: (found["documents"], found["questions"]) for name, found in figures.items()} == {
        "squad": (1, 2),
        "fairytaleqa": (2, 4),
    }
    assert told["datasets"]["squad"]["split"] == "second" and len(answers["fairytaleqa"]) == 4
    stories = figures["fairytaleqa"]
    assert stories["questions_with_spans"] == 4 and stories["seconds"]["warm"] > 0
    assert sum(stories["origins"].values()) == 4
    lines = reading.table(
        {row.name: {"strategy": "rag", "variant": "no-reader", "label": row.label, "figures": figures}}
    )
    assert "**SQuAD**" in lines and "| rag, plain | " in lines and "COVID" not in lines


def test_what_strategy_auto_goes_by_is_what_was_measured(records: ModuleType) -> None:
    variants = {"default": "f1", "no-reader": "f1_without_reader"}
    for result in records.results("squad").values():
        if result["variant"] in variants:
            cost = strategy_class(result["strategy"]).cost
            known = getattr(cost, variants[result["variant"]])[result["model"]]
            assert known == pytest.approx(result["figures"]["f1"], abs=F1_NOISE), (result["strategy"], result["model"])
            if result["variant"] == "default" and result["model"] == records.MODEL:
                kept = result["figures"]["general_kept"]
                assert cost.general_kept == pytest.approx(kept, abs=0.03), result["strategy"]


def test_the_runner_writes_results_and_runs_what_is_stale(
    runner: ModuleType,
    records: ModuleType,
    data: Path,
    tiny_llama_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = ["--data", str(data), "--model", str(tiny_llama_dir), "--out", str(tmp_path)]

    def states() -> dict[str, str]:
        assert runner.main(["--list", "--json", *given]) == 0
        return {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)}

    frozen, rag = "squad/frozen--default@llama", "squad/rag--default@llama"
    assert states() == {frozen: "missing", rag: "missing"}
    assert runner.main([frozen, "--json", *given]) == 0
    [written] = json.loads(capsys.readouterr().out)
    result = records.results(folder=tmp_path / "results")[frozen]
    assert result["digest"] == written["digest"]
    assert result["figures"]["questions"] == 6
    assert "answers" not in result["figures"]
    with gzip.open(tmp_path / "answers" / f"{frozen}.json.gz", "rt") as file:
        assert len(json.load(file)) == 6
    assert states() == {frozen: "fresh", rag: "missing"}

    before = (tmp_path / "results" / f"{frozen}.json").read_bytes()
    assert runner.main(["--stale", *given]) == 0
    assert (tmp_path / "results" / f"{frozen}.json").read_bytes() == before, "measured again"
    assert states() == {frozen: "fresh", rag: "fresh"}

    here = {result["setting"]["fingerprint"]}
    monkeypatch.setattr(runner, "fingerprints_here", lambda name: here if name == str(tiny_llama_dir) else set())
    assert states() == {frozen: "fresh", rag: "fresh"}
    here.clear()
    here.add("that of another reading of the file")
    assert states() == {frozen: "stale", rag: "stale"}
    here.clear()

    changed = {e.name: records.Experiment("squad", e.strategy, setting={**e.setting, "documents": 3}) for e in runner.experiments().values()}  # fmt: skip  # noqa: E501
    monkeypatch.setattr(runner, "experiments", lambda: changed)
    assert states() == {frozen: "stale", rag: "stale"}


def test_the_runner_names_what_there_is(runner: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        runner.main(["squat"])
    assert error.value.code == 2
    assert "no experiment 'squat'; expected one that --list names, or a protocol: squad" in capsys.readouterr().err


def test_a_row_of_another_base_takes_what_its_file_does_not_say(records: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "squad"
    folder.mkdir()
    (folder / "rag--plain.yaml").write_text(
        "label: rag, plain\noptions:\n  reader: null\nsetting:\n  documents: 16\n  split: all\n"
    )
    (folder / "rag--plain@gemma3-270m.yaml").write_text("setting:\n  documents: 8\n")
    here, there = records.experiments(tmp_path).values()
    assert (there.name, there.model) == ("squad/rag--plain@gemma3-270m", "gemma3-270m")
    assert (there.label, there.options, there.variant) == (here.label, here.options, here.variant)
    assert there.setting == {"documents": 8, "split": "all"} and here.setting["documents"] == 16
    assert "model" not in here.content(), "digests from before rows had bases"
    assert there.content()["model"] == "gemma3-270m"


def test_tables_of_two_bases(records: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import report

    known = {name: result for name, result in records.results().items() if result["protocol"] in ("squad", "stream")}
    known = {name: result for name, result in known.items() if result["model"] == "smollm2-135m"}
    monkeypatch.setattr(report, "results", lambda: known)
    assert "### On" not in report.tables() and "| strategy | recall |" in report.readme_block()
    row = known["squad/quote--default"]
    other = {**row, "model": "gemma3-270m", "figures": {**row["figures"], "recall": 0.125, "recall_interval": None}}
    every = {**known, "squad/quote--default@gemma3-270m": other}
    monkeypatch.setattr(report, "results", lambda: every)
    text = report.tables()
    squad = text[text.index("### On smollm2-135m") : text.index("### On gemma3-270m")]
    assert squad.count("\n| quote |") == 1
    assert "\n| quote | 0.12 |" in text[text.index("### On gemma3-270m") :]
    head, _, *lines = [line for line in report.readme_block().splitlines() if line.startswith("|")]
    assert "smollm2-135m: recall" in head and head.index("gemma3-270m: recall") > head.index("smollm2-135m: token F1")
    [quote] = [line for line in lines if line.startswith("| quote |")][:1]
    assert " | 0.12 | " in quote and len({line.count("|") for line in lines[: len(known) // 2]}) == 1
    assert "SmolLM2-135M-Instruct and Gemma 3 270M" in report.readme_block()


def test_results_from_before_digests_are_unknown(records: ModuleType) -> None:
    import run

    known = records.results()
    experiment = records.experiments()["squad/quote--default"]
    assert run.state_of(experiment, {experiment.name: {**known[experiment.name], "digest": None}}) == "unknown"


def test_an_earlier_session_whose_passages_were_not_kept_does_not_count(tmp_path: Path) -> None:
    from protocols.long_document import Timeline  # type: ignore[import-not-found]

    path = tmp_path / "timeline"
    path.write_text('[{"share": 0.5, "seconds": 500.0, "resident_bytes": 1}]')
    resumed, anew = Timeline(path), Timeline(path)
    resumed.add(0.6)
    assert [s.share for s in resumed.samples] == [0.5, 0.6] and resumed.samples[-1].seconds > 500
    anew.add(0.1)
    assert [s.share for s in anew.samples] == [0.1] and anew.samples[-1].seconds < 100
