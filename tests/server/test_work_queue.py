"""Requests that wait, clients that leave, and a server that stops: a real server on real sockets, the model held up."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from torch import Tensor

from continual_learning.app.learner import Learner
from continual_learning.model.base_model import BaseModel
from continual_learning.model.logits_processors import Step
from continual_learning.server import create_app

LONG = 120
"""Tokens of a long answer; the tiny model's window is 256."""


class HeldUp:
    """A model that writes a token only as often as it is let, and counts them."""

    def __init__(self) -> None:
        self.tokens = 0
        self._let = threading.Semaphore(0)

    def __call__(self, step: Step) -> Tensor:
        self.tokens += 1
        self._let.acquire()
        return step.logits_BV

    def write(self, tokens: int) -> None:
        self._let.release(tokens)


@pytest.fixture
def model(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldUp]:
    monkeypatch.setattr(tiny_base, "stop_ids", frozenset())  # every answer is as long as it may be
    held = HeldUp()
    with tiny_base.steered(held):
        yield held
        held.write(100_000)  # nothing that a test left waits


class Served:
    """A server in this process."""

    def __init__(self, learner: Learner, max_waiting: int):
        self.app = create_app(learner, max_waiting=max_waiting)
        self._server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        until(lambda: self._server.started)
        self._port = self._server.servers[0].sockets[0].getsockname()[1]

    def send(self, path: str, body: Any = None) -> socket.socket:
        """Send a request."""
        client = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        data = b"" if body is None else json.dumps(body).encode()
        verb = "GET" if body is None else "POST"
        head = f"{verb} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return client

    def stop(self) -> None:
        """Stop the server, which must not take long."""
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()


def until(condition: Any) -> None:
    """Wait until ``condition()`` holds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def reply(client: socket.socket) -> tuple[int, str]:
    """Status and the whole text of a response."""
    with client:
        text = b""
        while part := client.recv(65536):
            text += part
    return int(text.split()[1]), text.decode()


def ask(**more: Any) -> dict[str, Any]:
    return {"question": "What do they eat?", "max_new_tokens": LONG, **more}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "work", "messages": [{"role": "user", "content": "What?"}], "max_tokens": LONG, **more}


@pytest.fixture
def learner(tiny_base: BaseModel, tmp_path: Path) -> Learner:
    return Learner.open(tiny_base, "in_context", "work", home=tmp_path)


@pytest.fixture
def served(learner: Learner, model: HeldUp) -> Iterator[Served]:
    one = Served(learner, max_waiting=41)
    yield one
    one.app.state.work.close()
    model.write(100_000)
    one.stop()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("path", "body"), [("/ask", ask), ("/v1/chat/completions", chat)])
def test_a_client_who_leaves_stops_the_model(served: Served, model: HeldUp, path: str, body: Any, stream: bool) -> None:
    client = served.send(path, body(stream=stream))
    model.write(12)
    until(lambda: model.tokens == 13)
    if stream:
        assert client.recv(65536)
    client.close()
    written = served.send("/ask", ask(max_new_tokens=1))
    until(lambda: any(job.control._reason for job in served.app.state.work._jobs))  # the server has heard of it
    model.write(4)
    status, text = reply(written)  # a token for what was stopped, one for this
    assert (status, "answers" in text) == (200, True)
    assert served.app.state.work.idle_within(10)
    assert model.tokens <= 13 + 2


def test_waiting_requests_are_bounded_and_silence_nothing(served: Served, model: HeldUp) -> None:
    clients = [served.send("/ask", ask(max_new_tokens=1)) for _ in range(45)]
    started = time.monotonic()
    status, text = reply(served.send("/health"))
    assert (status, '"ok"' in text) == (200, True) and time.monotonic() - started < 5
    assert reply(served.send("/documents"))[0] == 200
    until(lambda: len(served.app.state.work._jobs) == 42)
    model.write(100)
    replies = [reply(client) for client in clients]
    refused = [text for status, text in replies if status == 503]
    assert sorted({status for status, _ in replies}) == [200, 503]
    assert len(refused) == 3  # one is worked on, 41 wait
    assert all("retry-after: 1\r\n" in text.lower() and "--max-waiting" in text for text in refused)


def test_a_client_who_leaves_the_queue_gives_up_its_place(learner: Learner, model: HeldUp) -> None:
    served = Served(learner, max_waiting=1)
    try:
        first = served.send("/ask", ask(max_new_tokens=1))
        until(lambda: model.tokens == 1)
        waiting = served.send("/ask", ask(max_new_tokens=1))
        until(lambda: len(served.app.state.work._jobs) == 2)
        assert reply(served.send("/ask", ask()))[0] == 503
        waiting.close()
        until(lambda: len(served.app.state.work._jobs) == 1)
        second = served.send("/ask", ask(max_new_tokens=1))
        until(lambda: len(served.app.state.work._jobs) == 2)
        model.write(2)
        assert [reply(first)[0], reply(second)[0]] == [200, 200]
        assert model.tokens == 2
    finally:
        served.stop()


def test_learning_goes_on_when_its_client_leaves(
    served: Served, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, learn = threading.Event(), threading.Event(), learner.strategy.learn

    def slow(*given: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return learn(*given)

    monkeypatch.setattr(learner.strategy, "learn", slow)
    client = served.send("/learn", {"text": "Comb jellies eat plankton."})
    assert begun.wait(30)
    client.close()
    until(lambda: all(job.outcome.done() for job in served.app.state.work._jobs))  # nobody waits for it
    go_on.set()
    assert served.app.state.work.idle_within(10)
    assert len(learner.documents) == 1


def test_a_server_that_stops_ends_every_answer(learner: Learner, model: HeldUp) -> None:
    served = Served(learner, max_waiting=5)
    streamed = served.send("/v1/chat/completions", chat(stream=True))
    model.write(5)
    until(lambda: model.tokens == 6)
    waiting = served.send("/ask", ask())
    until(lambda: len(served.app.state.work._jobs) == 2)
    served.app.state.work.close()  # as Ctrl-C does; the model is in the middle of a token
    served.stop()
    assert "the server is stopping" in reply(streamed)[1]
    status, text = reply(waiting)
    assert status == 503 and "the server is stopping" in text
    model.write(1)
    assert served.app.state.work.idle_within(10)
    assert model.tokens == 6
