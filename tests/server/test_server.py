"""The HTTP server, in this process, on the tiny model."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
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
from continual_learning.types import Answer

TEXT = "Comb jellies eat plankton."


@pytest.fixture
def learner(tiny_base: BaseModel, tmp_path: Path) -> Learner:
    return Learner.open(tiny_base, "in_context", "work", home=tmp_path)


@pytest.fixture
def client(learner: Learner) -> Iterator[TestClient]:
    with TestClient(create_app(learner), raise_server_exceptions=False) as client:
        yield client


def refused(response: Any, status: int, *words: str) -> Any:
    """An error is one JSON object with one line in it, in OpenAI's shape for OpenAI's paths. Returns the object."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    if response.request.url.path.startswith("/v1/"):
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    else:
        assert error["code"] == status
    assert "\n" not in error["message"]
    assert all(word in error["message"] for word in words), error
    return error


def post(client: TestClient, path: str, body: Any) -> Any:
    """Post JSON as other clients write it, with half of a surrogate pair where there is one: httpx would refuse it."""
    return client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})


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
    assert asked[0]["sources"][0]["title"] == "Jellies" and asked[0]["sources"][0]["text"] == TEXT
    assert asked[0]["origin"] == "memory" and 0 < asked[0]["confidence"] <= 1 and asked[0]["alternatives"] == []
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
        ("/ask", {"question": "What \ud83e?"}, 422, ["question", "unicode"]),
        ("/learn", {"text": "a\0b"}, 400, ["NUL"]),
        ("/learn", {"text": TEXT, "title": "a\ud83eb"}, 400, ["title", "surrogate", "position 1"]),
        ("/learn", {"title": "no text"}, 422, ["text"]),
        ("/learn", {"text": TEXT, "qa": [{"question": "q"}]}, 422, ["qa.0.answer"]),
        ("/feedback", {"answer_id": "none", "reward": 1}, 404, ["none"]),
        ("/feedback", {"answer_id": "none"}, 400, ["reward"]),
        ("/feedback", {"answer_id": "none", "reward": 7}, 422, ["reward"]),
        ("/nowhere", {}, 404, ["/nowhere"]),
    ],
)
def test_bad_requests(client: TestClient, path: str, body: dict[str, Any], status: int, words: list[str]) -> None:
    refused(post(client, path, body), status, *words)


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


def test_the_page_of_docs_needs_no_other_server(client: TestClient) -> None:
    page = client.get("/docs").text
    needed = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert needed and "//" not in "".join(needed)
    assert all(client.get(address).status_code == 200 for address in [*needed, "/openapi.json"])


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
    body = client.post("/v1/chat/completions", json=completion()).json()
    whole, ours = body["choices"][0], body["continual_learning"]
    assert set(ours) == {"origin", "confidence", "alternatives", "sources"} and ours["origin"] == "model"
    *chunks, done = events(client.post("/v1/chat/completions", json=completion(stream=True)))
    assert [chunk.get("continual_learning") for chunk in chunks] == [None] * (len(chunks) - 1) + [ours]
    assert done == "[DONE]" and len({c["id"] for c in chunks}) == 1
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert deltas[0]["role"] == "assistant"
    assert "".join(d.get("content", "") for d in deltas) == whole["message"]["content"]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * (len(chunks) - 1) + [whole["finish_reason"]]


def test_a_model_is_found_by_its_name(client: TestClient) -> None:
    assert client.get("/v1/models/work").json() == client.get("/v1/models").json()["data"][0]
    error = refused(client.get("/v1/models/Qwen/Qwen2.5"), 404, "Qwen/Qwen2.5", "work")
    assert (error["param"], error["code"]) == ("model", "model_not_found")


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_answer_before_itself(client: TestClient, learner: Learner, stream: bool) -> None:
    whole = learner.chat(20).say("What do they eat?").text
    stop = whole[len(whole) // 2 :][:3]
    wanted = whole[: whole.index(stop)]
    response = client.post(
        "/v1/chat/completions", json=completion(stop=["never there", "", stop], stream=stream, max_tokens=20)
    )
    if not stream:
        choice = response.json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (wanted, "stop")
        return
    chunks = [chunk["choices"][0] for chunk in events(response)[:-1]]
    assert "".join(c["delta"].get("content", "") for c in chunks) == wanted
    assert chunks[-1]["finish_reason"] == "stop"


def test_a_stream_tells_its_usage_when_asked(client: TestClient) -> None:
    whole = client.post("/v1/chat/completions", json=completion()).json()["usage"]
    asked = completion(stream=True, stream_options={"include_usage": True})
    *chunks, last, _ = events(client.post("/v1/chat/completions", json=asked))
    assert (last["choices"], last["usage"]) == ([], whole)
    assert all(chunk["usage"] is None for chunk in chunks)


def test_turns_of_tools_are_part_of_the_conversation(client: TestClient, learner: Learner) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "Is it warm?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
    ]
    chat = learner.chat(5)
    told = [turns[0], {"role": "assistant", "content": "weather({})\nweather returned: sunny"}]
    for more, question in (([], "Is it warm?"), ([{"role": "user", "content": "And now?"}], "And now?")):
        chat.history = list(told)
        body = client.post("/v1/chat/completions", json=completion(messages=[*turns, *more])).json()
        assert body["choices"][0]["message"]["content"] == chat.say(question).text


def test_fields_that_are_null_or_larger_than_the_window_are_taken(client: TestClient, learner: Learner) -> None:
    nothing = dict.fromkeys(("n", "stop", "stream", "stream_options", "tools", "max_tokens", "logprobs"))
    usual = client.post("/v1/chat/completions", json=completion(**nothing)).json()["choices"][0]
    limit = learner.base.window // 2
    assert usual["message"]["content"] == learner.chat(limit).say("What do they eat?").text
    large = client.post("/v1/chat/completions", json=completion(max_tokens=1_000_000)).json()["choices"][0]
    assert large == usual


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"model": "gpt"}, 404, ["gpt", "work"]),
        ({"messages": []}, 400, ["messages"]),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, ["assistant"]),
        ({"messages": [{"role": "user", "content": " "}]}, 400, ["empty"]),
        ({"messages": [{"role": "user", "content": " "}], "stream": True}, 400, ["empty"]),
        ({"max_tokens": 0}, 400, ["max_tokens"]),
        ({"n": 2}, 400, ["n: 2 answers", "greedy"]),
        ({"tools": [{"type": "function"}]}, 400, ["tools", "tool_choice"]),
        ({"response_format": {"type": "json_object"}}, 400, ["response_format", "json_object"]),
        ({"logprobs": True}, 400, ["logprobs"]),
        ({"stream_options": {"include_usage": True}}, 400, ["stream_options"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            ["messages.0.content", "image_url"],
        ),
        ({"messages": [{"role": "user", "content": "\ud83e"}]}, 400, ["messages.0.content", "surrogate"]),
        ({"messages": [{"role": "user", "content": None}]}, 400, ["empty"]),
        ({"messages": [{"role": "tool", "content": "sunny"}]}, 400, ["user"]),
    ],
)
def test_bad_completions(client: TestClient, change: dict[str, Any], status: int, words: list[str]) -> None:
    error = refused(post(client, "/v1/chat/completions", completion(**change)), status, *words)
    if words[0].startswith(error["param"] or "-"):
        assert error["param"] in change or error["param"] == words[0]
