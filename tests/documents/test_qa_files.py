"""Files of questions."""

from __future__ import annotations

from pathlib import Path

import pytest

from continual_learning.documents.qa_files import load_qa, load_qa_rows, load_questions
from continual_learning.errors import InputError
from continual_learning.types import QuestionAnswer

EXPECTED = [QuestionAnswer("Who?", ("A cat",)), QuestionAnswer("Where, then?", ("here", "there"))]


def test_json_lines_json_and_csv_hold_the_same(tmp_path: Path) -> None:
    rows = ['{"question": "Who?", "answer": "A cat"}', '{"question": "Where, then?", "answer": ["here", "there"]}']
    lines, listed = tmp_path / "q.jsonl", tmp_path / "q.json"
    lines.write_text("\ufeff" + "\n\n".join(rows) + "\n", "utf-8")
    listed.write_text(f"[{','.join(rows)}]")
    assert load_qa(lines) == load_qa(listed) == EXPECTED
    assert load_questions(lines) == load_questions(listed) == ["Who?", "Where, then?"]
    table = tmp_path / "q.csv"
    table.write_bytes(b'answer,question,more\r\nA cat,Who?,1\r\nhere,"Where,\r\nthen?"\r\n')
    assert load_qa(table) == [QuestionAnswer("Who?", ("A cat",)), QuestionAnswer("Where,\r\nthen?", ("here",))]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.csv", "Question; ANSWER ;Answer\nWho, then?;Priya, the keeper;\nHow long?;1.50;3\n"),
        ("q.csv", "sep=;\nquestion;answer;answer\nWho, then?;Priya, the keeper;\nHow long?;1.50;3\n"),
        ("q.csv", "question\tanswer\tanswer\nWho, then?\tPriya, the keeper\nHow long?\t1.50\t3\n"),
        ("q.tsv", "question\tanswer\tanswer\nWho, then?\tPriya, the keeper\nHow long?\t1.50\t3\n"),
        (
            "q.json",
            '[{"Question": "Who, then?", "Answers": ["Priya, the keeper"]},'
            ' {"question": "How long?", "answer": [1.50, 3]}]',
        ),
        (
            "q.jsonl",
            '{"Question": "Who, then?", "Answer": "Priya, the keeper"}\n{"question": "How long?", "answer": [1.50, 3]}',
        ),
    ],
)
def test_headers_delimiters_and_numbers_as_people_write_them(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert load_qa(tmp_path / name) == [
        QuestionAnswer("Who, then?", ("Priya, the keeper",)),
        QuestionAnswer("How long?", ("1.50", "3")),
    ]


def test_a_file_that_excel_wrote_as_unicode_text(tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_bytes("question\tanswer\r\nWer?\tKäthe\r\n".encode("utf-16"))
    assert load_qa(tmp_path / "q.tsv") == [QuestionAnswer("Wer?", ("Käthe",))]
    (tmp_path / "cut.tsv").write_bytes((tmp_path / "q.tsv").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"cut.tsv: it is no whole UTF-16"):
        load_qa(tmp_path / "cut.tsv")


def test_questions_without_answers(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_bytes(b"Wer?\r\n\r\n  Wo? \n")
    (tmp_path / "q.jsonl").write_text('{"question": "Who?"}')
    assert load_questions(tmp_path / "q.txt") == ["Wer?", "Wo?"]
    assert load_questions(tmp_path / "q.jsonl") == ["Who?"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("q.jsonl", '{"question": "a", "answer": "b"}\n{"answer": "b"}', ["line 2", "'question'", "missing"]),
        ("q.jsonl", '{"question": "a"}', ["line 1", "'answer'", "missing"]),
        ("q.jsonl", '{"question": "a", "answer": []}', ["line 1", "'answer'", "empty list"]),
        ("q.jsonl", '{"question": "a", "answer": ["b", true]}', ["line 1", "'answer'", "True"]),
        ("q.jsonl", '{"question": " ", "answer": "b"}', ["line 1", "'question'"]),
        ("q.jsonl", r'{"question": "a", "answer": "b\ud83e"}', ["line 1", "'answer'", "surrogate"]),
        ("q.jsonl", "{", ["line 1", "not JSON"]),
        ("q.jsonl", "3", ["line 1", "object"]),
        ("q.jsonl", "", ["no question"]),
        ("q.json", '{"question": "a"}', ["a list"]),
        ("q.json", '[{"question": "a", "answer": "b"}, 4]', ["item 2", "4"]),
        ("q.json", "[", ["not JSON"]),
        ("q.json", f"[{'1' * 5000}]", ["not JSON"]),
        ("q.csv", "question,answer\na,b\nc\n", ["line 3", "'answer'"]),
        ("q.csv", "frage,antwort\na,b\n", ["line 2", "'question'", "frage"]),
        ("q.csv", 'question,answer\n"a,b', ["not CSV"]),
        ("q.yaml", "a", ["'.yaml'", ".jsonl"]),
        ("q.jsonl", b"\xff", ["not UTF-8", "byte 0"]),
        ("q.jsonl", None, ["No such file"]),
    ],
)
def test_errors_name_file_line_and_field(
    tmp_path: Path, name: str, content: str | bytes | None, words: list[str]
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as caught:
        load_qa(path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in [name, *words]), message


def test_several_answers_stand_in_several_columns_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("question,answer,answer,answer\nWho?,a cat,,the cat\n\nWhere?,here,here,\nWhen?,[now],,\n")
    assert load_qa(path) == [
        QuestionAnswer("Who?", ("a cat", "the cat")),
        QuestionAnswer("Where?", ("here",)),
        QuestionAnswer("When?", ("[now]",)),
    ]
    path.write_text("question,answer,answer\nWho?,, \n")
    with pytest.raises(InputError, match="line 2: field 'answer'"):
        load_qa(path)


def test_equal_answers_count_once(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "Who?", "answer": ["b", "a ", "b", "a", "B"]}')
    assert load_qa(tmp_path / "q.jsonl") == [QuestionAnswer("Who?", ("b", "a", "B"))]


def test_rows_say_their_document_and_where_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    rows = ['{"question": "a?", "answer": "b", "document": " notes.txt "}', '{"question": "a?", "answer": "b"}']
    path.write_text("\n".join(rows))
    assert [(row.document, row.at) for row in load_qa_rows(path)] == [
        ("notes.txt", f"{path}, line 1"),
        ("", f"{path}, line 2"),
    ]
    path.write_text('{"question": "a?", "answer": "b", "document": ["notes.txt"]}')
    with pytest.raises(InputError, match="line 1: field 'document'"):
        load_qa_rows(path)
    assert load_qa(path) == [QuestionAnswer("a?", ("b",))]
