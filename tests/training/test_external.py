"""Study material that other models wrote: read from a file, asked of a server, and what of it is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from continual_learning.errors import InputError, LearningError
from continual_learning.training.external import (
    parse_questions,
    parse_statements,
    study_from_file,
    study_from_model,
)

PASSAGE = "The mermaid (syrenka) is the symbol of Warsaw. Its oldest seal is from the year 1390."
QA = (
    "What is the symbol of Warsaw?\nAnswer 1: The mermaid.\n\n**Question 2:** How old is the seal?\n\nAnswer 2:  From "
    "the year 1390.\nQuestion 3: Who is mayor?\nAnswer 3: Otto Brand of Kiel."
)


def test_pairs_are_read_and_checked_against_the_passage() -> None:
    assert parse_questions(QA, PASSAGE) == [
        ("What is the symbol of Warsaw?", "The mermaid."),
        ("How old is the seal?", "From the year 1390."),
    ]


def test_statements_lose_their_marks_and_headings() -> None:
    items = "1. **The mermaid:** It is the symbol of Warsaw.\n- Seals are old things.\nShort."
    text = f"Certainly! Here are implications:\n\n{items}"
    assert parse_statements(text) == ["The mermaid: It is the symbol of Warsaw.", "Seals are old things."]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_a_file_gives_what_it_says_about_the_passage(tmp_path: Path) -> None:
    path = write(
        tmp_path / "material.jsonl",
        {"context": "Another passage altogether.", "qa": "Question: Symbol of Warsaw?\nAnswer: The mermaid."},
        {
            "context": PASSAGE.replace(" Its", "\nIts"),
            "questions": [{"question": "Never read?", "answer": "mermaid"}],
            "qa_7b": [QA, QA],
            "rewrites_7b": ["Warsaw has a mermaid as its symbol."],
            "implications_large_model": ["1. The seal of 1390 is old."],
        },
    )
    found = study_from_file(path, PASSAGE)
    assert [q for q, _ in found.questions] == ["What is the symbol of Warsaw?", "How old is the seal?"]
    assert found.statements == ("Warsaw has a mermaid as its symbol.", "The seal of 1390 is old.")
    assert study_from_file(path, "Nobody wrote about this.").questions == ()


@pytest.mark.parametrize(
    ("row", "said"),
    [({"qa": "x"}, "field 'context' is None"), ({"context": PASSAGE, "qa": [1]}, "field 'qa' is .*list of them")],
)
def test_a_file_that_cannot_be_used_is_refused(row: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"line 1: {said}"):
        study_from_file(write(tmp_path / "bad.jsonl", row), PASSAGE)


class _Server(BaseHTTPRequestHandler):
    """A model that speaks OpenAI's chat completions."""

    asked: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({**body, "path": self.path, "key": self.headers.get("Authorization")})
        text = QA if "questions" in body["messages"][0]["content"] else "Warsaw has a mermaid as its symbol."
        known = body["model"] == "large"
        answer = {"choices": [{"message": {"content": text}}]} if known else {"error": "no such model"}
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer if body["model"] != "strange" else []).encode())

    def log_message(self, *_: Any) -> None:
        """Nothing on standard error."""


@pytest.fixture
def server() -> Iterator[str]:
    _Server.asked.clear()
    http = HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/v1"
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_model_is_asked_for_three_kinds(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k-1")
    found = study_from_model("large", f"{server}/", PASSAGE, "Warsaw")
    assert len(found.questions) == 2 and found.statements == ("Warsaw has a mermaid as its symbol.",)
    assert [a["path"] for a in _Server.asked] == ["/v1/chat/completions"] * 3
    assert all(PASSAGE in a["messages"][0]["content"] and a["key"] == "Bearer k-1" for a in _Server.asked)


def test_a_model_that_does_not_answer_is_an_error(server: str) -> None:
    with pytest.raises(LearningError, match=r"'small' at .* answered 404 .*no such model"):
        study_from_model("small", server, PASSAGE, "")
    with pytest.raises(LearningError, match=r"cannot be reached .*study_model_url"):
        study_from_model("large", "http://127.0.0.1:9/v1", PASSAGE, "")
