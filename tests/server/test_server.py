"""The HTTP server, in this process, on the tiny model."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from continual_learning.app.learner import Learner
from continual_learning.errors import (
    ContinualLearningError,
    CorruptMemoryError,
    DivergedError,
    InputError,
    MissingExtraError,
    StorageError,
    UnknownNameError,
)
from continual_learning.model.base_model import BaseModel
from continual_learning.server import create_app
from continual_learning.server.problems import status_of
from continual_learning.server.streaming import begun, pieces
from continual_learning.types import Answer, TokenCallback

TEXT = "Comb jellies eat plankton."


@pytest.fixture
def learner(tiny_base: BaseModel, tmp_path: Path) -> Learner:
    return Learner.open(tiny_base, "in_context", "work", home=tmp_path)


@pytest.fixture
def client(learner: Learner) -> Iterator[TestClient]:
    with TestClient(create_app(learner), raise_server_exceptions=False) as client:
        yield client


def refused(response: Any, status: int, *words: str) -> None:
    """An error is one JSON object with one line in it."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == status and "\n" not in error["message"]
    assert all(word in error["message"] for word in words), error


def events(response: Any) -> list[Any]:
    """The server-sent events of a response; ``[DONE]`` stays text."""
    assert response.headers["content-type"].startswith("text/event-stream")
    found = [part.removeprefix("data: ") for part in response.text.split("\n\n") if part]
    return [part if part == "[DONE]" else json.loads(part) for part in found]


def test_learn_ask_and_forget(client: TestClient, learner: Learner) -> None:
    report = client.post("/learn", json={"text": TEXT, "title": "Jellies"}).json()
    assert report["accepted"] and report["tokens"] > 0
    [document] = client.get("/documents").json()["documents"]
    assert (document["id"], document["title"]) == (report["document_id"], "Jellies")
    asked = client.post("/ask", json={"question": "What do they eat?", "max_new_tokens": 4}).json()["answers"]
    assert [a["text"] for a in asked] == [learner.ask("What do they eat?", 4).text]
    assert asked[0]["sources"][0]["title"] == "Jellies"
    assert client.post("/forget", json={"document_id": document["id"]}).json() == {"documents": []}
    refused(client.post("/forget", json={"document_id": document["id"]}), 404, document["id"])


def test_several_questions_come_back_in_order(client: TestClient) -> None:
    asked = ["What do they eat?", "Who lives in the house?", "What do they eat?"]
    found = client.post("/ask", json={"question": asked, "max_new_tokens": 3}).json()["answers"]
    assert [a["question"] for a in found] == asked and len({a["id"] for a in found}) == 3


def test_an_answer_streams_in_the_pieces_it_is_made_of(client: TestClient) -> None:
    request = {"question": "What do they eat?", "max_new_tokens": 6}
    whole = client.post("/ask", json=request).json()["answers"][0]
    *tokens, last = events(client.post("/ask", json=request | {"stream": True}))
    assert len(tokens) > 1
    assert "".join(t["token"] for t in tokens) == whole["text"] == last["answer"]["text"]


def test_checkpoints_and_rollback(client: TestClient) -> None:
    client.post("/learn", json={"text": TEXT})
    assert client.post("/save", json={"name": "one"}).status_code == 200
    client.post("/learn", json={"text": "The cat lives in the house."})
    assert len(client.get("/documents").json()["documents"]) == 2
    assert [c["name"] for c in client.get("/checkpoints").json()["checkpoints"]] == ["one"]
    assert len(client.post("/load", json={"name": "one"}).json()["documents"]) == 1
    assert len(client.post("/rollback", json={}).json()["documents"]) == 2
    assert len(client.post("/rollback", json={"to": "one"}).json()["documents"]) == 1
    actions = [v["action"] for v in client.get("/history").json()["versions"]]
    assert actions.count("learn") == 2
    refused(client.post("/save", json={"name": "one"}), 400, "one")
    refused(client.post("/load", json={"name": "two"}), 404, "two")


