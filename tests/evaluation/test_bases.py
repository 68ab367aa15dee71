"""One measurement on several base models: one in memory at a time, one result, one report."""

from __future__ import annotations

import csv
import io
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
from report_page import read
from tiny_models import make_tiny

from continual_learning.datasets.base import Dataset, QADocument
from continual_learning.documents import Document
from continual_learning.errors import InputError, LearningError, ModelError, ModelNotFoundError
from continual_learning.evaluation.bases import on_each_base
from continual_learning.evaluation.protocols import Settings, compare
from continual_learning.evaluation.report import RENDERERS, render_answers_csv
from continual_learning.model.base_model import BaseModel
from continual_learning.types import Progress, ProgressCallback, QuestionAnswer

pytestmark = pytest.mark.slow

QUICK = Settings(max_new_tokens=4, count_flops=False)
TEXT = "The quick brown fox lives in Paris with seven cats."
FOX = QADocument(Document(TEXT, "Fox"), (QuestionAnswer("Who lives in Paris?", ("fox",)),), "Fox")
DATA = Dataset("one", "one.jsonl", (FOX,))


@pytest.fixture(autouse=True)
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [QuestionAnswer("What is the capital of France?", ("Paris",))]
    monkeypatch.setattr("continual_learning.evaluation.sequence.general_questions", lambda: questions)
    monkeypatch.setattr("continual_learning.evaluation.sequence.unrelated_texts", lambda: ["A cat sat there."])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The folders of two models."""
    return [str(make_tiny(name, tmp_path_factory.mktemp("two"))) for name in ("llama", "gemma3")]


def measure(base: BaseModel, progress: ProgressCallback | None) -> dict[str, Any]:
    return compare(DATA, ["frozen", "in_context"], base, settings=QUICK, progress=progress)


def test_rows_are_those_of_each_base_alone(two: list[str]) -> None:
    seen: list[weakref.ref[BaseModel]] = []

    def load(name: str) -> BaseModel:
        assert all(base() is None for base in seen), "two bases in memory"
        base = BaseModel.load(name, device="cpu")
        seen.append(weakref.ref(base))
        return base

    shown: list[Progress] = []
    result = on_each_base(two, measure, shown.append, load)
    assert len(seen) == 2 and json.loads(json.dumps(result)) == result
    assert [(row["model"], row["strategy"]) for row in result["results"]] == [
        (name, strategy) for name in two for strategy in ("frozen", "in_context")
    ]
    assert "model" not in result and [model["name"] for model in result["models"]] == two
    assert len({model["fingerprint"] for model in result["models"]}) == 2
    assert [step.done for step in shown] == sorted(step.done for step in shown) and shown[-1].done == 100
    assert f"{two[1]}, 2 of 2 models: " in shown[-1].message
    for name, part in zip(two, (result["results"][:2], result["results"][2:]), strict=True):
        alone = on_each_base([name], measure)
        assert alone["model"]["name"] == name, "one name gives the plain result"
        assert [{**row, "model": name} for row in alone["results"]] == part
    again: list[Progress] = []
    assert on_each_base(two, measure, again.append)["results"] == result["results"]
    assert [step.message.rpartition(": ")[2] for step in again if step.stage == "plan"] == [
        "nothing left to measure; 4 steps are known already"
    ] * 2


@pytest.mark.parametrize(
    ("names", "error", "says"),
    [
        (["{one}", "{one}-gone"], ModelNotFoundError, "-gone' was not found"),
        (["{one}", "missing.gguf"], ModelNotFoundError, "missing.gguf"),
        (["{one}", "gemma3-270m"], ModelError, "accept them with|is not installed"),
        (["{one}", "{one}"], InputError, "each once"),
        ([], InputError, "models none; expected at least one"),
    ],
)
def test_names_are_checked_before_anything_is_run(
    two: list[str], names: list[str], error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTINUAL_LEARNING_ACCEPT_LICENCE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(error, match=says):
        on_each_base([name.replace("{one}", two[0]) for name in names], lambda *_: pytest.fail("was run"))


def test_a_base_that_cannot_be_run_is_left_out(two: list[str]) -> None:
    def one_fails(base: BaseModel, progress: ProgressCallback | None) -> dict[str, Any]:
        if base.name == two[0]:
            raise LearningError("too small")
        return measure(base, progress)

    result = on_each_base(two, one_fails)
    assert {row["model"] for row in result["results"]} == {two[1]}
    assert result["notes"][0] == f"{two[0]} was not run: too small"

    def all_fail(base: BaseModel, progress: ProgressCallback | None) -> dict[str, Any]:
        raise LearningError(f"{base.name} is too small")

    with pytest.raises(LearningError, match=two[0]):
        on_each_base(two, all_fail)


def test_reports_name_the_base_of_every_row(two: list[str]) -> None:
    result = on_each_base(two, measure)
    short = [Path(name).name for name in two]
    assert len(set(short)) == 2
    rows = list(csv.DictReader(io.StringIO(RENDERERS[".csv"](result))))
    assert [row["model"] for row in rows] == [two[0]] * 2 + [two[1]] * 2
    assert {row["model"] for row in csv.DictReader(io.StringIO(render_answers_csv(result)))} == set(two)
    lines = RENDERERS[".md"](result).splitlines()
    assert lines[0].startswith("| strategy | model | recall |")
    assert [line.split(" | ")[1].replace("\\", "") for line in lines[2:6]] == [short[0]] * 2 + [short[1]] * 2
    page = read(RENDERERS[".html"](result))
    assert page.one("h1").text == "2 strategies on each of 2 base models on 1 document"
    body = page.one("table", kind="results").one("tbody")
    assert [row.all("td")[0].text for row in body.all("tr")] == [short[0]] * 2 + [short[1]] * 2
    assert {f"in_context on {name}" for name in short} <= {e.text for e in page.all("span", kind="name")}
