"""`ask` and `chat`."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from continual_learning.app.learner import Chat, Learner
from continual_learning.cli.ask import provenance
from continual_learning.types import Alternative, Answer, Source


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Answers that repeat the question, so that tests can tell them apart; the calls are kept."""
    calls: list[Any] = []

    def answer(question: str, limit: int, on_token: Any) -> Answer:
        calls.append((question, limit, on_token is not None))
        for word in ("re:", " ", question) if on_token else ():
            on_token(word)
        return Answer(
            question,
            f"re: {question}",
            (Source("doc-1", "One", 0.5, "re:"), Source("doc-2", "Two", 0.4)),
            2,
            0.1,
            ("cut",),
            "memory",
            0.714,
            (Alternative("no", 0.2), Alternative("yes", 0.05)),
        )

    def ask(
        self: Learner, question: Any, max_new_tokens: int = 64, on_token: Any = None, *, sentence: bool = False
    ) -> Any:
        if isinstance(question, str):
            return answer(question, max_new_tokens, on_token)
        return [answer(q, max_new_tokens, on_token) for q in question]

    def say(self: Chat, text: str, on_token: Any = None) -> Answer:
        if text == "stop":
            raise KeyboardInterrupt
        self.history.append({"role": "user", "content": text})
        return answer(f"{text} after {len(self.history) - 1}", self._max_new_tokens, on_token)

    monkeypatch.setattr(Learner, "ask", ask)
    monkeypatch.setattr(Chat, "say", say)
    return calls


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def feed(monkeypatch: pytest.MonkeyPatch, text: str, terminal: bool = False) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(text) if terminal else io.StringIO(text))


def test_one_question(work: Any, echo: list[Any]) -> None:
    result = work("ask", " Who? ", "--memory", "work")
    assert (result.code, result.out) == (0, "re: Who?\n")
    assert result.err == "from: One (memory, confidence 71%)\nnote: cut\n"
    assert echo == [("Who?", 64, False)]


def test_a_real_answer(work: Any) -> None:
    first = work("ask", "Who?", "--memory", "work", "--max-new-tokens", "3", "--json").json
    assert (first["memory"], first["strategy"]) == ("work", "in_context")
    [answer] = first["answers"]
    fields = "question text sources tokens seconds notes origin confidence alternatives speaker"
    assert set(answer) == set(fields.split())
    assert answer["tokens"] <= 3 and answer["origin"] == "memory" and 0 < answer["confidence"] <= 1
    source = answer["sources"][0]
    assert set(source) == {"document_id", "title", "score", "quote", "chunk", "text", "recited"} and source["text"]


def test_the_limit_comes_from_the_flag_or_the_settings(work: Any, echo: list[Any]) -> None:
    Path("continual-learning.yaml").write_text("max_new_tokens: 9\nmemory: work\n")
    work("ask", "a")
    work("ask", "b", "--max-new-tokens", "3")
    assert [limit for _, limit, _ in echo] == [9, 3]


def test_many_questions(work: Any, echo: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, "Who?\n\nWhere?\n")
    result = work("ask", "-", "--memory", "work")
    assert result.out == "Q: Who?\nA: re: Who?\n\nQ: Where?\nA: re: Where?\n\n"
    Path("q.jsonl").write_text('{"question": "Who?"}\n{"question": "When?", "answer": "now"}')
    found = work("ask", "--file", "q.jsonl", "--memory", "work", "--json").json
    assert [a["question"] for a in found["answers"]] == ["Who?", "When?"]


def test_streaming_on_a_terminal(work: Any, echo: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True)
    result = work("ask", "Who?", "--memory", "work")
    assert result.out == "re: Who?\n"
    assert echo == [("Who?", 64, True)]
    assert "from: One (memory, confidence 71%)" in result.err
    work("ask", "Who?", "--memory", "work", "--json")
    assert echo[1] == ("Who?", 64, False)


