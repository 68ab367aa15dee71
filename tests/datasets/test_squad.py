"""SQuAD from its files and from a stand-in for the hub's package."""

from __future__ import annotations

import json
import sys
from importlib.resources import as_file, files
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from continual_learning.datasets.base import Dataset, QADocument, load_dataset
from continual_learning.errors import InputError, MissingExtraError
from continual_learning.types import QuestionAnswer

TRAINED_ON = {
    *("Super Bowl 50", "Warsaw", "Normans", "Nikola Tesla", "Teacher", "Martin Luther", "Sky (United Kingdom)"),
    *("Victoria (Australia)", "Steam engine", "Oxygen", "Apollo program", "European Union law", "Fresno, California"),
    *("Packet switching", "Black Death", "Newcastle upon Tyne"),
}
"""Articles of the half that the reader and the hypernetwork were trained on, and that settings were tuned on."""

OFFICIAL = {
    "version": "v2.0",
    "data": [
        {
            "title": "Comb_jelly",
            "paragraphs": [
                {
                    "context": "Comb jellies eat plankton.",
                    "qas": [
                        {
                            "id": "1",
                            "question": " What do they eat?",
                            "answers": [
                                {"text": "plankton", "answer_start": 17},
                                {"text": "plankton", "answer_start": 17},
                                {"text": "eat plankton", "answer_start": 13},
                            ],
                            "is_impossible": False,
                        },
                        {"id": "2", "question": "Who?", "answers": [], "is_impossible": True},
                    ],
                },
                {"context": "They swim.", "qas": []},
            ],
        },
        {
            "title": "Otter",
            "paragraphs": [
                {"context": "Otters dig.", "qas": [{"question": "Who digs?", "answers": [{"text": "Otters"}]}]}
            ],
        },
    ],
}
ROWS = [
    {
        "title": "Comb_jelly",
        "context": "Comb jellies eat plankton.",
        "questions": [{"question": "What do they eat?", "answer": ["plankton", "eat plankton", "plankton"]}],
    },
    {"title": "Comb jelly", "context": "They swim.", "questions": []},
    {"title": "Otter", "context": "Otters dig.", "questions": [{"question": "Who digs?", "answer": "Otters"}]},
]


def content(dataset: Dataset) -> list[tuple[str, str, tuple[QuestionAnswer, ...], str]]:
    return [(d.document.title, d.document.text, d.questions, d.article) for d in dataset.documents]


EXPECTED = [
    (
        "Comb jelly",
        "Comb jellies eat plankton.",
        (QuestionAnswer("What do they eat?", ("plankton", "eat plankton")),),
        "Comb jelly",
    ),
    ("Comb jelly", "They swim.", (), "Comb jelly"),
    ("Otter", "Otters dig.", (QuestionAnswer("Who digs?", ("Otters",)),), "Otter"),
]


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return path


def lines(rows: list[Any]) -> str:
    return "\n\n".join(json.dumps(row) for row in rows) + "\n"


def test_official_json_and_json_lines_hold_the_same(tmp_path: Path) -> None:
    official = load_dataset(write(tmp_path / "dev-v2.0.json", json.dumps(OFFICIAL, indent=2)))
    listed = load_dataset(write(tmp_path / "open.jsonl", "\ufeff" + lines(ROWS)))
    assert content(official) == content(listed) == EXPECTED
    assert official.sha256() == listed.sha256()
    assert (official.name, official.source, official.split) == ("dev-v2.0", "dev-v2.0.json", "all")
    assert official.notes == ("unanswerable questions left out: 1",)
    assert listed.notes == ()
    assert official.documents[1].document.source == "dev-v2.0.json:data[0].paragraphs[1]"
    assert listed.documents[1].document.source == "open.jsonl:3"