def test_health_and_info(client: TestClient, learner: Learner) -> None:
    health = client.get("/health").json()
    assert (health["status"], health["strategy"], health["memory"], health["documents"]) == (
        "ok",
        "in_context",
        "work",
        0,
    )
    assert client.get("/info").json()["fingerprint"] == learner.base.fingerprint


def test_health_answers_while_the_memory_is_busy(client: TestClient, learner: Learner) -> None:
    taken, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with learner._current.lock:
            taken.set()
            let_go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(10)
    try:
        assert client.get("/health").json()["status"] == "ok"
    finally:
        let_go.set()
        thread.join()


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/ask", {"question": ""}, 422, ["question"]),
        ("/ask", {"question": "   "}, 400, ["empty"]),
        ("/ask", {"question": "  ", "stream": True}, 400, ["empty"]),
        ("/ask", {"question": ["a", "b"], "stream": True}, 400, ["2 questions"]),
        ("/ask", {"question": "q", "max_new_tokens": 0}, 422, ["max_new_tokens"]),
        ("/ask", {"question": "q", "max_tokens": 3}, 422, ["max_tokens"]),
        ("/ask", {"question": ["q"] * 257}, 422, ["question"]),
        ("/learn", {"text": "a\0b"}, 400, ["NUL"]),
        ("/learn", {"title": "no text"}, 422, ["text"]),
        ("/learn", {"text": TEXT, "qa": [{"question": "q"}]}, 422, ["qa.0.answer"]),
        ("/feedback", {"answer_id": "none", "reward": 1}, 404, ["none"]),
        ("/feedback", {"answer_id": "none"}, 400, ["reward"]),
        ("/feedback", {"answer_id": "none", "reward": 7}, 422, ["reward"]),
        ("/nowhere", {}, 404, ["/nowhere"]),
    ],
)
def test_bad_requests(client: TestClient, path: str, body: dict[str, Any], status: int, words: list[str]) -> None:
    refused(client.post(path, json=body), status, *words)


def test_what_is_no_json_and_the_wrong_method(client: TestClient) -> None:
    refused(client.post("/ask", content=b"{", headers={"content-type": "application/json"}), 422)
    refused(client.get("/ask"), 405)


def test_an_error_that_nobody_expected_is_json_without_its_secrets(
    client: TestClient, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(learner, "ask", broken)
    response = client.post("/ask", json={"question": "q"})
    refused(response, 500, "ZeroDivisionError")
    assert "secret" not in response.text


def test_requests_are_bounded_with_and_without_a_length(learner: Learner) -> None:
    with TestClient(create_app(learner, max_bytes=1000)) as client:
        refused(client.post("/learn", json={"text": "word " * 300}), 413)

        def parts() -> Iterator[bytes]:
            yield b'{"text": "'
            yield from (b"word " * 50 for _ in range(10))
            yield b'"}'

        refused(client.post("/learn", content=parts(), headers={"content-type": "application/json"}), 413)
        assert client.post("/learn", json={"text": TEXT}).status_code == 200
    assert len(learner.documents) == 1


def test_a_token_is_asked_for(learner: Learner) -> None:
    with TestClient(create_app(learner, token="s3cret")) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
            refused(client.get("/health", headers=headers), 401)
            refused(client.get("/v1/models", headers=headers), 401)
        assert client.get("/health", headers={"Authorization": "Bearer s3cret"}).status_code == 200


def test_a_page_that_calls_this_machine_by_another_name_is_refused(learner: Learner) -> None:
    app = create_app(learner, hosts=("localhost", "127.0.0.1"))
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:
        assert client.get("/health").status_code == 200
        assert client.get("/health", headers={"Host": "evil.example"}).status_code == 400


def test_feedback_reaches_the_learner(client: TestClient, learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def feedback(answer: Answer, reward: float | None, correction: str | None = None) -> None:
        given.append((answer.question, reward, correction))

    monkeypatch.setattr(type(learner), "feedback", lambda self, *a, **k: feedback(*a, **k), raising=False)
    [answer] = client.post("/ask", json={"question": "What?", "max_new_tokens": 2}).json()["answers"]
    assert client.post("/feedback", json={"answer_id": answer["id"], "reward": 0.5}).json()["taken"]
    client.post("/feedback", json={"answer_id": answer["id"], "correction": "plankton"})
    assert given == [("What?", 0.5, None), ("What?", None, "plankton")]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownNameError("x"), 404), (InputError("x"), 400), (DivergedError("x"), 422), (StorageError("x"), 503),
        (CorruptMemoryError("x"), 500), (MissingExtraError("x"), 501),
    ],
)  # fmt: skip
def test_status_of_errors(error: ContinualLearningError, status: int) -> None:
    assert status_of(error) == status