def test_candidates_are_listed_on_request(work: Any, echo: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert work("ask", "Who?", "--memory", "work", "--candidates", "1").out == "re: Who?\n   20%  no\n"
    assert work("ask", "Who?", "--memory", "work", "--candidates", "9").out == "re: Who?\n   20%  no\n    5%  yes\n"
    answers = work("ask", "Who?", "--memory", "work", "--json").json["answers"]
    assert answers[0]["alternatives"][0] == {"text": "no", "probability": 0.2}


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (Answer("q", "a"), "the model itself (model)"),
        (Answer("q", "a", confidence=0.338), "the model itself (model, confidence 34%)"),
        (Answer("q", "a", origin="memory"), "the memory (memory)"),
        (Answer("q", "a", (Source("d-1", "", 1.0),), origin="memory"), "d-1 (memory)"),
        (Answer("q", "a", (Source("d-1", "1", 1.0, "x"), Source("d-2", "2", 1.0)), origin="unknown"), "1 (unknown)"),
        (Answer("q", "a", tuple(Source(n, "", 1.0) for n in "abcde"), origin="memory"), "a, b, c, 2 more (memory)"),
    ],
)
def test_the_line_below_an_answer_says_where_it_is_from(answer: Answer, line: str) -> None:
    assert provenance(answer) == line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["QUESTION", "--file"]),
        (["q", "--memory", "work", "--candidates", "-1"], ["--candidates", "-1"]),
        (["q", "--file", "q.txt"], ["both"]),
        ([" "], ["empty"]),
        (["-"], ["standard input", "no question"]),
        (["--file", "absent.txt"], ["absent.txt"]),
        (["q", "--memory", "wrok"], ["'wrok'", "work", "learn"]),
        (["q", "--memory", "work", "--max-new-tokens", "99999"], ["99999"]),
        (["q", "--memory", "work", "--strategy", "frozen"], ["frozen", "in_context"]),
    ],
)
def test_bad_input(work: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]) -> None:
    feed(monkeypatch, "\n")
    result = work("ask", *arguments)
    assert (result.code, result.out) == (2, "")
    assert all(word in result.err for word in words), result.err


def test_an_empty_memory_says_that_the_base_answers(work: Any, echo: list[Any]) -> None:
    assert work("memory", "clear", "work").code == 0
    result = work("ask", "Who?", "--memory", "work")
    assert result.code == 0
    assert "'work' holds no document" in result.err


def test_another_model_is_an_error_that_names_both(work: Any, monkeypatch: pytest.MonkeyPatch, tiny: Any) -> None:
    import copy

    other = copy.copy(tiny)
    other.name, other.fingerprint = "other-model", "0" * 64
    monkeypatch.setattr("continual_learning.model.base_model.BaseModel.load", lambda *_: other)
    result = work("ask", "Who?", "--memory", "work", "--model", "other-model")
    assert result.code == 1
    assert "other-model" in result.err and tiny.name in result.err


def test_chat_with_piped_lines(work: Any, echo: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, "hello\n\nagain\n/clear\n/help\n/nope\nthird\n/quit\nnever\n")
    result = work("chat", "--memory", "work", "--max-new-tokens", "5")
    assert result.code == 0
    assert result.out == "re: hello after 0\nre: again after 1\nre: third after 0\n"
    assert all(word in result.err for word in ("cleared", "/quit", "no command '/nope'"))
    assert [limit for _, limit, _ in echo] == [5, 5, 5]


def test_chat_as_json(work: Any, echo: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, "hello\nagain")
    found = work("chat", "--memory", "work", "--json").json
    assert [t["text"] for t in found["turns"]] == ["re: hello after 0", "re: again after 1"]


def test_chat_interrupted_in_a_pipe(work: Any, echo: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, "hello\nstop\nagain\n")
    assert work("chat", "--memory", "work").code == 130


def test_chat_at_a_prompt_survives_an_interruption(work: Any, echo: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, "hello\nstop\nagain\n", terminal=True)
    result = work("chat", "--memory", "work")
    assert result.code == 0
    assert result.out == "re: hello after 0\nre: again after 1\n"
    assert "stopped" in result.err and "> " in result.err