def test_json_lines_may_have_answers_and_questions_without_any(tmp_path: Path) -> None:
    asked = [
        {"question": "What do they eat?", "answers": ["plankton", "eat plankton"], "kind": "action/explicit"},
        {"question": "Who eats them?", "answers": [], "answerable": False},
    ]
    dataset = load_dataset(write(tmp_path / "open.jsonl", lines([{**ROWS[0], "questions": asked}, *ROWS[1:]])))
    assert content(dataset) == EXPECTED
    assert dataset.notes == ("unanswerable questions left out: 1",)


def test_layouts_are_told_apart_by_content(tmp_path: Path) -> None:
    one_line = load_dataset(write(tmp_path / "a.jsonl", OFFICIAL))
    one_row = load_dataset(write(tmp_path / "b.jsonl", ROWS[0]))
    assert content(one_line) == EXPECTED
    assert content(one_row) == EXPECTED[:1]


def test_a_passage_that_comes_twice_is_one_document(tmp_path: Path) -> None:
    again = {**ROWS[2], "questions": [{"question": "What do they do?", "answer": "dig"}]}
    dataset = load_dataset(write(tmp_path / "a.jsonl", lines([ROWS[2], again])))
    assert [[q.question for q in d.questions] for d in dataset.documents] == [["Who digs?", "What do they do?"]]


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The official data with one value replaced, or left out where ``value`` is `...`."""
    whole: Any = json.loads(json.dumps(OFFICIAL))
    place = whole
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return whole


QAS = ("data", 0, "paragraphs", 0, "qas")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("a.json", changed(("data",), 3), ["'data'", "3", "a list"]),
        ("a.json", changed(("data", 1), "x"), ["data[1]", "'x'", "an object"]),
        ("a.json", changed(("data", 1, "title"), ...), ["data[1]", "'title'", "missing"]),
        ("a.json", changed(("data", 1, "paragraphs"), {}), ["data[1]", "'paragraphs'", "{}"]),
        ("a.json", changed(("data", 0, "paragraphs", 1, "context"), None), ["data[0].paragraphs[1]", "'context'"]),
        ("a.json", changed(("data", 0, "paragraphs", 1, "context"), " "), ["data[0].paragraphs[1]", "'context'"]),
        ("a.json", changed((*QAS, 0, "question"), ...), ["data[0].paragraphs[0].qas[0]", "'question'", "missing"]),
        ("a.json", changed((*QAS, 0, "answers"), []), ["qas[0]", "'answers'", "is_impossible"]),
        ("a.json", changed((*QAS, 0, "answers", 1, "text"), 7), ["qas[0].answers[1]", "'text'", "7"]),
        ("a.json", changed((*QAS, 0, "answers", 1), "plankton"), ["qas[0].answers[1]", "'plankton'"]),
        ("a.json", "{", ["not SQuAD's JSON", "line 1", '"paragraphs"']),
        ("a.json", [1], ["not SQuAD's JSON", '"paragraphs"']),
        ("a.jsonl", "3", ["line 1", "object"]),
        ("a.jsonl", lines(ROWS) + "{", ["line 6", "not JSON"]),
        ("a.jsonl", lines([ROWS[0], {**ROWS[1], "context": 4}]), ["line 3", "'context'", "4"]),
        ("a.jsonl", lines([{**ROWS[1], "title": 4}]), ["line 1", "'title'", "4"]),
        ("a.jsonl", lines([{"context": "x"}]), ["line 1", "'questions'", "missing"]),
        ("a.jsonl", lines([{**ROWS[1], "questions": [{"question": "a"}]}]), ["line 1", "questions[0]", "'answer'"]),
        ("a.jsonl", lines([ROWS[1]]), ["no question"]),
        ("a.txt", "x", ["'.txt'", ".jsonl"]),
    ],
)
def test_errors_name_the_place_and_the_field(tmp_path: Path, name: str, value: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset(write(tmp_path / name, value))
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in [name, *words]), message


def test_a_name_that_is_neither_file_nor_on_the_hub() -> None:
    with pytest.raises(InputError, match=r"nowhere: no such file.*squad, squad_v2"):
        load_dataset("nowhere")


def stub(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]] | Exception) -> list[tuple[str, str]]:
    """A package `datasets` that gives these rows, or fails so. Returns what it was asked for."""
    asked = []

    def load(repository: str, split: str) -> list[dict[str, Any]]:
        asked.append((repository, split))
        if isinstance(rows, Exception):
            raise rows
        return rows

    module = ModuleType("datasets")
    module.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def hub_row(title: str, context: str, question: str, *golds: str) -> dict[str, Any]:
    answers = {"text": list(golds), "answer_start": [0] * len(golds)}
    return {"id": "x", "title": title, "context": context, "question": question, "answers": answers}


def test_hub_rows_become_the_same_documents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = stub(
        monkeypatch,
        [
            hub_row("Comb_jelly", "Comb jellies eat plankton.", " What do they eat?", "plankton", "eat plankton"),
            hub_row("Otter", "Otters dig.", "Who digs?", "Otters", "Otters"),
            hub_row("Otter", "Otters dig.", "Why?"),
            hub_row("Comb_jelly", "Comb jellies eat plankton.", "Who eats?", "Comb jellies"),
        ],
    )
    monkeypatch.chdir(tmp_path)
    dataset = load_dataset("squad_v2", hub_split="train")
    assert asked == [("rajpurkar/squad_v2", "train")]
    assert (dataset.name, dataset.source) == ("squad_v2", "rajpurkar/squad_v2:train")
    assert content(dataset) == [
        (*EXPECTED[0][:2], (*EXPECTED[0][2], QuestionAnswer("Who eats?", ("Comb jellies",))), "Comb jelly"),
        EXPECTED[2],
    ]
    assert dataset.notes == ("unanswerable questions left out: 1",)


def test_a_file_goes_before_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = stub(monkeypatch, [])
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "squad", "x")
    with pytest.raises(InputError, match="suffix"):
        load_dataset("squad")
    assert asked == []


def test_without_the_hubs_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'continual-learning-slm\[hub\]'"):
        load_dataset("squad")


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, ConnectionError("Couldn't reach\nthe Hub"))
    with pytest.raises(InputError) as caught:
        load_dataset("squad")
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in ["rajpurkar/squad", "Couldn't reach the Hub", "local file"]), message


def test_hub_rows_of_another_kind_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, [hub_row("a", "b", "c?", "b"), {"title": "a", "context": "b", "question": "c?"}])
    with pytest.raises(InputError, match=r"row 2: field 'answers' is missing"):
        load_dataset("squad")


def test_documents_carry_no_needle_fields(tmp_path: Path) -> None:
    item: QADocument = load_dataset(write(tmp_path / "a.jsonl", ROWS[0])).documents[0]
    assert (item.tokens, item.depth) == (None, None)


def test_the_sample_that_ships_is_attributed_and_new_to_what_ships_with_it() -> None:
    sample = load_dataset("squad_sample")
    assert len(sample.documents) == 50 and len({d.article for d in sample.documents}) == 16
    assert not {d.article for d in sample.documents} & TRAINED_ON
    assert all(answer in d.document.text for d in sample.documents for q in d.questions for answer in q.answers)
    with as_file(files("continual_learning") / "data" / "squad_sample") as folder:
        assert (folder / "squad_sample.jsonl").stat().st_size <= 60_000
        notice = (folder / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    assert "creativecommons.org/licenses/by-sa/4.0" in notice
    assert all(d.article in notice for d in sample.documents)


def test_a_file_goes_before_the_sample_and_a_folder_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "squad_sample"
    folder.mkdir()
    assert len(load_dataset("squad_sample").documents) == 50
    folder.rmdir()
    folder.write_text(json.dumps({"title": "A", "context": "B c.", "questions": [{"question": "q", "answer": "B"}]}))
    with pytest.raises(InputError, match="squad_sample"):
        load_dataset("squad_sample")