# -- OpenAI's clients ----------------------------------------------------------------------------------


def completion(**more: Any) -> dict[str, Any]:
    return {"model": "work", "messages": [{"role": "user", "content": "What do they eat?"}], "max_tokens": 5, **more}


def test_models(client: TestClient) -> None:
    assert [m["id"] for m in client.get("/v1/models").json()["data"]] == ["work"]


def test_chat_completion(client: TestClient, learner: Learner) -> None:
    body = client.post("/v1/chat/completions", json=completion(temperature=0.7)).json()
    choice = body["choices"][0]
    said = learner.chat(5).say("What do they eat?")
    assert (choice["message"], body["object"]) == ({"role": "assistant", "content": said.text}, "chat.completion")
    assert choice["finish_reason"] == ("length" if said.tokens == 5 else "stop")
    assert body["usage"]["completion_tokens"] == said.tokens
    assert body["usage"]["total_tokens"] == said.tokens + body["usage"]["prompt_tokens"]


def test_earlier_turns_count_and_content_may_come_in_parts(client: TestClient, learner: Learner) -> None:
    turns = [{"role": "user", "content": "Who lives in the house?"}, {"role": "assistant", "content": "The cat"}]
    last = {"role": "user", "content": [{"type": "text", "text": "With "}, {"type": "text", "text": "whom?"}]}
    body = client.post("/v1/chat/completions", json=completion(messages=[*turns, last])).json()
    chat = learner.chat(5)
    chat.history = list(turns)
    assert body["choices"][0]["message"]["content"] == chat.say("With whom?").text


def test_chat_completion_streams(client: TestClient) -> None:
    whole = client.post("/v1/chat/completions", json=completion()).json()["choices"][0]
    *chunks, done = events(client.post("/v1/chat/completions", json=completion(stream=True)))
    assert done == "[DONE]" and len({c["id"] for c in chunks}) == 1
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert deltas[0]["role"] == "assistant"
    assert "".join(d.get("content", "") for d in deltas) == whole["message"]["content"]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * (len(chunks) - 1) + [whole["finish_reason"]]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"model": "gpt"}, 404, ["gpt", "work"]),
        ({"messages": []}, 422, ["messages"]),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, ["assistant"]),
        ({"messages": [{"role": "user", "content": " "}]}, 400, ["empty"]),
        ({"messages": [{"role": "user", "content": " "}], "stream": True}, 400, ["empty"]),
        ({"max_tokens": 0}, 422, ["max_tokens"]),
    ],
)
def test_bad_completions(client: TestClient, change: dict[str, Any], status: int, words: list[str]) -> None:
    refused(client.post("/v1/chat/completions", json=completion(**change)), status, *words)


# -- streaming -----------------------------------------------------------------------------------------


def writer(stopped: threading.Event) -> Callable[[TokenCallback], Answer]:
    def write(on_token: TokenCallback) -> Answer:
        try:
            for number in range(100_000):
                on_token(str(number))
        finally:
            stopped.set()
        return Answer("q", "all of it")

    return write


def test_a_reader_who_leaves_stops_the_writing() -> None:
    stopped = threading.Event()
    stream = pieces(writer(stopped))
    assert [next(stream), next(stream)] == ["0", "1"]
    stream.close()  # type: ignore[attr-defined]
    assert stopped.wait(10)


def test_an_error_before_the_first_piece_is_raised_at_once() -> None:
    def write(_on_token: TokenCallback) -> Answer:
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        begun(pieces(write))
