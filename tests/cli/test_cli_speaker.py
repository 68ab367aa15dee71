"""`--speaker`: another model words the answers of `ask`, `chat` and `serve`."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chat_servers import Script, ollama_server, openai_server
from fastapi.testclient import TestClient

from continual_learning.app.learner import Learner
from continual_learning.app.speaking import Speaker
from continual_learning.chat_models import servers
from continual_learning.cli import doctor
from continual_learning.model.base_model import BaseModel
from continual_learning.server import create_app

SAID = "This is document one, so it is said, and more is to come."
MODEL = "small:3b"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """An Ollama server where one is looked for by default, in this test."""
    made = Script(reply=lambda body: SAID, models=(MODEL,))
    monkeypatch.setattr(servers, "FIRST_PAUSE", 0.01)
    with ollama_server(made) as url:
        monkeypatch.setenv("OLLAMA_HOST", url.removeprefix("http://"))
        yield made


@pytest.fixture
def spoken(work: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`work`, whose memory ``quoted`` has words to show: those of ``quote``."""
    Path("one.txt").write_text("This is document one, about jellies.")
    assert work("learn", "one.txt", "--memory", "quoted", "--strategy", "quote").code == 0
    return work


def test_ask_and_chat(spoken: Any, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    question = "What is document one about, jellies?"
    asked = spoken("ask", question, "--memory", "quoted", "--speaker", f"ollama:{MODEL}", "--json")
    [answer] = asked.json["answers"]
    assert (answer["text"], answer["speaker"], answer["origin"]) == (SAID, MODEL, "memory")
    assert answer["sources"][0]["text"] in script.requests[0]["messages"][-1]["content"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{question}\nWhy?\n"))
    talked = spoken("chat", "--memory", "quoted", "--speaker", f"ollama:{MODEL}")
    assert talked.out == f"{SAID}\n{SAID}\n"
    assert [m["content"] for m in script.requests[-1]["messages"][:2]] == [question, SAID]
    plain = spoken("ask", question, "--memory", "quoted", "--json").json["answers"][0]
    assert (plain["speaker"], plain["sources"]) == (None, answer["sources"])


def test_a_speaker_in_the_settings(spoken: Any, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(**settings: Any) -> Any:
        Path("continual-learning.yaml").write_text(yaml.safe_dump({"speaker": settings}))
        return spoken("ask", "What is document one about, jellies?", "--memory", "quoted")

    assert ask(model=f"ollama:{MODEL}", num_ctx=2048).out == f"{SAID}\n"
    assert script.requests[0]["options"]["num_ctx"] == 2048
    nowhere = ask(model=f"ollama:{MODEL}", host="http://127.0.0.1:9").err
    assert "http://127.0.0.1:9: cannot be reached; run `ollama serve`" in nowhere
    script.faults = ["slow"] * 3
    assert "no answer within 0.1 s; raise speaker.timeout" in ask(model=f"ollama:{MODEL}", timeout=0.1).err
    other = Script(reply=lambda body: SAID, models=(MODEL,))
    with openai_server(other) as url:
        monkeypatch.setenv("MY_KEY", "sk-mine")
        assert ask(model=f"openai:{url}#{MODEL}", api_key_variable="MY_KEY").out == f"{SAID}\n"
    assert other.headers[0]["authorization"] == "Bearer sk-mine"
    [check] = doctor._run(doctor._speaker)
    assert (check.name, check.status) == ("speaker", "fail") and "cannot be reached" in check.detail
    Path("a.txt").write_text("Learning needs no speaker.")
    assert spoken("learn", "a.txt", "--memory", "quoted").code == 0


@pytest.mark.parametrize(
    ("speaker", "code", "words"),
    [
        ("qwen", 2, "speaker 'qwen'; expected ollama:NAME, openai:URL#NAME or llamacpp:FILE.gguf"),
        ("openai:http://localhost", 2, "expected openai:URL#NAME"),
        ("llamacpp:absent.gguf", 2, "absent.gguf: no such file"),
        ("ollama:absent", 1, "run `ollama pull absent`"),
        ("openai:http://127.0.0.1:9/v1#a", 1, "http://127.0.0.1:9/v1 cannot be reached"),
    ],
)
def test_bad_input_is_one_line(work: Any, script: Script, speaker: str, code: int, words: str) -> None:
    result = work("ask", "Who?", "--memory", "work", "--speaker", speaker)
    assert (result.code, result.out) == (code, "") and words in result.err
    assert result.err.count("\n") == 1


def test_the_server_speaks(tiny_base: BaseModel, script: Script, tmp_path: Path) -> None:
    learner = Learner.open(tiny_base, "quote", "work", home=tmp_path, speaker=Speaker.open(f"ollama:{MODEL}"))
    learner.learn("Comb jellies eat plankton.", title="Sea")
    with TestClient(create_app(learner)) as client:
        question = "What do comb jellies eat?"
        [answer] = client.post("/ask", json={"question": question}).json()["answers"]
        assert (answer["text"], answer["origin"], answer["speaker"]) == (SAID, "memory", MODEL)
        streamed = client.post("/ask", json={"question": question, "stream": True}).text
        assert streamed.count('data: {"token"') > 1
        body = {"model": "work", "messages": [{"role": "user", "content": question}], "stop": ["one"]}
        said = client.post("/v1/chat/completions", json=body).json()["choices"][0]
        assert said["message"]["content"] == "This is document "
        assert client.get("/info").json()["speaker"] == MODEL
        script.faults = ["refuse"]
        refused = client.post("/ask", json={"question": question})
        assert refused.status_code == 502 and "refuses" in refused.json()["error"]["message"]
